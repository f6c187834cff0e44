import errno
import gzip
import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import IDENTIFYING, sample_image, write_enhanced, write_series
from fedpedbrain.base.errors import CohortError, StudyError
from fedpedbrain.base.files import read_table, write_table
from fedpedbrain.data.conversion.bids_conversion import convert_dicom_files, suffix_of
from fedpedbrain.data.formats.dicom_headers import Series
from fedpedbrain.data.sources.source import open_source
from pydicom.uid import generate_uid

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


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_sidecar_holds_the_acquisition_in_the_units_of_bids(tmp_path, dicom, convert):
    convert()
    sidecar = json.loads((tmp_path / "bids/sub-001/ses-01/anat/sub-001_ses-01_run-01_T2w.json").read_text())
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
    write_series(dicom / "south" / "Doe: Erika", sample_image(), series="g", keep=[0, 1, 3, 4])
    (truncated, *_) = write_series(dicom / "south" / "Doe: Erika: 2", sample_image(), series="h")
    truncated.write_bytes(truncated.read_bytes()[:-20])
    with caplog.at_level("INFO", logger="fedpedbrain"):
        rows = convert()
    assert [row["outcome"].split()[0] for row in rows].count("refused:") == 2
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
            study = {"StudyDate": day, "StudyInstanceUID": generate_uid(entropy_srcs=[day])}
            write_series(dicom / "south" / name, image, series=name, PatientID="HOSP-9", **study)
    files = [row["file"].split("_", 1)[1] for row in convert() if row["series"] in names_of("a", "b", "c")]
    assert sorted(files) == [
        "ses-01_run-01_T2w.nii.gz",
        "ses-02_run-01_T2w.nii.gz",
        "ses-02_run-02_T2w.nii.gz",
    ]


def names_of(*series):
    return [Series(str(generate_uid(entropy_srcs=[name])), ()).name for name in series]


def test_with_a_key_all_names_stay_and_new_ones_follow(tmp_path, dicom, convert):
    key, image = tmp_path / "key.tsv", sample_image()
    for name, day in {"middle": "20200101", "late": "20210101"}.items():
        uid = generate_uid(entropy_srcs=[day])
        write_series(dicom / "south" / name, image, series=name, StudyDate=day, StudyInstanceUID=uid)
    earlier = {row["series"]: row["file"] for row in convert(key_file=str(key))}
    before = contents(tmp_path / "bids")
    uid = generate_uid(entropy_srcs=["20190101"])
    write_series(dicom / "south" / "early", image, series="early", StudyDate="20190101", StudyInstanceUID=uid)
    uid = generate_uid(entropy_srcs=["20200101"])
    write_series(dicom / "south" / "again", image, series="0", StudyDate="20200101", StudyInstanceUID=uid)
    write_series(dicom / "north" / "new", image, series="new", PatientID="AAA")
    rows = convert(key_file=str(key))
    later = {row["series"]: row["file"] for row in rows}
    assert earlier.items() <= later.items()
    assert before.items() - contents(tmp_path / "bids").items() <= {
        ("participants.tsv", before["participants.tsv"]),
        ("dataset_description.json", before["dataset_description.json"]),
    }
    subject = earlier[names_of("middle")[0]].split("/")[0]
    assert [later[name].removeprefix(f"{subject}/") for name in names_of("middle", "late", "early", "0")] == [
        f"ses-01/anat/{subject}_ses-01_run-01_T2w.nii.gz",
        f"ses-02/anat/{subject}_ses-02_run-01_T2w.nii.gz",
        f"ses-03/anat/{subject}_ses-03_run-01_T2w.nii.gz",
        f"ses-01/anat/{subject}_ses-01_run-02_T2w.nii.gz",
    ]
    assert later[names_of("new")[0]].startswith("sub-005/")
    assert {row["file"]: row["patient"] for row in read_table(key)}[later[names_of("new")[0]]] == "AAA"
    assert key.stat().st_mode & 0o077 == 0


