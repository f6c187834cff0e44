import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from fedpedbrain.data.volumes import Volume
from fedpedbrain.errors import StudyError
from fedpedbrain.files import sha256_of_file
from fedpedbrain.inference.scan import predict_scan_files, predict_volume
from fedpedbrain.models.files import ModelFile, ModelSpec, load_model_file
from scipy.spatial.transform import Rotation

CPU = torch.device("cpu")
DECISION = {"threshold": 0.5, "smallest_region_ml": 0.0}


def make_scan(orientation: str = "LPS", size=(10, 14, 6), tilt=(12.0, -7.0, 20.0)) -> sitk.Image:
    noise = np.random.default_rng(0).gamma(2.0, 100.0, size[::-1]).astype(np.float32)
    scan = sitk.GetImageFromArray(noise)
    scan.SetSpacing((2.1, 1.3, 4.7))
    scan.SetOrigin((-31.0, 17.5, 3.25))
    scan.SetDirection(Rotation.from_euler("xyz", tilt, degrees=True).as_matrix().ravel().tolist())
    return sitk.DICOMOrient(scan, orientation)


@pytest.fixture
def constant_model(tmp_path, write_constant_model):
    """A model that sees these regions everywhere."""

    def _constant_model(**model) -> ModelFile:
        return load_model_file(write_constant_model(tmp_path / "best.pth", **model))

    return _constant_model


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR", "SLA"])
def test_the_mask_has_the_scans_exact_geometry(constant_model, orientation):
    scan = make_scan(orientation)
    mask, _, _ = predict_volume(constant_model(regions=["whole_tumour"]), Volume((scan,), None), DECISION, CPU)
    for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(mask, get)() == getattr(scan, get)(), get
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert (sitk.GetArrayFromImage(mask) == 1).all()


def test_volumes_are_in_the_scans_own_voxels(constant_model):
    scan = make_scan()
    volume_ml = predict_volume(constant_model(regions=["whole_tumour"]), Volume((scan,), None), DECISION, CPU)[1]
    # 840 voxels of 2.1 x 1.3 x 4.7 mm.
    assert volume_ml == {"whole_tumour": pytest.approx(10.778, abs=1e-3)}


def test_a_region_smaller_than_the_smallest_is_left_out(constant_model):
    model, volume = constant_model(regions=["whole_tumour"]), Volume((make_scan(),), None)
    mask, volume_ml, _ = predict_volume(model, volume, DECISION | {"smallest_region_ml": 11.0}, CPU)
    assert not sitk.GetArrayFromImage(mask).any()
    assert volume_ml == {"whole_tumour": 0.0}
    assert predict_volume(model, volume, DECISION | {"smallest_region_ml": 10.5}, CPU)[1]["whole_tumour"] > 10


def test_a_scan_diagnosed_as_normal_has_no_region(constant_model):
    model, volume = constant_model(regions=["whole_tumour"], class_name="normal"), Volume((make_scan(),), None)
    mask, volume_ml, _ = predict_volume(model, volume, DECISION | {"empty_class": "normal"}, CPU)
    assert not sitk.GetArrayFromImage(mask).any()
    assert volume_ml == {"whole_tumour": 0.0}


def test_regions_are_numbered_in_the_models_order_and_later_ones_lie_on_top(constant_model, spec):
    spec["regions"] = ["whole_tumour", "core", "enhancing"]
    model = constant_model(regions=["whole_tumour", "core"])
    mask, volumes_ml, _ = predict_volume(model, Volume((make_scan(),), None), DECISION, CPU)
    assert (sitk.GetArrayFromImage(mask) == 2).all()
    assert volumes_ml["whole_tumour"] == volumes_ml["core"] > 0
    assert volumes_ml["enhancing"] == 0.0


def test_class_probabilities_sum_to_1(constant_model):
    probabilities = predict_volume(constant_model(class_name="dipg"), Volume((make_scan(),), None), DECISION, CPU)[2]
    assert list(probabilities) == ["normal", "dipg"]
    assert sum(probabilities.values()) == pytest.approx(1.0, abs=1e-6)
    # Softmax of the logits 0 and 1.
    assert probabilities["dipg"] == pytest.approx(0.731059, abs=1e-5)


@pytest.mark.parametrize("missing", ["regions", "classes"])
def test_a_model_of_one_task_predicts_that(constant_model, spec, missing):
    spec[missing] = []
    model = constant_model(regions=["whole_tumour"], class_name="dipg")
    mask, volumes_ml, probabilities = predict_volume(model, Volume((make_scan(),), None), DECISION, CPU)
    assert sitk.GetArrayFromImage(mask).any() == bool(spec["regions"])
    assert list(volumes_ml) == spec["regions"]
    assert list(probabilities) == spec["classes"]


