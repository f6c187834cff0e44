import pytest
from fedpedbrain.data.layouts import count_cases, list_dicom_files, list_source_files
from fedpedbrain.data.sources import open_source
from fedpedbrain.errors import StudyError


def test_a_simulated_cohort_reads_no_files(config):
    assert list_source_files({"cohort": config["cohort"], "root": None, "phantom": config["phantom"]}) == []


def test_every_image_every_mask_and_the_participants_are_listed(bids, source_settings):
    subjects = ["sub-01", "sub-02", "sub-03", "sub-04"]
    files = [bids.root / "participants.tsv", *map(bids.image, subjects), *map(bids.mask, subjects)]
    assert sorted(list_source_files(source_settings)) == sorted(map(str, files))


def test_images_and_masks_of_sessions_are_listed(bids, source_settings):
    bids.add("sub-05", "north", "dipg", session="ses-a")
    bids.add("sub-05", "north", "dipg", session="ses-b")
    listed = list_source_files(source_settings)
    for case in open_source(source_settings).find_cases():
        assert set(case.images) | {case.mask} <= set(listed), case.case


def test_masks_are_not_listed_where_no_region_is_asked_for(bids, source_settings):
    source_settings["cohort"]["regions"] = []
    assert not [path for path in list_source_files(source_settings) if path.endswith("_mask.nii.gz")]


def test_each_channel_is_listed(bids, source_settings, config):
    bids.add("sub-05", "north", "dipg", suffixes=("T1w", "T2w"))
    source_settings["bids"] = config["bids"] | {"image_suffixes": ["T1w", "T2w"]}
    listed = list_source_files(source_settings)
    assert {str(bids.image("sub-05", suffix=suffix)) for suffix in ("T1w", "T2w")} <= set(listed)
    assert len(listed) == len(set(listed))


def test_a_folder_that_is_not_given_is_refused_with_what_to_add(source_settings):
    with pytest.raises(StudyError, match=r"cohort_root: .*--config cohort_root=PATH"):
        list_source_files(source_settings | {"root": None})


@pytest.mark.parametrize("root", [None, "/nowhere/cohort"])
def test_a_cohort_that_is_not_needed_may_be_missing(source_settings, root):
    assert list_source_files(source_settings | {"root": root}, needed=False) == []


def test_a_cohort_that_is_not_needed_is_listed_where_it_is_there(source_settings):
    assert list_source_files(source_settings, needed=False) == list_source_files(source_settings)


@pytest.mark.parametrize("letter", "{};")
def test_a_folder_whose_paths_the_workflow_would_misread_is_refused(bids, source_settings, letter):
    root = bids.root.rename(bids.root.with_name(f"bids{letter}1"))
    with pytest.raises(StudyError, match=r"paths of a BIDS data set may hold none of ; \{ \} \(8 do\); rename them"):
        list_source_files(source_settings | {"root": str(root)})


def test_a_folder_that_is_not_there_is_refused_by_name(source_settings, tmp_path):
    with pytest.raises(StudyError, match=f"cohort_root: no folder at {tmp_path}/nowhere"):
        list_source_files(source_settings | {"root": str(tmp_path / "nowhere")})


# How many cases each site has, before the cohort is read.


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


def test_braces_in_paths_of_dicom_files_are_refused_and_semicolons_of_compact_discs_are_not(tmp_path):
    (tmp_path / "IM1;1").touch()
    assert list_dicom_files(str(tmp_path)) == [str(tmp_path / "IM1;1")]
    (tmp_path / "{x}").touch()
    with pytest.raises(StudyError, match=r"\{x\}: paths of DICOM files may hold none of \{ \} \(1 do\); rename them"):
        list_dicom_files(str(tmp_path))
