import gzip
import json
from dataclasses import replace

import dicom_files
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from dicom_files import IDENTIFYING
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import sha256_of_file, write_json
from fedpedbrain.base.lineage import Lineage
from fedpedbrain.data.formats.volumes import Volume
from fedpedbrain.inference.scan import ScanPlan, ScanPrediction, predict_scan_files, predict_volume
from fedpedbrain.models.files import ModelFile, ModelSpec, load_model_file, save_model_file
from fedpedbrain.models.prediction import PredictionPlan
from PIL import Image
from scipy.spatial.transform import Rotation

CPU = torch.device("cpu")
ALONE = PredictionPlan()
DECISION = {"threshold": 0.5, "smallest_region_ml": 0.0}
PLAN = ScanPlan(
    decision=DECISION,
    network={"flips": [], "overlap": 0.5, "mean_of": "probabilities"},
    is_whole=False,
    component_filter={},
    flags={"least_probability": 0.5, "intensity_tolerance": 1.5},
    formats={},
    anatomy={"organ": "head", "extent_mm": [70.0, 450.0]},
)


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
    model = constant_model(regions=["whole_tumour"])
    mask = predict_volume(model, Volume((scan,), None), DECISION, CPU, ALONE).to_mask()
    for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(mask, get)() == getattr(scan, get)(), get
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert (sitk.GetArrayFromImage(mask) == 1).all()


def test_a_model_of_before_organs_were_config_predicts_as_one_of_today(tmp_path, spec):
    scan = make_scan()
    scan[:, :4, :] = 0
    torch.manual_seed(0)
    weights, found = None, []
    before = {"field_of_view": "head", "intensity": {"lower_percentile": 1.0, "upper_percentile": 99.5}}
    today = {"field_of_view": "foreground", "foreground": {"percentile": 99.0, "fraction": 0.2}}
    today["intensity"] = {"name": "percentile", "percentile": before["intensity"]}
    for words in (before, today):
        model_spec = ModelSpec(**spec | {"preprocessing": {"grid": spec["preprocessing"]["grid"]} | words})
        weights = weights or model_spec.build().state_dict()
        lineage = Lineage("global", "fedavg", 0, 1, "", 4, 8, "digest", "parent")
        save_model_file(tmp_path / "best.pth", ModelFile(model_spec, lineage, weights))
        found.append(
            predict_volume(load_model_file(tmp_path / "best.pth"), Volume((scan,), None), DECISION, CPU, ALONE)
        )
    assert (found[0].grid_images == found[1].grid_images).all()
    assert found[0].probabilities == found[1].probabilities
    assert len(np.unique(found[0].grid_images)) > 10


def test_volumes_are_in_the_scans_own_voxels(constant_model):
    scan = make_scan()
    prediction = predict_volume(constant_model(regions=["whole_tumour"]), Volume((scan,), None), DECISION, CPU, ALONE)
    # 840 voxels of 2.1 x 1.3 x 4.7 mm.
    assert prediction.volumes_ml == {"whole_tumour": pytest.approx(10.778, abs=1e-3)}


def test_a_region_smaller_than_the_smallest_is_left_out(constant_model):
    model, volume = constant_model(regions=["whole_tumour"]), Volume((make_scan(),), None)
    without = predict_volume(model, volume, DECISION | {"smallest_region_ml": 11.0}, CPU, ALONE)
    assert not sitk.GetArrayFromImage(without.to_mask()).any()
    assert without.volumes_ml == {"whole_tumour": 0.0}
    assert (
        predict_volume(model, volume, DECISION | {"smallest_region_ml": 10.5}, CPU, ALONE).volumes_ml["whole_tumour"]
        > 10
    )


def test_a_scan_diagnosed_as_normal_has_no_region(constant_model):
    model, volume = constant_model(regions=["whole_tumour"], class_name="normal"), Volume((make_scan(),), None)
    prediction = predict_volume(model, volume, DECISION | {"empty_class": "normal"}, CPU, ALONE)
    assert not sitk.GetArrayFromImage(prediction.to_mask()).any()
    assert prediction.volumes_ml == {"whole_tumour": 0.0}


