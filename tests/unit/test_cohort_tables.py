from dataclasses import replace

import pytest
from fedpedbrain.cohort import UNKNOWN_CLASS, Case, grid_voxel_ml, read_cases, read_split_cases, write_cases
from fedpedbrain.files import write_table

CASE = Case(
    case="sub-01_ses-1",
    patient="sub-01",
    site="north",
    class_name="dipg",
    images=("/data/a_T1w.nii.gz", "/data/a_T2w.nii.gz"),
    mask="/data/a_mask.nii.gz",
    shape=(24, 256, 200),
    spacing_mm=(5.5, 0.9375, 0.9375),
    sha256="ab" * 32,
    split="train",
)


@pytest.mark.parametrize(
    "case",
    [
        CASE,
        replace(CASE, images=(), mask="", class_name=UNKNOWN_CLASS, split=""),
        replace(CASE, images=("/data/Hôpital Süd/a.nii.gz",)),
    ],
    ids=["complete", "nothing known", "one image, letters beyond ASCII"],
)
def test_a_case_survives_its_table(tmp_path, case):
    write_cases(tmp_path / "cases.tsv", [case])
    assert read_cases(tmp_path / "cases.tsv") == [case]


def test_rows_keep_their_order(tmp_path):
    cases = [replace(CASE, case=name) for name in ("c", "a", "b")]
    write_cases(tmp_path / "cases.tsv", cases)
    assert [case.case for case in read_cases(tmp_path / "cases.tsv")] == ["c", "a", "b"]


def test_a_table_without_rows_reads_as_no_cases(tmp_path):
    write_cases(tmp_path / "cases.tsv", [])
    assert read_cases(tmp_path / "cases.tsv") == []


def test_the_table_keeps_volumes_to_a_thousandth(tmp_path):
    case = replace(CASE, spacing_mm=(3.4375, 0.46875, 0.468755))
    write_cases(tmp_path / "cases.tsv", [case])
    (read,) = read_cases(tmp_path / "cases.tsv")
    assert grid_voxel_ml(read, (24, 48, 48)) == pytest.approx(grid_voxel_ml(case, (24, 48, 48)), rel=1e-3)


def test_a_grid_voxel_is_its_part_of_the_field_of_view():
    # 50 x 20 x 30 mm are 30 ml in 5 x 10 x 10 voxels.
    case = replace(CASE, shape=(10, 20, 30), spacing_mm=(5.0, 1.0, 1.0))
    assert grid_voxel_ml(case, (5, 10, 10)) == pytest.approx(0.06)


def test_all_cases_of_a_patient_get_the_patients_split(tmp_path):
    cases = [
        replace(CASE, split=""),
        replace(CASE, case="sub-01_ses-2", split=""),
        replace(CASE, case="sub-02", patient="sub-02", split=""),
    ]
    write_cases(tmp_path / "index.tsv", cases)
    rows = [{"patient": "sub-02", "split": "train"}, {"patient": "sub-01", "split": "test"}]
    write_table(tmp_path / "splits.tsv", ["patient", "split"], rows)
    found = read_split_cases(tmp_path / "index.tsv", tmp_path / "splits.tsv")
    assert [(case.case, case.split) for case in found] == [
        ("sub-01_ses-1", "test"),
        ("sub-01_ses-2", "test"),
        ("sub-02", "train"),
    ]
