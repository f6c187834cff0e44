import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from fedpedbrain.base.cases import UNKNOWN_CLASS, Case
from fedpedbrain.base.errors import CohortError, StudyError
from fedpedbrain.data.sources.source import open_source


def find(settings: dict) -> dict[str, Case]:
    return {case.case: case for case in open_source(settings).find_cases()}


def problems_of(settings: dict) -> list[str]:
    with pytest.raises(CohortError) as caught:
        open_source(settings).find_cases()
    return caught.value.problems


# What is read.


def test_every_participant_of_the_studys_sites_is_a_case(bids, source_settings):
    cases = find(source_settings)
    assert list(cases) == ["sub-01", "sub-02", "sub-03", "sub-04"]
    case = cases["sub-01"]
    assert (case.patient, case.site, case.class_name, case.split) == ("sub-01", "north", "dipg", "")
    assert case.images == (str(bids.image("sub-01")),)
    assert case.mask == str(bids.mask("sub-01"))


def test_shape_and_spacing_run_from_feet_to_head_first(bids, source_settings):
    case = find(source_settings)["sub-01"]
    assert case.shape == (4, 6, 5)
    assert case.spacing_mm == pytest.approx((4.0, 2.0, 2.0))


def test_a_case_reads_as_it_was_written(bids, source_settings):
    source = open_source(source_settings)
    volume = source.read_case(source.find_cases()[0])
    assert len(volume.images) == 1
    assert sitk.GetArrayFromImage(volume.mask).sum() == 8
    assert sitk.GetArrayFromImage(volume.images[0])[1, 2, 1] > 500


def test_sessions_are_cases_of_one_patient(bids, source_settings):
    bids.add("sub-05", "north", "dipg", session="ses-a")
    bids.add("sub-05", "north", "dipg", session="ses-b")
    cases = find(source_settings)
    assert {name: case.patient for name, case in cases.items() if name.startswith("sub-05")} == {
        "sub-05_ses-a": "sub-05",
        "sub-05_ses-b": "sub-05",
    }
    assert cases["sub-05_ses-b"].images == (str(bids.image("sub-05", "ses-b")),)
    assert cases["sub-05_ses-b"].mask == str(bids.mask("sub-05", "ses-b"))


def test_channels_stand_in_the_order_of_the_config(bids, source_settings, config):
    source_settings["sites"] = ["clinic"]
    source_settings["bids"] = config["bids"] | {"image_suffixes": ["T2w", "T1w"]}
    bids.add("sub-05", "clinic", "dipg", suffixes=("T1w", "T2w"))
    case = find(source_settings)["sub-05"]
    assert case.images == (str(bids.image("sub-05", suffix="T2w")), str(bids.image("sub-05", suffix="T1w")))


@pytest.mark.parametrize("value", ["n/a", ""])
def test_a_diagnosis_that_is_not_available_is_unknown(bids, source_settings, value):
    bids.add("sub-05", "north", value)
    assert find(source_settings)["sub-05"].class_name == UNKNOWN_CLASS


def test_the_class_map_renames_diagnoses(bids, source_settings, config):
    bids.add("sub-05", "north", "diffuse midline glioma")
    source_settings["bids"] = config["bids"] | {"class_map": {"diffuse midline glioma": "dipg"}}
    assert find(source_settings)["sub-05"].class_name == "dipg"


def test_without_classes_the_diagnosis_is_not_read(bids, source_settings):
    bids.write_participants(("participant_id", "site"))
    source_settings["cohort"]["classes"] = []
    assert {case.class_name for case in find(source_settings).values()} == {UNKNOWN_CLASS}


def test_without_regions_masks_are_not_read(bids, source_settings):
    shutil.rmtree(bids.root / "derivatives")
    source_settings["cohort"]["regions"] = []
    assert {case.mask for case in find(source_settings).values()} == {""}


def test_a_case_without_a_mask_file_reads_without_a_mask(bids, source_settings):
    source_settings["cohort"]["regions"] = []
    source = open_source(source_settings)
    assert source.read_case(source.find_cases()[0]).mask is None


def test_participants_of_sites_outside_the_study_are_left_out_whatever_their_files(bids, source_settings):
    bids.add("sub-05", "elsewhere", "strange diagnosis")
    bids.image("sub-05").write_bytes(b"not a volume")
    assert "sub-05" not in find(source_settings)


def test_quotation_marks_are_letters_like_any_other(bids, source_settings):
    # BIDS knows no quoting: one mark would swallow every row up to the next one.
    rows = [f"{row['participant_id']}\t{row['site']}\t{row['diagnosis']}\t" for row in bids.rows.values()]
    rows[0] += '"big lesion'
    text = "\n".join(["participant_id\tsite\tdiagnosis\tremark", *rows])
    (bids.root / "participants.tsv").write_text(text + "\n")
    assert list(find(source_settings)) == ["sub-01", "sub-02", "sub-03", "sub-04"]


