"""New scans in an inbox, predicted by two models of the tiny study; a real series where it is at hand."""

import json
import shutil

import imageio.v3 as iio
import pydicom
import pytest
import SimpleITK as sitk
import yaml
from fedpedbrain.data.formats import read_scan
from fedpedbrain.data.sources import open_source
from fedpedbrain.study import load_study
from workspace import REPOSITORY

pytestmark = pytest.mark.slow
REAL = REPOSITORY.parent / "shared" / "data"
SERIES = "ge_pd_dicom"


def phantom_head() -> sitk.Image:
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    study = load_study(config, REPOSITORY / "rules/schemas/config.schema.yaml")
    source = open_source(study.source_settings)
    return source.read_case(source.find_cases()[-1]).images[0]


@pytest.fixture
def inbox(tmp_path):
    """A simulated head, a broken file, and the real series where it is at hand."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    sitk.WriteImage(phantom_head(), str(folder / "head.nii.gz"))
    (folder / "broken.nii.gz").write_bytes(b"no image")
    if (REAL / SERIES).is_dir():
        shutil.copytree(REAL / SERIES, folder / SERIES)
    return folder


def predict(study, inbox):
    models = [f"{arm}=results/models/{arm}/seed-0/best.pth" for arm in ("centralized", "fedavg")]
    arguments = ["--cores", "2", "--keep-going", "predict", "--config", f"inbox={inbox}", f"model={','.join(models)}"]
    return study.snakemake(*arguments)


def results_of(study, name):
    (folder,) = (study.folder / "results/inference").glob(f"{name}-*")
    return folder


def assert_same_geometry(mask, scan):
    assert mask.GetSize() == scan.GetSize()
    for get in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(mask, get)() == pytest.approx(getattr(scan, get)(), rel=1e-5, abs=1e-5), get


def test_an_inbox_is_predicted_once_whatever_is_wrong_with_one_of_its_scans(study_copy, inbox):
    result = predict(study_copy, inbox)
    assert result.returncode != 0
    assert "broken.nii.gz: " in result.stdout
    assert "Traceback" not in result.stdout
    formats = yaml.safe_load((REPOSITORY / "config.yaml").read_text())["formats"]
    scans = sorted(path for path in inbox.iterdir() if path.name != "broken.nii.gz")
    for scan in scans:
        folder = results_of(study_copy, scan.name.split(".")[0])
        for model in ("centralized", "fedavg"):
            assert_same_geometry(sitk.ReadImage(str(folder / model / "mask.nii.gz")), read_scan(scan, formats).image)
            prediction = json.loads((folder / model / "prediction.json").read_text())
            assert sum(prediction["probabilities"].values()) == pytest.approx(1.0, abs=1e-5)
            assert prediction["model"]["lineage"]["arm"] == model
            assert [check["is_raised"] for check in prediction["checks"] if check["name"] == "intensity"] != [None]
        assert len(list(iio.imiter(folder / "slices.mp4"))) == read_scan(scan, formats).image.GetSize()[2]
        assert "Not a medical device" in (folder / "scan.html").read_text()
    assert not list(results_of(study_copy, "head").glob("*/segmentation.dcm"))

    # The next call redoes nothing: the broken one alone, mended.
    dates = {path: path.stat().st_mtime_ns for path in (study_copy.folder / "results/inference").rglob("*.*")}
    shutil.copy(inbox / "head.nii.gz", inbox / "broken.nii.gz")
    result = predict(study_copy, inbox)
    assert result.returncode == 0, result.stdout
    # Two predictions, the video, the page, and the target itself.
    assert "5 steps to do" in result.stdout
    assert all(path.stat().st_mtime_ns == date for path, date in dates.items() if path.exists())
    assert (results_of(study_copy, "broken") / "scan.html").is_file()

    if not (REAL / SERIES).is_dir():
        pytest.skip(f"the real series is not at {REAL}")
    sources = {pydicom.dcmread(path).SOPInstanceUID for path in (REAL / SERIES).iterdir()}
    found = pydicom.dcmread(results_of(study_copy, SERIES) / "fedavg" / "segmentation.dcm")
    (series,) = found.ReferencedSeriesSequence
    assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == sources
