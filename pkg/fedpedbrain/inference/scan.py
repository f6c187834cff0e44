"""Prediction of one new scan: what a model finds, laid back into the scan's own geometry."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import replacing, sha256_of_file, write_json
from fedpedbrain.data.checks.training_intensities import read_intensities
from fedpedbrain.data.formats.reading import read_scan
from fedpedbrain.data.formats.scan import Scan
from fedpedbrain.data.formats.volumes import Volume, check_same_grid
from fedpedbrain.data.grid.dataset import middle_part
from fedpedbrain.data.grid.geometry import label_regions, restore_probabilities, to_lps
from fedpedbrain.data.shards import preprocess_images
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
from fedpedbrain.models.components import read_filters
from fedpedbrain.models.files import ModelFile
from fedpedbrain.models.prediction import (
    PredictionPlan,
    WindowedNetwork,
    decide_regions,
    most_probable_class,
    predict_probabilities,
)

MASK, SEGMENTATION_OBJECT, RESULT = "mask.nii.gz", "segmentation.dcm", "prediction.json"


@dataclass(frozen=True)
class ScanPlan:
    """How a scan is predicted: the config at hand decides, which need not be that of the model's own study.

    Attributes
    ----------
    decision : ``threshold``, ``smallest_region_ml`` and ``empty_class`` of ``decide_regions``
    network : arguments of ``PredictionPlan``
    is_whole : windows slide over all of the field of view where the model's grid is fixed, see ``preprocess_images``
    component_filter : of every region, where none was chosen for the model; arguments of ``ComponentFilter``
    flags : ``least_probability`` and ``intensity_tolerance``, from where on a prediction is flagged
    formats : what ``read_scan`` assumes
    anatomy : ``organ`` and ``extent_mm`` of ``check_orientation``
    """

    decision: dict[str, Any]
    network: dict[str, Any]
    is_whole: bool
    component_filter: dict[str, Any]
    flags: dict[str, float]
    formats: dict[str, Any]
    anatomy: dict[str, Any]


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
    grid_images : the images on the network's grid, uint8 (C, D, H, W)
    frame_regions : what was found by name, bool (D, H, W), on all that the network saw: its grid, or what its windows
        slid over
    """

    image: sitk.Image
    regions: dict[str, np.ndarray]
    probabilities: dict[str, float]
    predicted_class: str | None
    grid_images: np.ndarray
    frame_regions: dict[str, np.ndarray]

    @property
    def volumes_ml(self) -> dict[str, float]:
        """Volume of every region in the scan's own voxels."""
        return {name: float(region.sum()) * _voxel_ml(self.image) for name, region in self.regions.items()}

    def to_mask(self) -> sitk.Image:
        """One uint8 image of all regions in the scan's size, spacing, origin and direction; see ``label_regions``."""
        return self._laid_out(label_regions(self.regions.values(), self.image.GetSize()[::-1]))

    def region_masks(self) -> dict[str, sitk.Image]:
        """Every region by its name, whole: a uint8 image, 0 or 1, in the scan's size, spacing, origin and direction."""
        return {name: self._laid_out(region.astype(np.uint8)) for name, region in self.regions.items()}

    def upright_regions(self) -> dict[str, np.ndarray]:
        """The regions as bool (D, H, W), D from feet to head, H from front to back, W from right to left."""
        return {name: sitk.GetArrayFromImage(to_lps(mask)).astype(bool) for name, mask in self.region_masks().items()}

    def _laid_out(self, values: np.ndarray) -> sitk.Image:
        image = sitk.GetImageFromArray(values)
        image.CopyInformation(self.image)
        return image


def predict_volume(
    model_file: ModelFile,
    volume: Volume,
    decision: Mapping[str, Any],
    device: torch.device,
    plan: PredictionPlan,
    is_whole: bool = False,
) -> ScanPrediction:
    """Predict one scan in its own geometry.

    Parameters
    ----------
    volume : one image a channel of the model, in the model's channel order
    decision : arguments of ``decide_regions``
    is_whole : see ``ScanPlan``
    """
    scan, spec = volume.images[0], model_file.spec
    images, frame = preprocess_images(volume, spec.preprocessing, is_whole)
    ((regions, classes),) = predict_probabilities([WindowedNetwork.of(model_file)], [images], device, plan)
    decided = {**decision, "predicted_class": most_probable_class(classes, spec.classes)}
    on_grid, in_scan = {}, {}
    if regions is not None:
        restored = [sitk.GetArrayFromImage(restore_probabilities(region, frame, scan)) for region in regions]
        on_grid = dict(zip(spec.regions, decide_regions(regions, _voxel_ml(frame), **decided), strict=True))
        in_scan = dict(zip(spec.regions, decide_regions(np.stack(restored), _voxel_ml(scan), **decided), strict=True))
    of_classes = {} if classes is None else dict(zip(spec.classes, map(float, classes), strict=True))
    grid_images = images[:, *middle_part(images.shape[1:], spec.preprocessing["grid"] or images.shape[1:])]
    return ScanPrediction(scan, in_scan, of_classes, decided["predicted_class"], grid_images, on_grid)


