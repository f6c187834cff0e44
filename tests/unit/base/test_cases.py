from dataclasses import replace

import pytest
from fedpedbrain.base.cases import Case, read_cases, read_split_cases, write_cases
from fedpedbrain.base.errors import CohortError
from fedpedbrain.base.files import write_table

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
    grid_spacing_mm=(5.5, 4.5, 4.25),
    grid_sha256=("01" * 32, "23" * 32),
    grid_shape=(24, 48, 40),
    orientation="oblique axial LPS",
    voxel_sha256=("cd" * 32, "ef" * 32),
)


@pytest.mark.parametrize(
    "case",
    [
        CASE,
        replace(CASE, images=(), mask="", class_name="", orientation="", voxel_sha256=()),
        replace(CASE, split="", grid_spacing_mm=(), grid_sha256=(), grid_shape=()),
        replace(CASE, images=("/data/Hôpital Süd/a.nii.gz",)),
    ],
    ids=["complete", "nothing known", "before preprocessing", "one image, letters beyond ASCII"],
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


def test_the_table_keeps_volumes_to_a_ten_thousandth(tmp_path):
    case = replace(CASE, grid_spacing_mm=(7.3333333, 4.6666667, 4.1234567))
    write_cases(tmp_path / "cases.tsv", [case])
    (read,) = read_cases(tmp_path / "cases.tsv")
    assert read.grid_voxel_ml == pytest.approx(case.grid_voxel_ml, rel=1e-4)


def test_the_volume_of_a_grid_voxel_is_the_product_of_its_sides():
    assert replace(CASE, grid_spacing_mm=(5.0, 4.0, 3.0)).grid_voxel_ml == pytest.approx(0.06)


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


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([("sub-01", "train"), ("sub-01", "test")], "patient sub-01 is train and test; a patient has one split"),
        ([("sub-01", "training")], "patient sub-01 is 'training', expected one of train, validation, test, external"),
        ([("sub-02", "train")], "patient sub-01 has no split; delete the file and run again"),
    ],
    ids=["two splits", "no split's name", "unknown patient"],
)
def test_a_table_of_splits_that_leaves_a_patients_split_open_is_refused(tmp_path, rows, problem):
    write_cases(tmp_path / "index.tsv", [CASE])
    columns = ["patient", "split"]
    write_table(tmp_path / "splits.tsv", columns, (dict(zip(columns, row, strict=True)) for row in rows))
    with pytest.raises(CohortError) as caught:
        read_split_cases(tmp_path / "index.tsv", tmp_path / "splits.tsv")
    assert str(caught.value).startswith(f"{tmp_path / 'splits.tsv'}: {problem}")
