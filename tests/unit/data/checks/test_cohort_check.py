from dataclasses import replace

import pytest
from fedpedbrain.base.cases import EXTERNAL, TEST, TRAIN, VALIDATION, read_cases, write_cases
from fedpedbrain.base.errors import CohortError
from fedpedbrain.base.files import read_table, write_table
from fedpedbrain.data.checks.cohort_check import LEFT_OUT_COLUMNS, check_cohort_files, describe_contradictions
from fedpedbrain.data.checks.splits import SPLIT_COLUMNS


@pytest.fixture
def check(tmp_path):
    """``check({site: {case: split}}, keep_file)``: hold sites against each other; returns the folder of the tables."""

    def _check(sites: dict, keep_file=None):
        indexes, splits = [], []
        for site, cases in sites.items():
            indexes.append(tmp_path / f"index-{site}.tsv")
            splits.append(tmp_path / f"splits-{site}.tsv")
            write_cases(indexes[-1], cases)
            patients = {case.patient: case.split for case in cases}
            rows = ({"patient": name, "site": site, "split": split} for name, split in patients.items())
            write_table(splits[-1], SPLIT_COLUMNS, rows)
        tables = [tmp_path / name for name in ("index.tsv", "splits.tsv", "left_out.tsv")]
        check_cohort_files(indexes, splits, *tables, {"elsewhere": 3}, keep_file)
        return tmp_path

    return _check


@pytest.fixture
def sites(make_case) -> dict:
    """Cases of a training site and an external one."""
    splits = (TRAIN, VALIDATION, TEST)
    south = [make_case(f"s{number}", "south", split) for number, split in enumerate(splits)]
    return {"south": south, "east": [make_case("t", "east", EXTERNAL), make_case("e", "east", EXTERNAL)]}


def problems_of(check, *arguments) -> list[str]:
    with pytest.raises(CohortError) as caught:
        check(*arguments)
    return caught.value.problems


def test_all_cases_are_one_table_by_site_and_all_patients_another(check, sites):
    folder = check(sites)
    assert [case.case for case in read_cases(folder / "index.tsv")] == ["e", "t", "s0", "s1", "s2"]
    assert [(row["patient"], row["site"], row["split"]) for row in read_table(folder / "splits.tsv")] == [
        ("e", "east", EXTERNAL),
        ("s0", "south", TRAIN),
        ("s1", "south", VALIDATION),
        ("s2", "south", TEST),
        ("t", "east", EXTERNAL),
    ]
    assert read_table(folder / "left_out.tsv") == [dict(zip(LEFT_OUT_COLUMNS, ("elsewhere", "3"), strict=True))]


def test_a_cohort_that_contradicts_itself_is_refused_with_all_that_is_wrong(check, sites, make_case):
    copied = {"voxel_sha256": ("1",)}
    sites["east"] = [make_case("s0", "east", patient="other"), make_case("b", "east", patient="s2")]
    sites["east"].append(replace(make_case("c", "east"), **copied))
    sites["south"][1] = replace(sites["south"][1], **copied, split=TRAIN)
    assert problems_of(check, sites) == [
        "case s0: listed 2 times; names must be unique",
        "site south: an image of case s1 is, voxel by voxel, one of case c of another patient (site east); "
        "remove one, or name both as one patient",
        "patient s2: found at sites 'east' and 'south'; a patient belongs to one site",
        "cohort.splits: no patient is left for validation, which chooses each arm's best round; raise "
        "validation_fraction or add cases",
    ]


def test_a_refused_cohort_leaves_the_earlier_tables(check, sites, make_case):
    before = {path: path.read_bytes() for path in check(sites).glob("[!-]*.tsv") if "-" not in path.name}
    assert len(before) == 3
    problems_of(check, sites | {"west": [make_case("s0", "west")]})
    assert {path: path.read_bytes() for path in before} == before


def test_a_case_name_used_twice_at_one_site_is_refused(make_case):
    cases = [make_case("a", "north"), make_case("b", "north"), make_case("a", "north")]
    assert describe_contradictions(cases) == ["case a: listed 2 times; names must be unique"]


@pytest.mark.parametrize("kept", [{}, {"sub-01": TRAIN, "sub-02": TEST}], ids=["empty", "another cohort"])
def test_a_file_to_keep_that_knows_none_of_the_patients_is_refused(check, sites, tmp_path, kept):
    rows = ({"patient": name, "split": split} for name, split in kept.items())
    write_table(tmp_path / "old.tsv", ["patient", "split"], rows)
    (problem,) = problems_of(check, sites, tmp_path / "old.tsv")
    assert f"old.tsv: none of its {len(kept)} patients is in the cohort" in problem


def test_a_file_to_keep_need_not_know_the_patients_of_every_site(check, sites, tmp_path):
    write_table(tmp_path / "old.tsv", ["patient", "split"], [{"patient": "s0", "split": TRAIN}])
    check(sites, tmp_path / "old.tsv")