def test_regions_are_numbered_in_the_models_order(constant_model, spec):
    spec["regions"] = ["whole_tumour", "core", "enhancing"]
    model = constant_model(regions=["core"])
    prediction = predict_volume(model, Volume((make_scan(),), None), DECISION, CPU, ALONE)
    assert (sitk.GetArrayFromImage(prediction.to_mask()) == 2).all()
    assert prediction.volumes_ml == {"whole_tumour": 0.0, "core": pytest.approx(10.778, abs=1e-3), "enhancing": 0.0}


@pytest.mark.parametrize("names", [["whole_tumour", "core"], ["core", "whole_tumour"]])
def test_a_region_within_another_hides_nothing_in_any_order(names):
    whole = np.zeros((6, 14, 10), dtype=bool)
    whole[1:5, 2:12, 2:8] = True
    core = np.zeros_like(whole)
    core[2:4, 4:8, 3:6] = True
    regions = {name: {"whole_tumour": whole, "core": core}[name] for name in names}
    prediction = ScanPrediction(make_scan(), regions, {}, None, np.zeros(0), regions)
    masks = {name: sitk.GetArrayFromImage(mask) for name, mask in prediction.region_masks().items()}
    assert (masks["whole_tumour"] == whole).all()
    assert (masks["core"] == core).all()
    # In the one image that viewers show, the smaller region lies on top.
    labels = sitk.GetArrayFromImage(prediction.to_mask())
    assert ((labels == names.index("core") + 1) == core).all()
    assert ((labels == names.index("whole_tumour") + 1) == (whole & ~core)).all()


def test_class_probabilities_sum_to_1(constant_model):
    model = constant_model(class_name="dipg")
    probabilities = predict_volume(model, Volume((make_scan(),), None), DECISION, CPU, ALONE).probabilities
    assert list(probabilities) == ["normal", "dipg"]
    assert sum(probabilities.values()) == pytest.approx(1.0, abs=1e-6)
    # Softmax of the logits 0 and 1.
    assert probabilities["dipg"] == pytest.approx(0.731059, abs=1e-5)


@pytest.mark.parametrize("missing", ["regions", "classes"])
def test_a_model_of_one_task_predicts_that(constant_model, spec, missing):
    spec[missing] = []
    model = constant_model(regions=["whole_tumour"], class_name="dipg")
    prediction = predict_volume(model, Volume((make_scan(),), None), DECISION, CPU, ALONE)
    assert sitk.GetArrayFromImage(prediction.to_mask()).any() == bool(spec["regions"])
    assert list(prediction.volumes_ml) == spec["regions"]
    assert list(prediction.probabilities) == spec["classes"]


def test_a_scan_is_predicted_alike_in_every_orientation(spec):
    torch.manual_seed(0)
    model_spec = ModelSpec(**spec)
    model = ModelFile(model_spec, None, model_spec.build().state_dict())
    first, other = (
        predict_volume(model, Volume((make_scan(code, tilt=(0.0, 0.0, 0.0)),), None), DECISION, CPU, ALONE)
        for code in ("LPS", "SRA")
    )
    assert first.probabilities == pytest.approx(other.probabilities, abs=1e-4)
    restored = sitk.GetArrayFromImage(sitk.DICOMOrient(other.to_mask(), "LPS"))
    assert (restored == sitk.GetArrayFromImage(first.to_mask())).mean() > 0.99
    assert (other.upright_regions()["whole_tumour"] == restored.astype(bool)).all()


def test_windows_slide_over_a_scan_larger_than_the_grid(constant_model, spec):
    # 21 x 18 x 28 mm lie under a grid of 8 x 8 x 16 mm.
    spec["preprocessing"]["voxel_spacing_mm"] = [4.0, 1.0, 1.0]
    model, volume = constant_model(regions=["whole_tumour"]), Volume((make_scan(),), None)
    in_grid, in_windows = (predict_volume(model, volume, DECISION, CPU, ALONE, is_whole) for is_whole in (False, True))
    assert in_grid.volumes_ml["whole_tumour"] == pytest.approx(8 * 8 * 16 / 1000.0, rel=0.5)
    assert in_windows.volumes_ml["whole_tumour"] == pytest.approx(10.778, abs=1e-3)
    assert (in_grid.grid_images == in_windows.grid_images).all()


