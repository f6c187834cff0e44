from collections import Counter, defaultdict

import pytest
from fedpedbrain.base.cases import EXTERNAL, TEST, TRAIN, VALIDATION, write_cases
from fedpedbrain.base.errors import CohortError, StudyError
from fedpedbrain.base.files import read_table, write_table
from fedpedbrain.data.checks.splits import assign_splits, split_site_files

SETTINGS = {"seed": 0, "test_fraction": 0.25, "validation_fraction": 0.25, "keep_file": None}
# A border lies between two splits that follow each other in this order.
ORDER = [TEST, VALIDATION, TRAIN]


def stratum(site: str, class_name: str, count: int, start: int = 0) -> dict[str, tuple[str, str]]:
    return {f"{site}-{class_name}-{number:04d}": (site, class_name) for number in range(start, start + count)}


def large_cohort() -> dict[str, tuple[str, str]]:
    sizes = {("north", "a"): 101, ("north", "b"): 7, ("north", "c"): 1, ("south", "a"): 40, ("south", "b"): 263}
    return {name: home for (site, label), count in sizes.items() for name, home in stratum(site, label, count).items()}


def split_sizes(patients: dict, splits: dict) -> dict[tuple[str, str], Counter]:
    sizes: dict[tuple[str, str], Counter] = defaultdict(Counter)
    for name, home in patients.items():
        sizes[home][splits[name]] += 1
    return sizes


def test_every_patient_has_one_split():
    patients = large_cohort()
    splits = assign_splits(patients, [], 0.25, 0.1, 0)
    assert splits.keys() == patients.keys()
    assert set(splits.values()) == {TRAIN, VALIDATION, TEST}


@pytest.mark.parametrize("seed", range(5))
def test_each_stratum_keeps_the_fractions_within_one_patient(seed):
    patients = large_cohort()
    splits = assign_splits(patients, [], 0.2, 0.1, seed)
    for home, sizes in split_sizes(patients, splits).items():
        total = sizes.total()
        assert abs(sizes[TEST] - 0.2 * total) < 1, home
        assert abs(sizes[VALIDATION] - 0.1 * total) < 1, home


def test_the_fractions_hold_over_many_small_strata():
    patients = {name: home for number in range(300) for name, home in stratum("north", f"c{number}", 2).items()}
    counts = Counter(assign_splits(patients, [], 0.25, 0.1, 0).values())
    assert counts[TEST] == pytest.approx(150, abs=30)
    assert counts[VALIDATION] == pytest.approx(60, abs=25)


def test_the_order_of_the_patients_does_not_matter():
    patients = large_cohort()
    turned = dict(reversed(patients.items()))
    assert assign_splits(turned, [], 0.25, 0.1, 0) == assign_splits(patients, [], 0.25, 0.1, 0)


def test_another_seed_draws_other_patients():
    patients = large_cohort()
    assert assign_splits(patients, [], 0.25, 0.1, 1) != assign_splits(patients, [], 0.25, 0.1, 0)


def test_patients_of_external_sites_are_all_external():
    patients = stratum("north", "a", 20) | stratum("west", "a", 20)
    splits = assign_splits(patients, ["west"], 0.25, 0.1, 0)
    assert {splits[name] for name, (site, _) in patients.items() if site == "west"} == {EXTERNAL}
    assert EXTERNAL not in {splits[name] for name, (site, _) in patients.items() if site == "north"}


def test_a_new_patient_leaves_every_other_stratum_as_it_was():
    patients = large_cohort()
    before = assign_splits(patients, [], 0.25, 0.1, 0)
    after = assign_splits(patients | stratum("north", "a", 1, start=500), [], 0.25, 0.1, 0)
    others = [name for name, home in patients.items() if home != ("north", "a")]
    assert {name: after[name] for name in others} == {name: before[name] for name in others}


