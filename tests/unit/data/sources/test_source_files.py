import numpy as np
import pytest
from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.conversion.dicom_files import list_dicom_files
from fedpedbrain.data.sources.source import open_source
from fedpedbrain.data.sources.source_files import digest_of_rows, list_source_files, settings_of_site
from fedpedbrain.study.schema import load_schema
from fedpedbrain.study.source_facts import SOURCES
from fedpedbrain.study.study import Study


def test_a_simulated_cohort_reads_no_files(config):
    assert list_source_files({"cohort": config["cohort"], "root": None, "phantom": config["phantom"]}) == []


def test_every_image_and_every_mask_are_listed(bids, source_settings):
    subjects = ["sub-01", "sub-02", "sub-03", "sub-04"]
    files = [*map(bids.image, subjects), *map(bids.mask, subjects)]
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


def test_braces_in_paths_of_dicom_files_are_refused_and_semicolons_of_compact_discs_are_not(tmp_path):
    (tmp_path / "IM1;1").touch()
    assert list_dicom_files(str(tmp_path)) == [str(tmp_path / "IM1;1")]
    (tmp_path / "{x}").touch()
    with pytest.raises(StudyError, match=r"\{x\}: paths of DICOM files may hold none of \{ \} \(1 do\); rename them"):
        list_dicom_files(str(tmp_path))


# One site's part of what decides a cohort.


def test_a_site_reads_its_own_participants_and_their_files(bids, source_settings):
    bids.add("sub-05", "north", "dipg", session="ses-a")
    own = [("sub-01", ""), ("sub-02", ""), ("sub-05", "ses-a")]
    files = [read(*place) for place in own for read in (bids.image, bids.mask)]
    assert sorted(list_source_files(settings_of_site(source_settings, "north"))) == sorted(map(str, files))


def test_files_of_nobody_at_the_site_may_be_named_as_they_like(bids, source_settings, write_volume):
    write_volume(bids.root / "sub-99" / "anat" / "sub-99 {odd}_T2w.nii.gz", np.zeros(bids.shape, np.int16))
    assert len(list_source_files(settings_of_site(source_settings, "north"))) == 2 * 2


@pytest.mark.parametrize("name", ["", "../sub-01", "/sub-01"])
def test_a_participant_whose_name_is_no_folders_is_refused(bids, source_settings, name):
    bids.rows["sub-01"]["participant_id"] = name
    bids.write_participants()
    with pytest.raises(StudyError, match=rf"participants\.tsv: participant_id '{name}' is no folder's name"):
        list_source_files(settings_of_site(source_settings, "north"))


def test_a_sites_rows_are_its_own_in_whatever_order_and_of_the_columns_that_are_read(bids, source_settings):
    def digest(site: str) -> str:
        return digest_of_rows(settings_of_site(source_settings, site))

    north, south = digest("north"), digest("south")
    bids.rows = dict(reversed(bids.rows.items()))
    for row in bids.rows.values():
        row["age"] = "7"
    bids.write_participants(("participant_id", "age", "site", "diagnosis"))
    assert (digest("north"), digest("south")) == (north, south)
    bids.rows["sub-03"]["diagnosis"] = "normal"
    bids.write_participants()
    assert digest("north") == north
    assert digest("south") != south


def test_of_a_cohort_without_a_table_or_that_is_not_there_no_rows_are_told(config, source_settings):
    phantom = {"cohort": config["cohort"], "root": None, "sites": ["north"], "phantom": config["phantom"]}
    assert digest_of_rows(phantom) == digest_of_rows(source_settings | {"root": None}) == ""


@pytest.mark.parametrize("source", SOURCES)
def test_no_other_site_that_comes_or_goes_is_in_a_sites_settings(config, schema_path, source):
    config["cohort"] |= {"source": source, "classes": ["normal", "DIPG"]}
    if source == "class_folders":
        config["cohort"]["regions"] = []
    config["phantom"]["cases"] |= {"more": 9}

    def settings(training: list[str], external: list[str]) -> dict:
        config["cohort"]["sites"] = {"training": training, "external": external}
        return settings_of_site(Study(config, load_schema(schema_path)).source_settings, "north")

    of_north = settings(["north"], [])
    assert settings(["north", "east"], ["more"]) == settings(["north"], ["west"]) == of_north


def test_a_site_has_the_simulated_cases_that_it_has_among_others(config):
    sites = {"north": 2, "east": 3}
    settings = {"cohort": config["cohort"], "root": None, "sites": list(sites)}
    settings["phantom"] = config["phantom"] | {"cases": sites}
    alone = [open_source(settings_of_site(settings, site)).find_cases() for site in sites]
    assert [case for cases in alone for case in cases] == open_source(settings).find_cases()