# Files.


@pytest.fixture
def predict(tmp_path, write_constant_model):
    """Predict scan files with a constant model; returns the mask's path and the result."""

    def _predict(*scans, plan=PLAN, intensities=None, filters=None, regions=("whole_tumour",)) -> tuple:
        model = write_constant_model(tmp_path / "best.pth", regions=regions, class_name="dipg")
        predict_scan_files(scans, model, intensities, filters, tmp_path / "out", "fedavg", plan, CPU)
        return tmp_path / "out" / "mask.nii.gz", json.loads((tmp_path / "out" / "prediction.json").read_text())

    return _predict


def write_scan(path, scan=None):
    sitk.WriteImage(make_scan() if scan is None else scan, str(path))
    return path


def assert_same_geometry(mask: sitk.Image, scan: sitk.Image) -> None:
    assert mask.GetSize() == scan.GetSize()
    # NIfTI keeps 32 bits.
    assert mask.GetSpacing() == pytest.approx(scan.GetSpacing(), rel=1e-6)
    assert mask.GetOrigin() == pytest.approx(scan.GetOrigin(), rel=1e-6, abs=1e-6)
    assert mask.GetDirection() == pytest.approx(scan.GetDirection(), abs=1e-6)


def test_the_mask_is_written_in_the_scans_geometry(tmp_path, predict):
    path = write_scan(tmp_path / "scan.nii.gz")
    mask_path, _ = predict(path)
    mask = sitk.ReadImage(str(mask_path))
    assert_same_geometry(mask, sitk.ReadImage(str(path)))
    assert (sitk.GetArrayFromImage(mask) == 1).all()
    assert not (tmp_path / "out" / "segmentation.dcm").exists()


def test_every_region_has_a_mask_of_its_own(tmp_path, predict, spec):
    spec["regions"] = ["whole_tumour", "core", "enhancing"]
    path = write_scan(tmp_path / "scan.nii.gz")
    _, result = predict(path, regions=("whole_tumour", "core"))
    found = {name: sitk.ReadImage(str(tmp_path / "out" / file)) for name, file in result["region_masks"].items()}
    for mask in found.values():
        assert_same_geometry(mask, sitk.ReadImage(str(path)))
    filled = {name: sitk.GetArrayFromImage(mask).mean() for name, mask in found.items()}
    assert filled == {"whole_tumour": 1.0, "core": 1.0, "enhancing": 0.0}


def test_the_result_says_what_was_predicted_by_which_model(tmp_path, predict):
    path = write_scan(tmp_path / "scan.nii.gz")
    _, result = predict(path)
    assert result["scan"]["paths"] == [str(path)]
    assert (result["scan"]["form"], result["scan"]["size"]) == ("nifti", [10, 14, 6])
    assert result["labels"] == {"whole_tumour": 1}
    assert list(result["probabilities"]) == ["normal", "dipg"]
    assert result["predicted_class"] == "dipg"
    assert result["decision"] == DECISION
    assert result["model"]["name"] == "fedavg"
    assert result["model"]["sha256"] == sha256_of_file(tmp_path / "best.pth")
    assert result["model"]["lineage"]["arm"] == "fedavg"


def test_the_result_flags_what_is_wrong_with_it(tmp_path, predict):
    path = write_scan(tmp_path / "scan.nii.gz")
    raised = {check["name"]: check["is_raised"] for check in predict(path)[1]["checks"]}
    # All of a scan of 21 x 18 x 28 mm is tumour; the constant class has 73 %; nothing is known of the training cases.
    assert raised == {"orientation": True, "intensity": None, "empty": False, "clipped": True, "probability": False}