@pytest.mark.parametrize("fractions", [(0.25, 0.1), (0.2, 0.2), (0.3, 0.15)])
def test_a_new_patient_moves_at_most_one_patient_across_each_border(fractions):
    for seed in range(10):
        for count in range(10, 40):
            patients = stratum("north", "a", count)
            before = assign_splits(patients, [], *fractions, seed)
            after = assign_splits(patients | stratum("north", "a", 1, start=500), [], *fractions, seed)
            for border in (0, 1):
                crossed = [
                    name
                    for name in patients
                    if (ORDER.index(before[name]) <= border) != (ORDER.index(after[name]) <= border)
                ]
                assert len(crossed) <= 1, (seed, count, ORDER[border], crossed)


@pytest.mark.parametrize("seed", range(5))
def test_with_kept_splits_nobody_moves(seed):
    patients = large_cohort()
    before = assign_splits(patients, [], 0.25, 0.1, seed)
    grown = patients | stratum("north", "a", 30, start=500) | stratum("south", "d", 9)
    after = assign_splits(grown, [], 0.25, 0.1, seed, kept=before)
    assert {name: after[name] for name in patients} == before
    sizes = split_sizes(grown, after)["north", "a"]
    assert abs(sizes[TEST] - 0.25 * 131) < 1


@pytest.mark.parametrize("seed", range(10))
def test_a_site_that_lacks_a_split_takes_a_new_patient_for_it_and_no_kept_one(seed):
    patients = stratum("north", "a", 4)
    kept = dict.fromkeys(patients, TRAIN)
    splits = assign_splits(patients | stratum("north", "b", 1), [], 0.05, 0.05, seed, kept=kept)
    assert splits == kept | {"north-b-0000": TEST}


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("classes", ["a", "ab", "abc"])
def test_a_tiny_site_has_somebody_to_train_on_and_somebody_to_test_on(count, classes):
    for seed in range(200):
        patients = {f"p{number}": ("north", classes[number % len(classes)]) for number in range(count)}
        splits = assign_splits(patients, [], 0.3, 0.3, seed)
        assert {TRAIN, TEST} <= set(splits.values()), (seed, splits)


def test_a_site_of_one_patient_stays_as_it_is_drawn():
    assert len(assign_splits({"p": ("north", "a")}, [], 0.25, 0.1, 0)) == 1


@pytest.fixture
def index(tmp_path, make_case):
    """An index of the site north, two cases a patient."""
    cases = [
        make_case(f"north-{number:02d}-{visit}", "north", "", patient=f"north-{number:02d}")
        for number in range(12)
        for visit in (1, 2)
    ]
    write_cases(tmp_path / "index.tsv", cases)
    return tmp_path / "index.tsv"


def test_the_table_has_one_row_a_patient_in_order(tmp_path, index):
    split_site_files(index, tmp_path / "splits.tsv", "north", False, SETTINGS)
    rows = read_table(tmp_path / "splits.tsv")
    assert [(row["patient"], row["site"]) for row in rows] == [(f"north-{number:02d}", "north") for number in range(12)]
    assert Counter(row["split"] for row in rows) == {TEST: 3, VALIDATION: 3, TRAIN: 6}


def test_patients_of_an_external_site_are_all_external(tmp_path, index):
    split_site_files(index, tmp_path / "splits.tsv", "north", True, SETTINGS)
    assert {row["split"] for row in read_table(tmp_path / "splits.tsv")} == {EXTERNAL}


def test_sites_are_split_alone_as_they_are_together():
    patients = stratum("north", "a", 13) | stratum("north", "b", 2) | stratum("south", "a", 7) | stratum("west", "b", 3)
    kept = dict.fromkeys(list(patients)[::5], TEST)
    together = assign_splits(patients, ["west"], 0.25, 0.1, 0, kept)
    alone = {}
    for site in ("north", "south", "west"):
        own = {patient: place for patient, place in patients.items() if place[0] == site}
        alone |= assign_splits(own, [site] if site == "west" else [], 0.25, 0.1, 0, kept)
    assert alone == together


