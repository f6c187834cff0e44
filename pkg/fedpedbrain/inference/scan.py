"""Prediction of one new scan."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from fedpedbrain.data.geometry import restore_region
from fedpedbrain.data.shards import preprocess_images
from fedpedbrain.data.volumes import Volume, check_finite, check_same_grid, read_volume
from fedpedbrain.errors import StudyError
from fedpedbrain.files import replacing, sha256_of_file, write_json
from fedpedbrain.models.files import ModelFile, load_model_file
from fedpedbrain.models.prediction import predict_cases


def predict_volume(
    model_file: ModelFile, volume: Volume, decision: Mapping[str, Any], device: torch.device
) -> tuple[sitk.Image, dict[str, float], dict[str, float]]:
    """Predict one scan in its own geometry.

    Parameters
    ----------
    volume : one image a channel of the model, in the model's channel order
    decision : arguments of ``decide_regions``

    Returns
    -------
    mask : uint8 image with size, spacing, origin and direction of the first image; 0 is background and region number r
        of the model is r + 1 (a later region overwrites an earlier one)
    volumes_ml : volume of every region in the scan's own voxels
    probabilities : of every class
    """
    scan, spec = volume.images[0], model_file.spec
    images, frame = preprocess_images(volume, spec.preprocessing)
    voxel_ml = float(np.prod(frame.GetSpacing())) / 1000.0
    (prediction,) = predict_cases(model_file, [images], [voxel_ml], decision, device)
    labels = np.zeros(scan.GetSize()[::-1], dtype=np.uint8)
    volumes_ml: dict[str, float] = {}
    if prediction.regions is not None:
        for number, (name, region) in enumerate(zip(spec.regions, prediction.regions, strict=True), start=1):
            restored = sitk.GetArrayFromImage(restore_region(region, frame, scan)).astype(bool)
            labels[restored] = number
            volumes_ml[name] = float(restored.sum() * np.prod(scan.GetSpacing()) / 1000.0)
    mask = sitk.GetImageFromArray(labels)
    mask.CopyInformation(scan)
    return mask, volumes_ml, prediction.probabilities


def predict_scan_files(
    scan_paths: Sequence[str | Path],
    model_path: str | Path,
    mask_path: str | Path,
    result_path: str | Path,
    decision: Mapping[str, Any],
    device: torch.device,
) -> None:
    """Predict the scan in ``scan_paths`` (one file a channel) and write its mask as NIfTI and the numbers as JSON.

    The decision is that of the config at hand, which need not be the model's own study: the result says which it was.
    """
    model_file = load_model_file(model_path)
    channels = model_file.spec.channels
    if len(scan_paths) != len(channels):
        raise StudyError(
            f"scan: the model needs {len(channels)} channel(s) ({', '.join(channels)}), found {len(scan_paths)} file(s)"
        )
    paths = [Path(path) for path in scan_paths]
    images = tuple(read_volume(path) for path in paths)
    for path, image in zip(paths, images, strict=True):
        check_finite(path, image)
        check_same_grid(path, image, paths[0], images[0])
    volume = Volume(images, None)
    mask, volumes_ml, probabilities = predict_volume(model_file, volume, decision, device)
    with replacing(mask_path) as temporary:
        sitk.WriteImage(mask, str(temporary), useCompression=True)
    result = {
        "scan": [str(path) for path in scan_paths],
        "labels": {name: number for number, name in enumerate(model_file.spec.regions, start=1)},
        "volumes_ml": volumes_ml,
        "probabilities": probabilities,
        "decision": dict(decision),
        "model": {
            "path": str(model_path),
            "sha256": sha256_of_file(model_path),
            "lineage": model_file.lineage.to_dict(),
        },
    }
    write_json(result_path, result)