@pytest.mark.parametrize("part", ["image", "mask", "diagnosis"])
def test_the_digest_of_a_case_changes_with_its(bids, source_settings, write_volume, part):
    before = find(source_settings)
    if part == "diagnosis":
        bids.rows["sub-01"]["diagnosis"] = "normal"
        bids.write_participants()
    else:
        path = getattr(bids, part)("sub-01")
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        array[0, 0, 0] = 1
        write_volume(path, array)
    after = find(source_settings)
    assert after["sub-01"].sha256 != before["sub-01"].sha256
    assert after["sub-02"].sha256 == before["sub-02"].sha256


# What is wrong with a case.


@pytest.fixture
def the_problem(bids, source_settings):
    """The one problem of the data set, which must name the site and the participant."""

    def _the_problem(subject: str = "sub-03") -> str:
        (problem,) = problems_of(source_settings)
        assert problem.startswith("site south: ")
        assert subject in problem
        return problem

    return _the_problem


def test_a_mask_of_another_shape_is_refused(bids, the_problem, write_volume):
    write_volume(bids.mask("sub-03"), np.zeros((4, 6, 7), np.uint8))
    assert "sub-03_mask.nii.gz: shape (7, 6, 4) differs from (5, 6, 4) of sub-03_T2w.nii.gz" in the_problem()


def test_a_shifted_mask_is_refused(bids, the_problem, write_volume):
    write_volume(bids.mask("sub-03"), np.zeros(bids.shape, np.uint8), origin=(2.0, 0.0, 0.0))
    assert "sub-03_mask.nii.gz: origin, spacing or direction differ from sub-03_T2w.nii.gz" in the_problem()


def test_a_mask_label_outside_the_regions_is_refused(bids, the_problem, write_volume):
    write_volume(bids.mask("sub-03"), np.full(bids.shape, 4, np.uint8))
    assert "sub-03_mask.nii.gz: mask label 4 belongs to no region of cohort.regions (labels [1])" in the_problem()


def test_a_mask_of_fractions_is_refused(bids, the_problem, write_volume):
    write_volume(bids.mask("sub-03"), np.full(bids.shape, 0.5, np.float32))
    assert "sub-03_mask.nii.gz: mask label 0.5 belongs to no region" in the_problem()


def test_a_missing_mask_is_refused(bids, the_problem):
    bids.mask("sub-03").unlink()
    assert "expected one file like derivatives/masks/sub-03/anat/*_mask.nii.gz, found 0 (none)" in the_problem()


def test_a_diagnosis_outside_the_classes_is_refused(bids, source_settings):
    bids.rows["sub-03"]["diagnosis"] = "glioma"
    bids.write_participants()
    assert problems_of(source_settings) == [
        "class name 'glioma' (1 case(s): 1 at site south) is none of cohort.classes (normal, dipg); no class has a "
        'name like it: add "glioma": CLASS to bids.class_map, or the class to cohort.classes'
    ]


def test_diagnoses_of_sites_outside_the_study_need_no_class(bids, source_settings):
    bids.add("sub-05", "elsewhere", "glioma")
    assert len(find(source_settings)) == 4


def test_a_missing_image_is_refused(bids, the_problem):
    bids.image("sub-03").unlink()
    assert "expected one file like **/*_T2w.nii.gz, found 0 (none)" in the_problem()


def test_a_missing_folder_is_refused(bids, the_problem):
    shutil.rmtree(bids.root / "sub-03")
    assert "found 0 (none)" in the_problem()


def test_two_images_of_one_channel_are_refused_with_their_names(bids, the_problem):
    shutil.copy(bids.image("sub-03"), bids.image("sub-03").with_name("sub-03_run-2_T2w.nii.gz"))
    assert "found 2 (sub-03_T2w.nii.gz, sub-03_run-2_T2w.nii.gz)" in the_problem().replace(
        "sub-03_run-2_T2w.nii.gz, sub-03_T2w.nii.gz", "sub-03_T2w.nii.gz, sub-03_run-2_T2w.nii.gz"
    )


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("part", ["image", "mask"])
def test_a_truncated_file_is_refused(bids, the_problem, write_volume, part, kept):
    path = getattr(bids, part)("sub-03")
    write_volume(path, np.random.default_rng(0).integers(0, 999, (8, 32, 32), dtype=np.int16))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert f"{path.name}: not a readable volume; it may be missing or truncated" in the_problem()


def test_a_file_damaged_on_its_way_is_refused(bids, the_problem, write_volume):
    path = write_volume(bids.image("sub-03"), np.random.default_rng(0).integers(0, 999, bids.shape, dtype=np.int16))
    content = bytearray(path.read_bytes())
    content[-60] ^= 0xFF
    path.write_bytes(content)
    assert path.name in the_problem()


def test_an_image_with_nan_is_refused(bids, the_problem, write_volume):
    array = np.ones(bids.shape, np.float32)
    array[0, 0, 0] = np.nan
    write_volume(bids.image("sub-03"), array)
    assert "sub-03_T2w.nii.gz: the image holds NaN or infinite values" in the_problem()


