import pytest
from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.sources.source_files import count_cases, count_left_out


def test_the_cases_of_a_simulated_cohort_are_counted_by_its_settings(config):
    settings = {"cohort": config["cohort"], "root": None, "sites": ["east", "north"]}
    phantom = config["phantom"] | {"cases": {"north": 5, "east": 7, "west": 9}}
    counts = count_cases(settings | {"phantom": phantom})
    assert counts == {"east": 7, "north": 5}


def test_a_simulated_site_that_no_cases_are_asked_of_has_none(config):
    settings = {"cohort": config["cohort"], "root": None, "sites": ["east"]}
    assert count_cases(settings | {"phantom": config["phantom"] | {"cases": {}}}) == {"east": 0}


def test_of_a_bids_cohort_the_participants_of_the_studys_sites_are_counted(bids, source_settings):
    bids.add("sub-05", "north", "dipg", session="ses-a")
    bids.add("sub-05", "north", "dipg", session="ses-b")
    bids.add("sub-06", "elsewhere", "dipg")
    assert count_cases(source_settings) == {"north": 3, "south": 2}
    assert count_cases(source_settings | {"sites": ["south", "west"]}) == {"south": 2, "west": 0}


def test_sites_are_counted_by_the_column_that_the_config_names(bids, source_settings):
    for number, row in enumerate(bids.rows.values()):
        row["clinic"] = "south" if number else "north"
    bids.write_participants(("participant_id", "site", "clinic"))
    source_settings["bids"] = source_settings["bids"] | {"site_column": "clinic"}
    assert count_cases(source_settings) == {"north": 1, "south": 3}


def test_quotation_marks_of_participants_are_letters(bids, source_settings):
    # As frames of a cell they would swallow every row up to the next one.
    path = bids.root / "participants.tsv"
    path.write_text('participant_id\tnote\tsite\nsub-01\t"\tnorth\nsub-02\t-\tnorth\nsub-03\t-\tsouth\n')
    assert count_cases(source_settings) == {"north": 2, "south": 1}


def test_participants_that_are_no_utf_8_text_are_refused_by_name(bids, source_settings):
    path = bids.root / "participants.tsv"
    path.write_bytes(path.read_bytes() + "sub-05\tsäo\tdipg\n".encode("latin-1"))
    with pytest.raises(StudyError, match=r"participants\.tsv: not UTF-8 text"):
        count_cases(source_settings)


def test_cases_of_a_cohort_that_is_not_there_are_not_counted(source_settings):
    with pytest.raises(StudyError, match=r"cohort_root: .*--config cohort_root=PATH"):
        count_cases(source_settings | {"root": None})


def test_participants_of_other_sites_are_counted_by_site(bids, source_settings):
    assert count_left_out(source_settings) == {}
    for number, site in enumerate(("South", "South", "n/a")):
        bids.add(f"sub-1{number}", site, "dipg")
    assert count_left_out(source_settings) == {"South": 2, "n/a": 1}


def test_nobody_is_left_out_of_a_cohort_that_is_not_there(source_settings):
    assert count_left_out(source_settings | {"root": None}) == {}