def test_the_plan_decides_from_where_on_flags_are_raised(tmp_path, predict):
    plan = replace(PLAN, flags=PLAN.flags | {"least_probability": 0.74})
    checks = predict(write_scan(tmp_path / "scan.nii.gz"), plan=plan)[1]["checks"]
    assert [check["is_raised"] for check in checks if check["name"] == "probability"] == [True]


def test_intensities_are_held_against_the_training_cases(tmp_path, predict):
    path = write_scan(tmp_path / "scan.nii.gz")
    for quantile, is_raised in ((255.0, True), (110.0, False)):
        known = {"T2w": {"quantiles": [quantile] * 20, "largest_distance": 60.0}}
        write_json(tmp_path / "intensities.json", {"num_cases": 3, "channels": known})
        checks = predict(path, intensities=tmp_path / "intensities.json")[1]["checks"]
        assert [check["is_raised"] for check in checks if check["name"] == "intensity"] == [is_raised]


# Other forms.


@pytest.fixture
def plan(config):
    return replace(PLAN, formats=config["formats"])


def test_a_dicom_series_gets_its_mask_and_a_segmentation_object(tmp_path, predict, plan):
    image = dicom_files.sample_image(size=(12, 10, 5), degrees=20.0)
    files = dicom_files.write_series(tmp_path / "series", image, order=[3, 0, 4, 1, 2])
    mask_path, result = predict(tmp_path / "series", plan=plan)
    assert_same_geometry(sitk.ReadImage(str(mask_path)), image)
    (series,) = pydicom.dcmread(tmp_path / "out" / "segmentation.dcm").ReferencedSeriesSequence
    referenced = {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence}
    assert referenced == {pydicom.dcmread(path).SOPInstanceUID for path in files}
    assert result["scan"]["form"] == "dicom"


def test_only_the_segmentation_object_names_the_patient(tmp_path, predict, plan):
    dicom_files.write_series(tmp_path / "series", dicom_files.sample_image())
    predict(tmp_path / "series", plan=plan)
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    written |= {name: gzip.decompress(content) for name, content in written.items() if name.endswith(".gz")}
    naming = {name for name, text in written.items() for value in IDENTIFYING.values() if value.encode() in text}
    assert naming == {"segmentation.dcm"}


def test_a_mask_is_written_where_no_segmentation_object_can_be(tmp_path, predict, plan):
    dicom_files.write_series(tmp_path / "series", dicom_files.sample_image(), StudyInstanceUID=None)
    mask_path, result = predict(tmp_path / "series", plan=plan)
    assert mask_path.is_file()
    assert not (tmp_path / "out" / "segmentation.dcm").exists()
    assert any("no DICOM Segmentation could be written: the headers" in note for note in result["scan"]["notes"])


def test_an_array_is_predicted_in_the_geometry_that_the_config_assumes(tmp_path, predict, plan):
    plan.formats["npy"] |= {"axes": "HWD", "spacing_mm": [5.0, 2.0, 1.0]}
    np.save(tmp_path / "scan.npy", np.random.default_rng(0).random((12, 9, 5), dtype=np.float32))
    mask_path, result = predict(tmp_path / "scan.npy", plan=plan)
    mask = sitk.ReadImage(str(mask_path))
    assert (mask.GetSize(), mask.GetSpacing()) == ((9, 12, 5), (1.0, 2.0, 5.0))
    assert [check["is_raised"] for check in result["checks"] if check["name"] == "orientation"] == [True]


def test_pictures_are_predicted_upright(tmp_path, predict, plan):
    (tmp_path / "slices").mkdir()
    for number in range(3):
        array = np.random.default_rng(number).integers(0, 256, (10, 14), dtype=np.uint8)
        Image.fromarray(array).save(tmp_path / "slices" / f"slice_{number:02d}.png")
    plan.formats["png"] |= {"rotation_degrees": 90}
    mask = sitk.ReadImage(str(predict(tmp_path / "slices", plan=plan)[0]))
    # 10 rows and 14 columns, turned.
    assert mask.GetSize() == (10, 14, 3)


