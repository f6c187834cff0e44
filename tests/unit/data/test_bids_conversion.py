import gzip
import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import IDENTIFYING, sample_image, write_enhanced, write_series
from fedpedbrain.data.bids_conversion import convert_dicom_files, suffix_of
from fedpedbrain.data.sources import open_source
from fedpedbrain.errors import StudyError
from fedpedbrain.files import read_table, write_table

SITES = ["north", "south"]


@pytest.fixture
def convert(tmp_path, config):
    """``convert(**changes)`` of the block ``conversion``: from ``dicom`` to ``bids``; returns the rows of the table."""

    def _convert(**changes):
        convert_dicom_files(
            tmp_path / "dicom",
            tmp_path / "bids",
            tmp_path / "series.tsv",
            config["conversion"] | changes,
            SITES,
            config["formats"]["dicom"],
            {"site_column": "site", "class_column": "diagnosis"},
        )
        return read_table(tmp_path / "series.tsv")

    return _convert


@pytest.fixture
def dicom(tmp_path):
    """Two patients in the north, one in the south."""
    for number, site in enumerate(["north", "north", "south"]):
        folder = tmp_path / "dicom" / site / f"case {number}"
        write_series(folder, sample_image(degrees=5 * number), series=f"s{number}", PatientID=f"HOSP-{number}")
    return tmp_path / "dicom"


def test_the_first_entry_that_matches_names_the_suffix(config):
    suffixes = config["conversion"]["suffixes"]
    assert suffix_of("Ax T2 FLAIR FS", suffixes) == "FLAIR"
    assert suffix_of("t2_tse_tra", suffixes) == "T2w"
    assert suffix_of("DWI b1000", suffixes) == ""


def test_a_converted_folder_is_a_cohort(tmp_path, config, dicom, convert):
    rows = convert()
    assert [row["outcome"] for row in rows] == ["converted"] * 3
    cohort = config["cohort"] | {"source": "bids", "regions": [], "sites": {"training": SITES, "external": []}}
    settings = {"cohort": cohort, "root": str(tmp_path / "bids"), "sites": SITES, "bids": config["bids"]}
    cases = open_source(settings | {"formats": config["formats"]}).find_cases()
    assert sorted(case.site for case in cases) == ["north", "north", "south"]
    (south,) = [case for case in cases if case.site == "south"]
    image = sitk.ReadImage(south.images[0])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(sample_image()))
    np.testing.assert_allclose(image.GetDirection(), sample_image(degrees=10).GetDirection(), atol=1e-6)


def test_the_sidecar_holds_the_acquisition_in_the_units_of_bids(tmp_path, dicom, convert):
    convert()
    sidecar = json.loads((tmp_path / "bids" / "sub-001" / "anat" / "sub-001_T2w.json").read_text())
    assert sidecar["SpacingBetweenSlices"] == pytest.approx(4.0)
    assert {key: sidecar[key] for key in ("EchoTime", "RepetitionTime", "FlipAngle", "MagneticFieldStrength")} == {
        "EchoTime": 0.099,
        "RepetitionTime": 4.5,
        "FlipAngle": 160.0,
        "MagneticFieldStrength": 1.5,
    }


def test_nothing_that_identifies_is_written(tmp_path, dicom, convert, caplog):
    write_enhanced(dicom / "south" / "enhanced", sample_image())
    write_series(dicom / "south" / "other", sample_image(), series="o", SeriesDescription="Erika Doe DWI")
    write_series(dicom / "south" / "gap", sample_image(), series="g", keep=[0, 1, 3, 4])
    with caplog.at_level("INFO", logger="fedpedbrain"):
        convert()
    files = [path for path in [tmp_path / "series.tsv", *(tmp_path / "bids").rglob("*")] if path.is_file()]
    written = b"".join(path.read_bytes() for path in files) + caplog.text.encode()
    written += b"".join(gzip.decompress(path.read_bytes()) for path in files if path.suffix == ".gz")
    values = [*IDENTIFYING.values(), "HOSP-", "Erika", "case 1"]
    assert not [value for value in values if value.encode() in written]