def test_a_scan_is_predicted_alike_in_every_orientation(spec):
    torch.manual_seed(0)
    model_spec = ModelSpec(**spec)
    model = ModelFile(model_spec, None, model_spec.build().state_dict())
    first, other = (
        predict_volume(model, Volume((make_scan(code, tilt=(0.0, 0.0, 0.0)),), None), DECISION, CPU)
        for code in ("LPS", "SRA")
    )
    assert first[2] == pytest.approx(other[2], abs=1e-4)
    restored = sitk.GetArrayFromImage(sitk.DICOMOrient(other[0], "LPS"))
    assert (restored == sitk.GetArrayFromImage(first[0])).mean() > 0.99


# Files.


@pytest.fixture
def predict(tmp_path, write_constant_model):
    """Predict scan files with a constant model; returns the mask's path and the result."""

    def _predict(*scans) -> tuple:
        model = write_constant_model(tmp_path / "best.pth", regions=["whole_tumour"], class_name="dipg")
        outputs = (tmp_path / "out" / "mask.nii.gz", tmp_path / "out" / "prediction.json")
        predict_scan_files(scans, model, *outputs, DECISION, CPU)
        return outputs[0], json.loads(outputs[1].read_text())

    return _predict


def write_scan(path, scan=None):
    sitk.WriteImage(make_scan() if scan is None else scan, str(path))
    return path


def test_the_mask_is_written_in_the_scans_geometry(tmp_path, predict):
    path = write_scan(tmp_path / "scan.nii.gz")
    mask_path, _ = predict(path)
    mask, scan = sitk.ReadImage(str(mask_path)), sitk.ReadImage(str(path))
    assert mask.GetSize() == scan.GetSize()
    assert mask.GetSpacing() == pytest.approx(scan.GetSpacing())
    assert mask.GetOrigin() == pytest.approx(scan.GetOrigin())
    assert mask.GetDirection() == pytest.approx(scan.GetDirection())
    assert (sitk.GetArrayFromImage(mask) == 1).all()


def test_the_result_says_what_was_predicted_by_which_model(tmp_path, predict):
    path = write_scan(tmp_path / "scan.nii.gz")
    _, result = predict(path)
    assert result["scan"] == [str(path)]
    assert result["labels"] == {"whole_tumour": 1}
    assert list(result["probabilities"]) == ["normal", "dipg"]
    assert result["decision"] == DECISION
    assert result["model"]["sha256"] == sha256_of_file(tmp_path / "best.pth")
    assert result["model"]["lineage"]["arm"] == "fedavg"


def assert_refused(tmp_path, predict, match: str, *scans) -> None:
    with pytest.raises(StudyError, match=match):
        predict(*scans)
    assert not (tmp_path / "out").exists()


def test_a_wrong_number_of_channels_is_refused_with_their_names(tmp_path, predict):
    path = write_scan(tmp_path / "scan.nii.gz")
    assert_refused(tmp_path, predict, r"the model needs 1 channel\(s\) \(T2w\), found 2 file\(s\)", path, path)


def test_a_missing_scan_is_refused_by_name(tmp_path, predict):
    assert_refused(tmp_path, predict, r"scan\.nii\.gz: not a readable volume", tmp_path / "scan.nii.gz")


def test_a_single_slice_is_refused(tmp_path, predict):
    path = write_scan(tmp_path / "scan.nii.gz", make_scan()[:, :, 2])
    assert_refused(tmp_path, predict, r"scan\.nii\.gz: expected a 3-D volume", path)


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.mha"])
def test_a_scan_with_nan_is_refused(tmp_path, predict, name):
    scan = make_scan()
    scan[3, 4, 2] = float("nan")
    assert_refused(tmp_path, predict, f"{name}: the image holds NaN", write_scan(tmp_path / name, scan))


def test_a_truncated_scan_is_refused(tmp_path, predict):
    path = write_scan(tmp_path / "scan.nii.gz", make_scan(size=(32, 32, 8)))
    path.write_bytes(path.read_bytes()[:-2000])
    assert_refused(tmp_path, predict, r"scan\.nii\.gz: not a readable volume", path)


def test_channels_on_different_grids_are_refused(tmp_path, predict, spec):
    spec["channels"] = ["T1w", "T2w"]
    first = write_scan(tmp_path / "t1.nii.gz")
    second = write_scan(tmp_path / "t2.nii.gz", make_scan(size=(10, 14, 7)))
    assert_refused(tmp_path, predict, r"t2\.nii\.gz: shape .* differs from .* of t1\.nii\.gz", first, second)
