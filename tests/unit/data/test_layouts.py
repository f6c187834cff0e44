import pytest
from fedpedbrain.data.layouts import list_source_files
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


def test_a_folder_that_is_not_there_is_refused_by_name(source_settings, tmp_path):
    with pytest.raises(StudyError, match=f"cohort_root: no folder at {tmp_path}/nowhere"):
        list_source_files(source_settings | {"root": str(tmp_path / "nowhere")})
