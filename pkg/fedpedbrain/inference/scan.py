"""Prediction of one new scan: what a model finds, laid back into the scan's own geometry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from fedpedbrain.data.formats import read_scan
from fedpedbrain.data.formats.scan import Scan
from fedpedbrain.data.geometry import restore_region
from fedpedbrain.data.shards import preprocess_images
from fedpedbrain.data.training_intensities import read_intensities
from fedpedbrain.data.volumes import Volume, check_same_grid
from fedpedbrain.files import replacing, sha256_of_file, write_json
from fedpedbrain.inference.quality import (
    Check,
    check_clipped,
    check_empty,
    check_intensity,
    check_orientation,
    check_probability,
)
from fedpedbrain.inference.segmentation_object import write_segmentation_object
from fedpedbrain.inference.trained_model import check_channels, load_trained_model
from fedpedbrain.models.files import ModelFile, ModelSpec
from fedpedbrain.models.prediction import predict_cases

MASK, SEGMENTATION_OBJECT, RESULT = "mask.nii.gz", "segmentation.dcm", "prediction.json"


@dataclass(frozen=True)
class ScanPrediction:
    """What a model says of one scan.

    Attributes
    ----------
    image : the scan (its first channel), whose geometry all regions have
    regions : each region by its name, bool in the layout of the image's array; none for a model without a
        segmentation head
    probabilities : of every class by its name; none for a model without a classification head
    predicted_class : the most probable one, or None
    network_images : what the network saw, uint8 (C, D, H, W)
    network_regions : what it found there by name, bool (D, H, W)
    """

    image: sitk.Image
    regions: dict[str, np.ndarray]
    probabilities: dict[str, float]
    predicted_class: str | None
    network_images: np.ndarray
    network_regions: dict[str, np.ndarray]

    @property
    def volumes_ml(self) -> dict[str, float]:
        """Volume of every region in the scan's own voxels."""
        voxel_ml = float(np.prod(self.image.GetSpacing())) / 1000.0
        return {name: float(region.sum()) * voxel_ml for name, region in self.regions.items()}

    def to_mask(self) -> sitk.Image:
        """One uint8 image of all regions in the scan's size, spacing, origin and direction.

        0 is background and region number r is r + 1; a later region lies on top of an earlier one.
        """
        labels = np.zeros(self.image.GetSize()[::-1], dtype=np.uint8)
        for number, region in enumerate(self.regions.values(), start=1):
            labels[region] = number
        return self._laid_out(labels)

    def upright_regions(self) -> dict[str, np.ndarray]:
        """The regions as bool (D, H, W), D from feet to head, H from front to back, W from right to left."""
        return {
            name: sitk.GetArrayFromImage(sitk.DICOMOrient(self._laid_out(region.astype(np.uint8)), "LPS")).astype(bool)
            for name, region in self.regions.items()
        }

    def _laid_out(self, values: np.ndarray) -> sitk.Image:
        image = sitk.GetImageFromArray(values)
        image.CopyInformation(self.image)
        return image


def predict_volume(
    model_file: ModelFile, volume: Volume, decision: Mapping[str, Any], device: torch.device
) -> ScanPrediction:
    """Predict one scan in its own geometry.

    Parameters
    ----------
    volume : one image a channel of the model, in the model's channel order
    decision : arguments of ``decide_regions``
    """
    scan, names = volume.images[0], model_file.spec.regions
    images, frame = preprocess_images(volume, model_file.spec.preprocessing)
    voxel_ml = float(np.prod(frame.GetSpacing())) / 1000.0
    (prediction,) = predict_cases(model_file, [images], [voxel_ml], decision, device)
    found = {} if prediction.regions is None else dict(zip(names, prediction.regions, strict=True))
    restored = {
        name: sitk.GetArrayFromImage(restore_region(region, frame, scan)).astype(bool) for name, region in found.items()
    }
    return ScanPrediction(scan, restored, prediction.probabilities, prediction.predicted_class, images, found)