def test_what_the_user_wrote_into_the_table_stays_to_the_letter(tmp_path, dicom, convert):
    key, table = tmp_path / "key.tsv", tmp_path / "bids" / "participants.tsv"
    convert(key_file=str(key))
    lines = table.read_text().splitlines()
    edited = [f"{lines[0]}\tnote", *(f'{line}\t"8 years, 5\' 2"' for line in lines[1:])]
    table.write_text("".join(f"{line}\n" for line in edited))
    convert(key_file=str(key))
    assert table.read_text().splitlines() == edited
    write_series(dicom / "north" / "new", sample_image(), series="new", PatientID="AAA")
    convert(key_file=str(key))
    assert table.read_text().splitlines() == [*edited, "sub-004\tnorth\tn/a\tn/a"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda text: text.replace("site", "hospital").encode(),
            "expected a column 'site', found: participant_id",
        ),
        (lambda text: text.replace("n/a", "Müller").encode("latin-1"), "not UTF-8 text; save it as UTF-8"),
        (lambda text: (text + "sub-004\n").encode(), "line 5 has not as many cells as the header"),
        (lambda text: (text + "sub-004\tnorth\tn/a\n").encode(), r"holds sub-004, which .*key_file does not know"),
    ],
)
def test_a_table_that_cannot_be_added_to_is_refused_before_anything_is_written(
    tmp_path, dicom, convert, spoil, message
):
    key, table = tmp_path / "key.tsv", tmp_path / "bids" / "participants.tsv"
    convert(key_file=str(key))
    table.write_bytes(spoil(table.read_text()))
    before = contents(tmp_path)
    write_series(dicom / "north" / "new", sample_image(), series="new", PatientID="AAA")
    with pytest.raises(StudyError, match=message):
        convert(key_file=str(key))
    assert before.items() <= contents(tmp_path).items()
    assert contents(tmp_path / "bids").keys() == {
        name.removeprefix("bids/") for name in before if name.startswith("bids/")
    }


def without_key(folder):
    return None


def unwritten_key(folder):
    return str(folder / "unwritten.tsv")


def key_of_another_data_set(folder):
    rows = read_table(folder / "key.tsv")
    write_table(folder / "other.tsv", list(rows[0]), [row | {"data_set": "other"} for row in rows])
    return str(folder / "other.tsv")


def older_key(folder):
    rows = read_table(folder / "key.tsv")
    write_table(folder / "older.tsv", list(rows[0]), rows[:-1])
    return str(folder / "older.tsv")


def contradictory_key(folder):
    rows = read_table(folder / "key.tsv")
    write_table(folder / "odd.tsv", list(rows[0]), [*rows, rows[0] | {"patient": "B"}])
    return str(folder / "odd.tsv")


