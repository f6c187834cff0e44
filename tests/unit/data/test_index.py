import pytest
from fedpedbrain.cohort import read_cases
from fedpedbrain.data.index import check_sites, index_cohort_files
from fedpedbrain.data.sources import open_source
from fedpedbrain.errors import CohortError
from fedpedbrain.files import read_table


def test_the_index_is_ordered_by_site_and_case(tmp_path, bids, source_settings):
    bids.add("sub-00", "south", "dipg")
    index_cohort_files(source_settings, tmp_path / "index.tsv", tmp_path / "left_out.tsv")
    found = [(case.site, case.case) for case in read_cases(tmp_path / "index.tsv")]
    assert found == [
        ("north", "sub-01"),
        ("north", "sub-02"),
        ("south", "sub-00"),
        ("south", "sub-03"),
        ("south", "sub-04"),
    ]


def test_the_same_cohort_gives_the_same_bytes(tmp_path, source_settings):
    for name in ("first", "second"):
        index_cohort_files(source_settings, tmp_path / name, tmp_path / "left_out.tsv")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_participants_of_other_sites_are_counted_by_site(tmp_path, bids, source_settings):
    index_cohort_files(source_settings, tmp_path / "index.tsv", tmp_path / "left_out.tsv")
    assert read_table(tmp_path / "left_out.tsv") == []
    for number, site in enumerate(("South", "South", "n/a")):
        bids.add(f"sub-1{number}", site, "dipg")
    index_cohort_files(source_settings, tmp_path / "index.tsv", tmp_path / "left_out.tsv")
    assert read_table(tmp_path / "left_out.tsv") == [
        {"site": "South", "num_participants": "2"},
        {"site": "n/a", "num_participants": "1"},
    ]


def test_nobody_of_a_simulated_cohort_is_left_out(config):
    settings = {"cohort": config["cohort"], "sites": ["north"], "phantom": config["phantom"]}
    assert open_source(settings).count_left_out() == {}


def test_a_training_site_of_one_patient_is_refused_with_its_number(make_case):
    cases = [make_case("a", "north"), make_case("b", "north"), make_case("c", "south")]
    with pytest.raises(CohortError, match=r"site south: 1 patient\(s\), a training site needs at least 2"):
        check_sites(cases, ["north", "south"])


def test_a_training_site_whose_cases_are_all_of_one_patient_is_refused(make_case):
    cases = [make_case("a-1", "north", patient="a"), make_case("a-2", "north", patient="a")]
    with pytest.raises(CohortError, match=r"site north: 1 patient\(s\)"):
        check_sites(cases, ["north"])


def test_an_external_site_may_have_one_patient(make_case):
    check_sites([make_case("a", "north"), make_case("b", "north"), make_case("c", "west")], ["north"])


def test_a_case_name_used_twice_is_refused(make_case):
    cases = [make_case("a", "north"), make_case("b", "north"), make_case("a", "north")]
    with pytest.raises(CohortError, match="case a: listed 2 times"):
        check_sites(cases, ["north"])


def test_every_small_site_is_said_at_once(make_case):
    with pytest.raises(CohortError) as caught:
        check_sites([make_case("a", "north"), make_case("b", "south")], ["north", "south"])
    assert len(caught.value.problems) == 2


def test_a_refused_cohort_leaves_the_earlier_index(tmp_path, bids, source_settings):
    index_cohort_files(source_settings, tmp_path / "index.tsv", tmp_path / "left_out.tsv")
    before = (tmp_path / "index.tsv").read_bytes()
    bids.image("sub-01").unlink()
    with pytest.raises(CohortError):
        index_cohort_files(source_settings, tmp_path / "index.tsv", tmp_path / "left_out.tsv")
    assert (tmp_path / "index.tsv").read_bytes() == before
