"""New scans in an inbox, predicted by two models of the tiny study."""

import json

import dicom_files
import imageio.v3 as iio
import pydicom
import pytest
import SimpleITK as sitk
import yaml
from fedpedbrain.data.sources.source import open_source
from fedpedbrain.study.study import load_study
from workspace import REPOSITORY, TINY

pytestmark = pytest.mark.slow
MODELS = ("centralized", "fedavg")


def phantom_head() -> sitk.Image:
    """A simulated head of few and large voxels: 23 x 27 x 9."""
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    config["phantom"]["in_plane_coarsening"] = 12.0
    source = open_source(load_study(config, REPOSITORY / "rules/schemas/config.schema.yaml").source_settings)
    return source.read_case(source.find_cases()[-1]).images[0][:, :, ::6]


@pytest.fixture
def inbox(tmp_path):
    """A simulated head as a DICOM series, and a broken file."""
    folder = tmp_path / "inbox"
    dicom_files.write_series(folder / "series", phantom_head())
    (folder / "broken.nii.gz").write_bytes(b"no image")
    return folder


def predict(study, inbox):
    models = ",".join(f"{arm}=results/models/{arm}/seed-0/best.pth" for arm in MODELS)
    arguments = ["--cores", "2", "--keep-going", "predict", "--config", f"inbox={inbox}", f"model={models}"]
    return study.snakemake("--configfile", TINY, *arguments)


def results_of(study, name):
    (folder,) = (study.folder / "results/inference").glob(f"{name}-*")
    return folder


def assert_same_geometry(mask, scan):
    assert mask.GetSize() == scan.GetSize()
    for get in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(mask, get)() == pytest.approx(getattr(scan, get)(), rel=1e-5, abs=1e-5), get


def assert_predicted(folder, scan):
    """Every model's masks lie where SimpleITK reads the scan, and page and video are there."""
    for model in MODELS:
        prediction = json.loads((folder / model / "prediction.json").read_text())
        for mask in ("mask.nii.gz", *prediction["region_masks"].values()):
            assert_same_geometry(sitk.ReadImage(str(folder / model / mask)), scan)
        assert sum(prediction["probabilities"].values()) == pytest.approx(1.0, abs=1e-5)
        assert prediction["model"]["lineage"]["arm"] == model
        assert [check["is_raised"] for check in prediction["checks"] if check["name"] == "intensity"] != [None]
    assert len(list(iio.imiter(folder / "slices.mp4"))) == scan.GetSize()[2]
    assert "Not a medical device" in (folder / "scan.html").read_text()


def test_an_inbox_is_predicted_once_whatever_is_wrong_with_one_of_its_scans(study_copy, inbox):
    result = predict(study_copy, inbox)
    assert result.returncode != 0
    assert "broken.nii.gz: " in result.stdout
    assert "Traceback" not in result.stdout
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(inbox / "series")))
    scan = reader.Execute()
    assert_predicted(results_of(study_copy, "series"), scan)
    found = pydicom.dcmread(results_of(study_copy, "series") / "fedavg" / "segmentation.dcm")
    (series,) = found.ReferencedSeriesSequence
    sources = {pydicom.dcmread(path).SOPInstanceUID for path in (inbox / "series").iterdir()}
    assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == sources

    # The next call redoes nothing: the broken one alone, mended.
    dates = {path: path.stat().st_mtime_ns for path in (study_copy.folder / "results/inference").rglob("*.*")}
    sitk.WriteImage(scan, str(inbox / "broken.nii.gz"))
    result = predict(study_copy, inbox)
    assert result.returncode == 0, result.stdout
    # Two predictions, the video, the page, and the target itself.
    assert "5 steps to do" in result.stdout
    assert all(path.stat().st_mtime_ns == date for path, date in dates.items() if path.exists())
    assert_predicted(results_of(study_copy, "broken"), scan)
    assert not list(results_of(study_copy, "broken").glob("*/segmentation.dcm"))