def _voxel_ml(image: sitk.Image) -> float:
    """Volume of one voxel."""
    return float(np.prod(image.GetSpacing())) / 1000.0


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
    filters_path: str | Path | None,
    folder: str | Path,
    model_name: str,
    plan: ScanPlan,
    device: torch.device,
) -> None:
    """Predict a scan with one model and write masks and result, and for a DICOM scan a segmentation object.

    Parameters
    ----------
    scan_paths : one file or folder a channel
    intensities_path : what the model's training cases look like, None where that is not at hand
    filters_path : the component filters that were chosen for the model, None where there were none
    folder : gets ``mask.nii.gz``, ``region-<name>.nii.gz`` of every region (they may overlap), ``prediction.json``
        and, for a DICOM scan, ``segmentation.dcm``
    model_name : under which the results stand
    """
    model_file = load_trained_model(model_path)
    check_channels(model_path, model_file, scan_paths)
    scans = read_channels(scan_paths, plan.formats)
    volume = Volume(tuple(scan.image for scan in scans), None)
    filters = read_filters(filters_path, model_file.spec.regions, plan.component_filter)
    decision, network = plan.decision | {"filters": filters}, PredictionPlan(**plan.network)
    prediction = predict_volume(model_file, volume, decision, device, network, plan.is_whole)
    reference = None if intensities_path is None else read_intensities(intensities_path)
    model = {
        "name": model_name,
        "path": str(model_path),
        "sha256": sha256_of_file(model_path),
        "lineage": model_file.lineage.to_dict(),
        "origin": model_file.lineage.origin,
    }
    result = {
        "scan": describe_scan(scan_paths, scans, model_file.spec.channels),
        "labels": {name: number for number, name in enumerate(prediction.regions, start=1)},
        "region_masks": {name: f"region-{name}.nii.gz" for name in prediction.regions},
        "volumes_ml": prediction.volumes_ml,
        "probabilities": prediction.probabilities,
        "predicted_class": prediction.predicted_class,
        "checks": [asdict(check) for check in check_prediction(prediction, scans[0], reference, plan)],
        "decision": plan.decision,
        "component_filters": {name: item.settings for name, item in zip(model_file.spec.regions, filters, strict=True)},
        "network": plan.network,
        "model": model,
    }
    masks = {result["region_masks"][name]: mask for name, mask in prediction.region_masks().items()}
    for file, mask in ({MASK: prediction.to_mask()} | masks).items():
        with replacing(Path(folder) / file) as temporary:
            sitk.WriteImage(mask, str(temporary), useCompression=True)
    if scans[0].form == "dicom" and prediction.regions:
        try:
            write_segmentation_object(Path(folder) / SEGMENTATION_OBJECT, scans[0], prediction.regions, model)
        except StudyError as error:
            # The mask is there, and the page shows the notes.
            result["scan"]["notes"].append(f"no DICOM Segmentation could be written: {error}")
    write_json(Path(folder) / RESULT, result)


def check_prediction(
    prediction: ScanPrediction, scan: Scan, reference: Mapping[str, Any] | None, plan: ScanPlan
) -> list[Check]:
    """Every check that this kind of model allows.

    Parameters
    ----------
    scan : where the first channel comes from
    reference : what the model's training cases look like, see ``check_intensity``
    """
    checks = [
        check_orientation(scan, **plan.anatomy),
        check_intensity(prediction.grid_images, reference, plan.flags["intensity_tolerance"], plan.anatomy["organ"]),
    ]
    if prediction.regions:
        empty_class = plan.decision.get("empty_class")
        checks.append(check_empty(prediction.volumes_ml, prediction.predicted_class, empty_class))
        checks.append(check_clipped(prediction.upright_regions(), prediction.frame_regions))
    if prediction.probabilities:
        checks.append(check_probability(prediction.probabilities, plan.flags["least_probability"]))
    return checks


def describe_scan(paths: Sequence[str | Path], scans: Sequence[Scan], channels: Sequence[str]) -> dict[str, Any]:
    """A scan in plain values, without anything that identifies a patient but its paths."""
    image = scans[0].image
    return {
        "paths": [str(path) for path in paths],
        "channels": list(channels),
        "form": scans[0].form,
        "size": image.GetSize(),
        "spacing_mm": image.GetSpacing(),
        "is_orientation_known": all(scan.is_orientation_known for scan in scans),
        "notes": list(dict.fromkeys(note for scan in scans for note in scan.notes)),
    }