def test_a_training_site_of_one_patient_is_refused_with_its_number(tmp_path, make_case):
    write_cases(tmp_path / "index.tsv", [make_case("a-1", patient="a"), make_case("a-2", patient="a")])
    with pytest.raises(CohortError, match=r"site north: 1 patient\(s\), a training site needs at least 2"):
        split_site_files(tmp_path / "index.tsv", tmp_path / "splits.tsv", "north", False, SETTINGS)
    assert not (tmp_path / "splits.tsv").exists()


def test_an_external_site_may_have_one_patient(tmp_path, make_case):
    write_cases(tmp_path / "index.tsv", [make_case("a", "west")])
    split_site_files(tmp_path / "index.tsv", tmp_path / "splits.tsv", "west", True, SETTINGS)


def test_patients_of_an_earlier_study_keep_its_splits(tmp_path, index):
    kept = [{"patient": f"north-{number:02d}", "split": TEST if number < 3 else TRAIN} for number in range(6)]
    write_table(tmp_path / "old.tsv", ["patient", "split"], kept)
    settings = SETTINGS | {"keep_file": str(tmp_path / "old.tsv")}
    split_site_files(index, tmp_path / "splits.tsv", "north", False, settings)
    found = {row["patient"]: row["split"] for row in read_table(tmp_path / "splits.tsv")}
    assert {row["patient"]: found[row["patient"]] for row in kept} == {row["patient"]: row["split"] for row in kept}


def test_an_unknown_split_in_the_file_to_keep_is_refused_by_name(tmp_path, index):
    write_table(tmp_path / "old.tsv", ["patient", "split"], [{"patient": "north-01", "split": "training"}])
    settings = SETTINGS | {"keep_file": str(tmp_path / "old.tsv")}
    with pytest.raises(StudyError, match=r"old\.tsv.*training"):
        split_site_files(index, tmp_path / "splits.tsv", "north", False, settings)


def test_a_file_to_keep_without_its_columns_is_refused_by_name(tmp_path, index):
    write_table(tmp_path / "old.tsv", ["case", "split"], [{"case": "north-01", "split": TRAIN}])
    settings = SETTINGS | {"keep_file": str(tmp_path / "old.tsv")}
    with pytest.raises(StudyError, match=r"old\.tsv.*patient"):
        split_site_files(index, tmp_path / "splits.tsv", "north", False, settings)


@pytest.fixture
def split_with_kept(tmp_path, index):
    """Split the index with a file to keep."""

    def _split(kept: dict[str, str], *more: tuple[str, str]) -> list[dict[str, str]]:
        rows = [{"patient": name, "split": split} for name, split in [*kept.items(), *more]]
        write_table(tmp_path / "old.tsv", ["patient", "split"], rows)
        settings = SETTINGS | {"keep_file": str(tmp_path / "old.tsv")}
        split_site_files(index, tmp_path / "splits.tsv", "north", False, settings)
        return read_table(tmp_path / "splits.tsv")

    return _split


def test_a_file_to_keep_with_two_splits_of_one_patient_is_refused(split_with_kept):
    with pytest.raises(StudyError, match=r"old\.tsv: patient north-01 is train and test; keep one of the rows"):
        split_with_kept({"north-01": TRAIN}, ("north-01", TEST))


def test_a_row_to_keep_may_stand_there_twice(split_with_kept):
    rows = split_with_kept({"north-01": TRAIN}, ("north-01", TRAIN))
    assert {"patient": "north-01", "site": "north", "split": TRAIN} in rows


@pytest.mark.parametrize(("all_of", "lacking"), [(TRAIN, TEST), (TEST, TRAIN)])
def test_kept_splits_that_leave_a_training_site_nobody_are_refused(split_with_kept, all_of, lacking):
    kept = {f"north-{number:02d}": all_of for number in range(12)}
    with pytest.raises(CohortError, match=f"site north: no patient is left for {lacking}; .*keep_file"):
        split_with_kept(kept)


def test_patients_of_a_site_that_was_external_train_when_it_trains():
    patients = {f"p{number}": ("north", "DIPG") for number in range(10)}
    kept = dict.fromkeys(patients, "external")
    assert set(assign_splits(patients, [], 0.2, 0.2, 0, kept).values()) == {"train", "validation", "test"}