def test_every_series_is_accounted_for(dicom, convert):
    image = sample_image()
    write_series(dicom / "south" / "a", image, series="a", PatientID="HOSP-2", keep=[0, 1, 3, 4])
    write_series(dicom / "south" / "b", image, series="b", PatientID="HOSP-2", SeriesDescription="DWI")
    write_series(dicom / "south" / "c", image, series="c", PatientID="HOSP-2", ImageType=["DERIVED", "LOCALIZER"])
    write_series(dicom / "south" / "d", image, series="d", PatientID="HOSP-2", keep=[0])
    outcomes = sorted(row["outcome"] for row in convert() if row["outcome"] != "converted")
    assert outcomes[0].startswith("no suffix matches (EchoTime 0.099, RepetitionTime 4.5); a word of its description")
    assert outcomes[1:3] == ["passed over: a localizer", "passed over: one slice"]
    assert "1 slice(s) missing" in outcomes[3]


def test_studies_are_sessions_in_the_order_of_time_and_repeats_are_runs(dicom, convert):
    image = sample_image()
    for day, names in {"20200101": ["b", "c"], "20190101": ["a"]}.items():
        for name in names:
            write_series(dicom / "south" / name, image, series=name, PatientID="HOSP-9", StudyDate=day)
    files = {row["file"].split("_", 1)[1] for row in convert() if "ses-" in row["file"]}
    assert files == {"ses-01_T2w.nii.gz", "ses-02_run-01_T2w.nii.gz", "ses-02_run-02_T2w.nii.gz"}


def test_names_stay_when_run_again_and_so_does_what_was_added_to_the_table(tmp_path, dicom, convert):
    first = convert()
    table = tmp_path / "bids" / "participants.tsv"
    rows = [row | {"diagnosis": "DIPG", "age": "7"} for row in read_table(table)]
    write_table(table, list(rows[0]), rows)
    assert convert() == first
    assert read_table(table) == rows


def test_with_a_key_patients_can_be_added(tmp_path, dicom, convert):
    key = tmp_path / "key.tsv"
    earlier = {row["series"]: row["subject"] for row in convert(key_file=str(key))}
    write_series(dicom / "north" / "new", sample_image(), series="new", PatientID="AAA")
    later = {row["series"]: row["subject"] for row in convert(key_file=str(key))}
    assert earlier.items() <= later.items()
    assert set(later.values()) - set(earlier.values()) == {"sub-004"}
    assert {row["patient_id"] for row in read_table(key)} == {"HOSP-0", "HOSP-1", "HOSP-2", "AAA"}
    assert key.stat().st_mode & 0o077 == 0


def test_without_a_key_other_patients_are_refused_and_nothing_changes(tmp_path, dicom, convert):
    convert()
    before = {path: path.read_bytes() for path in (tmp_path / "bids").rglob("*") if path.is_file()}
    shutil.rmtree(dicom / "north" / "case 0")
    with pytest.raises(StudyError, match=r"holds names of other patients .* name the key in conversion\.key_file"):
        convert()
    assert {path: path.read_bytes() for path in (tmp_path / "bids").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("spoil", "changes", "message"),
    [
        (lambda dicom: (dicom / "north").rename(dicom / "Doe"), {}, "is none of cohort.sites"),
        (
            lambda dicom: write_series(dicom / "south" / "x", sample_image(), series="x", PatientID="HOSP-0"),
            {},
            "one PatientID stands at several sites",
        ),
        (
            lambda dicom: write_series(dicom / "south" / "x", sample_image(), series="x", PatientID=None),
            {},
            "has no PatientID",
        ),
        (lambda dicom: shutil.rmtree(dicom), {}, "dicom_root: no folder at"),
        (lambda dicom: (dicom.parent / "bids").mkdir() or (dicom.parent / "bids" / "a").touch(), {}, "something else"),
        (lambda dicom: None, {"key_file": "bids/key.tsv"}, "lies in bids_root; the key belongs elsewhere"),
        (lambda dicom: None, {"suffixes": [{"suffix": "T9w", "words": ["t9"]}]}, "none of 3 series could be converted"),
    ],
)
def test_what_cannot_be_converted_is_refused(dicom, convert, monkeypatch, spoil, changes, message):
    monkeypatch.chdir(dicom.parent)
    spoil(dicom)
    with pytest.raises(StudyError, match=message):
        convert(**changes)
    assert not (dicom.parent / "bids" / "participants.tsv").exists()


def test_one_site_may_be_named_for_all(tmp_path, dicom, convert):
    convert(site="clinic")
    assert {row["site"] for row in read_table(tmp_path / "bids" / "participants.tsv")} == {"clinic"}