@pytest.mark.parametrize(
    ("key_file", "message"),
    [
        (without_key, "is not empty, and conversion.key_file is not the key of a data set in it"),
        (unwritten_key, "is not empty, and conversion.key_file is not the key of a data set in it"),
        (key_of_another_data_set, "is not empty, and conversion.key_file is not the key of a data set in it"),
        (older_key, r"holds sub-003/.*, which conversion.key_file does not know"),
        (contradictory_key, "contradicts itself at sub-001/"),
        (lambda folder: str(folder), "not a key that an earlier conversion wrote"),
        (lambda folder: str(folder / "series.tsv"), "not a key that an earlier conversion wrote"),
    ],
)
def test_nothing_is_added_without_the_newest_key_of_the_data_set(tmp_path, dicom, convert, key_file, message):
    convert(key_file=str(tmp_path / "key.tsv"))
    key = key_file(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(StudyError, match=message):
        convert(key_file=key)
    assert contents(tmp_path) == before


def test_nothing_is_added_to_a_data_set_that_has_no_key(tmp_path, dicom, convert):
    convert()
    before = contents(tmp_path)
    for key in (None, str(tmp_path / "key.tsv")):
        with pytest.raises(StudyError, match="is not empty"):
            convert(key_file=key)
    assert contents(tmp_path) == before


def test_a_patient_is_not_taken_for_one_of_another_site_who_came_earlier(tmp_path, dicom, convert):
    key = str(tmp_path / "key.tsv")
    convert(key_file=key)
    shutil.rmtree(dicom / "north")
    write_series(dicom / "south" / "x", sample_image(), series="x", PatientID="HOSP-0")
    with pytest.raises(StudyError, match=r"its PatientID stands at several sites \(north, south\)"):
        convert(key_file=key)


def test_a_series_whose_suffix_would_change_is_refused(tmp_path, dicom, convert):
    key = str(tmp_path / "key.tsv")
    convert(key_file=key)
    before = contents(tmp_path)
    with pytest.raises(StudyError, match=r"conversion.suffixes: now make PDw of sub-001/.*_T2w.nii.gz; put the words"):
        convert(key_file=key, suffixes=[{"suffix": "PDw", "words": ["t2"]}])
    assert contents(tmp_path) == before


def test_a_full_disk_stops_the_conversion(dicom, convert, monkeypatch):
    write, written = sitk.WriteImage, []

    def _write_one(*arguments, **named):
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(arguments)
        write(*arguments, **named)

    monkeypatch.setattr(sitk, "WriteImage", _write_one)
    with pytest.raises(StudyError, match=r"sub-002_ses-01_run-01_T2w\.nii\.gz: no space left on the disk"):
        convert()


def test_values_of_the_header_that_are_no_numbers_are_left_out(tmp_path, dicom, convert):
    for path in write_series(dicom / "south" / "odd", sample_image(), series="odd", SeriesNumber="11"):
        content = path.read_bytes()
        for value, other in {b"IS\2\x0011": b"S1", b"DS\2\x0099": b"TE", b"DS\4\x004500": b"inf "}.items():
            assert content.count(value) == 1
            content = content.replace(value, value[: -len(other)] + other)
        path.write_bytes(content)
    (file,) = [row["file"] for row in convert() if row["series"] in names_of("odd")]
    sidecar = json.loads((tmp_path / "bids" / file.replace(".nii.gz", ".json")).read_text())
    assert sidecar["FlipAngle"] == 160.0
    assert not sidecar.keys() & {"EchoTime", "RepetitionTime"}


def test_where_nothing_can_be_converted_every_reason_is_said(dicom, convert):
    write_series(dicom / "south" / "gap", sample_image(), series="g", keep=[0, 1, 3, 4], SeriesDescription="T9")
    with pytest.raises(CohortError) as caught:
        convert(suffixes=[{"suffix": "T9w", "words": ["t9"]}])
    assert "none of 4 series could be converted" in caught.value.problems[0]
    assert [line.split(": ")[0] for line in caught.value.problems[1:]] == ["3 series", "1 series"]
    assert "1 slice(s) missing" in caught.value.problems[2]


@pytest.mark.parametrize(
    ("spoil", "changes", "message"),
    [
        (lambda dicom: (dicom / "north").rename(dicom / "Doe"), {}, "is none of cohort.sites"),
        (
            lambda dicom: write_series(dicom / "south" / "x", sample_image(), series="x", PatientID="HOSP-0"),
            {},
            "its PatientID stands at several sites",
        ),
        (
            lambda dicom: write_series(dicom / "south" / "x", sample_image(), series="x", PatientID=None),
            {},
            "has no PatientID",
        ),
        (lambda dicom: shutil.rmtree(dicom), {}, "dicom_root: no folder at"),
        (lambda dicom: (dicom.parent / "bids").mkdir() or (dicom.parent / "bids" / "a").touch(), {}, "is not empty"),
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