def check_prediction(
    prediction: ScanPrediction,
    scan: Scan,
    channels: Sequence[str],
    reference: Mapping[str, Any] | None,
    empty_class: str | None,
    least_probability: float,
    intensity_tolerance: float,
) -> list[Check]:
    """Every check that this kind of model allows.

    Parameters
    ----------
    scan : where the first channel comes from
    channels : the model's
    reference : what its training cases look like, see ``check_intensity``
    empty_class : see ``decide_regions``
    least_probability, intensity_tolerance : see the config
    """
    checks = [
        check_orientation(scan),
        check_intensity(prediction.network_images, channels, reference, intensity_tolerance),
    ]
    if prediction.regions:
        checks.append(check_empty(prediction.volumes_ml, prediction.predicted_class, empty_class))
        checks.append(check_clipped(prediction.upright_regions(), prediction.network_regions))
    if prediction.probabilities:
        checks.append(check_probability(prediction.probabilities, least_probability))
    return checks


def read_channels(paths: Sequence[str | Path], formats: Mapping[str, Any]) -> list[Scan]:
    """Read one image a channel; all must lie on one voxel grid."""
    scans = [read_scan(path, formats) for path in paths]
    for path, scan in zip(paths, scans, strict=True):
        check_same_grid(Path(path), scan.image, Path(paths[0]), scans[0].image)
    return scans


def predict_scan_files(
    scan_paths: Sequence[str | Path],
    model_path: str | Path,
    intensities_path: str | Path | None,
    folder: str | Path,
    model_name: str,
    decision: Mapping[str, Any],
    flags: Mapping[str, float],
    formats: Mapping[str, Any],
    device: torch.device,
) -> None:
    """Predict a scan with one model and write mask and result, and for a DICOM scan a segmentation object.

    Parameters
    ----------
    scan_paths : one file or folder a channel
    intensities_path : what the model's training cases look like, None where that is not at hand
    folder : gets ``mask.nii.gz``, ``prediction.json`` and, for a DICOM scan, ``segmentation.dcm``
    model_name : under which the results stand
    decision : that of the config at hand, which need not be the model's own study: the result says which it was
    flags : ``least_probability`` and ``intensity_tolerance``
    formats : the block of the config
    """
    model_file = load_trained_model(model_path)
    check_channels(model_path, model_file, scan_paths)
    scans = read_channels(scan_paths, formats)
    prediction = predict_volume(model_file, Volume(tuple(scan.image for scan in scans), None), decision, device)
    reference = None if intensities_path is None else read_intensities(intensities_path)
    channels = model_file.spec.channels
    checks = check_prediction(prediction, scans[0], channels, reference, decision.get("empty_class"), **flags)
    model = {
        "name": model_name,
        "path": str(model_path),
        "sha256": sha256_of_file(model_path),
        "lineage": model_file.lineage.to_dict(),
    }
    folder = Path(folder)
    with replacing(folder / MASK) as temporary:
        sitk.WriteImage(prediction.to_mask(), str(temporary), useCompression=True)
    if scans[0].form == "dicom" and prediction.regions:
        write_segmentation_object(folder / SEGMENTATION_OBJECT, scans[0], prediction.regions, model)
    write_json(
        folder / RESULT,
        describe_prediction(prediction, scan_paths, scans, model_file.spec, checks)
        | {
            "decision": dict(decision),
            "model": model,
        },
    )


def describe_prediction(
    prediction: ScanPrediction,
    scan_paths: Sequence[str | Path],
    scans: Sequence[Scan],
    spec: ModelSpec,
    checks: Sequence[Check],
) -> dict[str, Any]:
    """A prediction in plain values."""
    image = prediction.image
    return {
        "scan": {
            "paths": [str(path) for path in scan_paths],
            "channels": spec.channels,
            "form": scans[0].form,
            "size": image.GetSize(),
            "spacing_mm": image.GetSpacing(),
            "is_orientation_known": all(scan.is_orientation_known for scan in scans),
            "notes": list(dict.fromkeys(note for scan in scans for note in scan.notes)),
        },
        "labels": {name: number for number, name in enumerate(prediction.regions, start=1)},
        "volumes_ml": prediction.volumes_ml,
        "probabilities": prediction.probabilities,
        "predicted_class": prediction.predicted_class,
        "checks": [check.to_dict() for check in checks],
    }