@pytest.fixture
def predict_real(repository, predict, plan, spec):
    """Predict one of the real scans, which may not be here; returns its path and the mask."""

    def _predict_real(name) -> tuple:
        path = repository.parent / "shared" / "data" / name
        if not path.is_dir():
            pytest.skip(f"the real scan is not at {path}")
        # So fine that the images need little blur, which is what takes time.
        spec["preprocessing"]["grid"] = [20, 64, 64]
        mask_path, result = predict(path, plan=plan)
        assert result["volumes_ml"]["whole_tumour"] > 1000
        return path, sitk.ReadImage(str(mask_path))

    return _predict_real


def test_the_filters_that_were_chosen_for_the_model_are_applied_in_the_scans_voxels(tmp_path, predict):
    path = write_scan(tmp_path / "scan.nii.gz")
    # The whole scan, 10.8 ml, is one component.
    for smallest_ml, is_left in ((10.0, True), (11.0, False)):
        settings = {"smallest_component_ml": smallest_ml, "largest_only": False}
        write_json(tmp_path / "filters.json", {"whole_tumour": {"chosen": settings}})
        mask_path, result = predict(path, filters=tmp_path / "filters.json")
        assert sitk.GetArrayFromImage(sitk.ReadImage(str(mask_path))).any() == is_left
        assert result["component_filters"] == {"whole_tumour": settings}


def test_without_a_choice_the_config_filters(tmp_path, predict):
    plan = replace(PLAN, component_filter={"smallest_component_ml": 11.0, "largest_only": False})
    _, result = predict(write_scan(tmp_path / "scan.nii.gz"), plan=plan)
    assert result["volumes_ml"] == {"whole_tumour": 0.0}


@pytest.mark.slow
def test_a_real_series_gets_its_mask_where_simpleitk_reads_its_slices(predict_real):
    path, mask = predict_real("ge_pd_dicom")
    reader = sitk.ImageSeriesReader()
    # The names are in the order of the places.
    reader.SetFileNames([str(file) for file in sorted(path.iterdir())])
    assert mask.GetSize() == (256, 256, 20)
    assert_same_geometry(mask, reader.Execute())


@pytest.mark.parametrize("name", ["DIPG_03", "MEDU_05"])
def test_real_pictures_get_masks_in_their_own_geometry(predict_real, plan, name):
    path, mask = predict_real(f"pediatric_png/{name}")
    assert mask.GetSize() == (256, 256, len(list(path.glob("slice_*.png"))))
    assert mask.GetSpacing() == tuple(plan.formats["png"]["spacing_mm"][::-1])


# What is refused.


def assert_refused(tmp_path, predict, match: str, *scans) -> None:
    with pytest.raises(StudyError, match=match):
        predict(*scans)
    assert not (tmp_path / "out").exists()


def test_a_wrong_number_of_channels_is_refused_with_their_names(tmp_path, predict):
    path = write_scan(tmp_path / "scan.nii.gz")
    assert_refused(tmp_path, predict, r"scan\.nii\.gz: .* needs 1 channel\(s\) \(T2w\), found 2", path, path)


def test_a_missing_scan_is_refused_by_name(tmp_path, predict):
    assert_refused(tmp_path, predict, r"scan\.nii\.gz: ", tmp_path / "scan.nii.gz")


def test_a_scan_with_nan_is_refused(tmp_path, predict):
    scan = make_scan()
    scan[3, 4, 2] = float("nan")
    path = write_scan(tmp_path / "scan.nii.gz", scan)
    assert_refused(tmp_path, predict, r"scan\.nii\.gz: the image holds NaN", path)


def test_channels_on_different_grids_are_refused(tmp_path, predict, spec):
    spec["channels"] = ["T1w", "T2w"]
    first = write_scan(tmp_path / "t1.nii.gz")
    second = write_scan(tmp_path / "t2.nii.gz", make_scan(size=(10, 14, 7)))
    assert_refused(tmp_path, predict, r"t2\.nii\.gz: shape .* differs from .* of t1\.nii\.gz", first, second)