def test_a_mask_with_nan_is_refused(bids, the_problem, write_volume):
    # Read as it is, it would be background.
    array = np.zeros(bids.shape, np.float32)
    array[0, 0, 0] = np.nan
    write_volume(bids.mask("sub-03"), array)
    assert "sub-03_mask.nii.gz: the image holds NaN or infinite values" in the_problem()


def test_a_single_slice_is_refused(bids, the_problem):
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((6, 5), np.float32)), str(bids.image("sub-03")))
    assert "sub-03_T2w.nii.gz: expected a 3-D volume, found 2 dimensions" in the_problem()


def test_channels_on_different_grids_are_refused(bids, source_settings, config, write_volume):
    source_settings["sites"] = ["clinic"]
    source_settings["bids"] = config["bids"] | {"image_suffixes": ["T2w", "T1w"]}
    bids.add("sub-05", "clinic", "dipg", suffixes=("T1w", "T2w"))
    write_volume(bids.image("sub-05", suffix="T1w"), np.ones((4, 6, 6), np.int16))
    (problem,) = problems_of(source_settings)
    assert problem.startswith("site clinic: ")
    assert "sub-05_T1w.nii.gz: shape (6, 6, 4) differs from (5, 6, 4) of sub-05_T2w.nii.gz" in problem


# What is wrong with the data set.


def test_all_problems_are_said_at_once(bids, source_settings, write_volume):
    bids.image("sub-01").unlink()
    bids.mask("sub-02").unlink()
    write_volume(bids.mask("sub-04"), np.full(bids.shape, 4, np.uint8))
    problems = problems_of(source_settings)
    assert [problem.split(": ")[0] for problem in problems] == ["site north", "site north", "site south"]


def test_a_site_without_participants_is_refused_by_name(bids, source_settings):
    source_settings["sites"] = ["north", "south", "nrth"]
    (problem,) = problems_of(source_settings)
    assert "participants.tsv: no participant of site 'nrth' in column 'site'; correct cohort.sites" in problem


def test_a_site_without_participants_is_said_beside_other_problems(bids, source_settings):
    bids.image("sub-01").unlink()
    source_settings["sites"] = ["north", "south", "nrth"]
    problems = problems_of(source_settings)
    assert len(problems) == 2
    assert "no participant of site 'nrth'" in problems[1]


def test_a_site_whose_cases_are_all_wrong_is_not_said_to_have_none(bids, source_settings):
    bids.image("sub-03").unlink()
    bids.image("sub-04").unlink()
    assert not [problem for problem in problems_of(source_settings) if "no participant" in problem]


def refusal(settings: dict) -> str:
    with pytest.raises(StudyError) as caught:
        open_source(settings).find_cases()
    return str(caught.value)


def test_missing_participants_are_refused_by_the_files_name(bids, source_settings):
    (bids.root / "participants.tsv").unlink()
    assert "bids/participants.tsv: missing" in refusal(source_settings)


def test_participants_that_are_not_utf_8_are_refused(bids, source_settings):
    bids.rows["sub-01"]["diagnosis"] = "Ependymom, anaplastisch, Süd"
    bids.write_participants()
    path = bids.root / "participants.tsv"
    path.write_bytes(path.read_text(encoding="utf-8").encode("latin-1"))
    assert "bids/participants.tsv: not UTF-8 text; save it as UTF-8" in refusal(source_settings)


def test_participants_with_a_byte_order_mark_are_read(bids, source_settings):
    path = bids.root / "participants.tsv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(find(source_settings)) == 4


@pytest.mark.parametrize("column", ["participant_id", "site", "diagnosis"])
def test_a_missing_column_is_refused_with_the_columns_there_are(bids, source_settings, column):
    others = [name for name in ("participant_id", "site", "diagnosis") if name != column]
    bids.write_participants(others)
    message = refusal(source_settings)
    assert f"participants.tsv: expected a column {column!r}, found: {', '.join(others)}" in message


def test_participants_without_rows_are_refused(bids, source_settings):
    bids.rows.clear()
    bids.write_participants()
    assert "participants.tsv" in refusal(source_settings)


@pytest.mark.parametrize(("row", "found"), [("sub-05", "fewer"), ("sub-05\tnorth\tdipg\textra", "more")])
def test_a_row_of_another_length_is_refused_by_the_participants_name(bids, source_settings, row, found):
    with (bids.root / "participants.tsv").open("a") as file:
        file.write(f"{row}\n")
    assert f"participants.tsv: the row of sub-05 has {found} cells than the header" in refusal(source_settings)


def test_a_data_set_that_is_not_there_is_refused_by_name(source_settings, tmp_path):
    assert f"no folder at {tmp_path}/nowhere" in refusal(source_settings | {"root": str(tmp_path / "nowhere")})


def test_a_data_set_that_is_not_given_is_refused_with_what_to_add(source_settings):
    assert "--config cohort_root=PATH" in refusal(source_settings | {"root": None})
