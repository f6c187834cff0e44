import json

import pytest
from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.sources.source_files import count_cases
from fedpedbrain.study.study import load_study


def test_a_pooled_arm_has_one_participant_with_every_training_site(load):
    arm = load().arms["centralized"]
    assert arm.shards_of == {"pooled": ["north", "east", "south"]}
    assert arm.keeps_optimizer_state
    assert arm.sites == ["east", "north", "south"]


def test_an_arm_alone_spreads_to_one_arm_a_site(load):
    arms = load().arms
    assert {name: arms[name].shards_of for name in arms if name.startswith("local")} == {
        "local-north": {"north": ["north"]},
        "local-east": {"east": ["east"]},
        "local-south": {"south": ["south"]},
    }


def test_a_federated_arm_has_one_participant_a_training_site(load):
    arm = load().arms["fedavg"]
    assert arm.shards_of == {"north": ["north"], "east": ["east"], "south": ["south"]}
    assert not arm.keeps_optimizer_state


def test_the_largest_sites_are_counted_in_the_source(study_config, schema_path):
    study_config["arms"][2]["phases"] = [{"largest": 1, "rounds": 2}, {}]
    study_config["phantom"]["cases"] = {"north": 5, "east": 9, "south": 7, "west": 99}
    arm = load_study(study_config, schema_path, count_cases).arms["fedavg"]
    assert [arm.sites_in_round(0, number) for number in (2, 3)] == [["east"], ["east", "north", "south"]]


@pytest.fixture
def largest_of_a_cohort_that_is_not_there(study_config):
    """A study whose arm starts with the largest sites of a BIDS folder that is not given."""
    study_config["cohort"]["source"] = "bids"
    study_config["arms"][2]["phases"] = [{"largest": 1, "rounds": 2}, {}]
    return study_config


def test_the_largest_sites_of_a_cohort_that_is_not_there_are_refused(
    largest_of_a_cohort_that_is_not_there, schema_path
):
    with pytest.raises(StudyError, match="cohort_root: "):
        load_study(largest_of_a_cohort_that_is_not_there, schema_path, count_cases)


def test_a_new_scan_is_predicted_without_the_largest_sites(largest_of_a_cohort_that_is_not_there, schema_path):
    config = largest_of_a_cohort_that_is_not_there | {"scan": "/in/scan.nii.gz", "model": "/in/best.pth"}
    assert load_study(config, schema_path, count_cases).requests.predicts_scan


def test_external_sites_are_in_no_arm(load):
    assert all("west" not in arm.sites for arm in load().arms.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"study": {"rounds": 60, "title": "longer", "seeds": [0, 1]}},
        {"training": {"threads": 2}},
        {"evaluation": {"threshold": 0.3}},
        {"reporting": {"figure_dpi": 300}},
    ],
    ids=["rounds, title and seeds", "threads", "evaluation", "reporting"],
)
def test_the_settings_digest_does_not_depend_on(load, config, schema_path, changes):
    before = load_study(config, schema_path).settings_digests["fedavg"]
    assert load(changes).settings_digests["fedavg"] == before


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"optimizer": {"learning_rate": 0.004}}},
        {"training": {"epochs_per_round": 9}},
        {"network": {"unet": {"dropout": 0.1}}},
        {"preprocessing": {"intensity": {"percentile": {"upper_percentile": 99.0}}}},
        {"cohort": {"sites": {"training": ["north", "east"], "external": []}}},
    ],
    ids=["learning rate", "epochs", "network", "preprocessing", "sites"],
)
def test_the_settings_digest_depends_on(load, config, schema_path, changes):
    before = load_study(config, schema_path).settings_digests["fedavg"]
    assert load(changes).settings_digests["fedavg"] != before


def test_every_arm_has_its_own_settings_digest(load):
    study = load()
    assert len({study.settings_digests[arm] for arm in study.arms}) == len(study.arms)


def test_a_study_seed_has_its_own_start(load):
    study = load()
    assert study.model_seed(0) != study.model_seed(1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regions": [{"name": "whole", "labels": [1]}]}, "cohort.regions: the class_folders source has no outlines"),
        ({"regions": [], "classes": [], "normal_class": None}, "cohort: no regions and no classes"),
        ({"regions": [], "channels": ["T1", "T2"]}, "cohort.channels: the class_folders source has one channel"),
    ],
)
def test_what_pictures_in_class_folders_cannot_give_is_refused(load, changes, message):
    with pytest.raises(StudyError) as caught:
        load({"cohort": {"source": "class_folders"} | changes})
    assert str(caught.value).startswith(message)


def test_the_source_does_not_see_the_splits(load):
    settings = load().source_settings
    assert set(settings) == {"cohort", "root", "sites", "phantom"}
    assert "splits" not in settings["cohort"]


@pytest.mark.parametrize("source", ["phantom", "bids", "flpedbrain"])
def test_a_source_of_one_form_does_not_see_what_is_assumed_of_others(load, source):
    changes = {"formats": {"picture": {"rotation_degrees": 90}}}
    cohort = {"cohort": {"source": source}}
    assert load(cohort | changes).source_settings == load(cohort).source_settings


def test_a_source_of_any_form_sees_what_is_assumed_of_each(load, config):
    assert load({"cohort": {"source": "listed"}}).source_settings["formats"] == config["formats"]


def test_words_of_the_anatomy_train_nothing_anew_and_the_foreground_does(load):
    study = load()
    before = (study.source_settings, study.model_spec(study.recipes["fedavg"]), study.settings_digests)
    words = load({"cohort": {"anatomy": {"organ": "prostate", "finding": "lesion", "extent_mm": [50.0, 400.0]}}})
    assert (words.source_settings, words.model_spec(words.recipes["fedavg"]), words.settings_digests) == before
    assert words.scan_plan["anatomy"] == {"organ": "prostate", "extent_mm": [50.0, 400.0]}
    other = load({"cohort": {"anatomy": {"foreground": {"fraction": 0.1}}}})
    assert other.source_settings == before[0]
    assert other.preprocessing_settings["foreground"] == {"percentile": 99.0, "fraction": 0.1}
    assert other.settings_digests != before[2]


def test_shards_and_models_know_the_options_of_the_chosen_intensities_alone(load):
    study, other = load(), load({"preprocessing": {"intensity": {"z_score": {"largest_deviation": 3.0}}}})
    assert set(study.preprocessing_settings) == {"grid", "field_of_view", "voxel_spacing_mm", "intensity", "foreground"}
    assert set(study.preprocessing_settings["intensity"]) == {"name", "percentile"}
    assert study.preprocessing_settings == other.preprocessing_settings
    assert study.settings_digests["fedavg"] == other.settings_digests["fedavg"]
    chosen = load({"preprocessing": {"intensity": {"name": "reference"}}}).preprocessing_settings["intensity"]
    assert chosen == {"name": "reference"}


def test_the_search_for_duplicates_sees_its_own_settings_alone(load):
    settings = load().duplicate_settings
    assert set(settings) == {"near_duplicate_bits", "near_duplicate_correlation"}
    assert load({"audit": {"small_site_patients": 99}}).duplicate_settings == settings
    assert load({"audit": {"near_duplicate_bits": 3}}).duplicate_settings != settings


def test_a_splits_file_to_keep_is_an_input(load):
    assert load().kept_splits == []
    assert load({"cohort": {"splits": {"keep_file": "old/splits.tsv"}}}).kept_splits == ["old/splits.tsv"]


def test_a_scan_is_predicted_where_a_model_is_named_too(load):
    assert not load().requests.predicts_scan
    assert not load({"scan": "/in/scan.nii.gz"}).requests.predicts_scan
    assert load({"scan": "/in/scan.nii.gz", "model": "/in/best.pth"}).requests.predicts_scan
    assert load({"inbox": "/in", "model": "/in/best.pth"}).requests.predicts_scan


def test_arms_of_several_sites_are_told_from_arms_of_one(load):
    study = load()
    assert study.shared_arms == ["centralized", "fedavg"]
    assert study.local_sites == {"local-north": "north", "local-east": "east", "local-south": "south"}


@pytest.mark.parametrize(("empty_when_normal", "expected"), [(True, "normal"), (False, None)])
def test_the_decision_knows_the_class_without_a_region(load, empty_when_normal, expected):
    changes = {"threshold": 0.4, "smallest_region_ml": 0.2, "empty_when_normal": empty_when_normal}
    settings = load({"evaluation": changes}).prediction.decision
    assert settings == {"threshold": 0.4, "smallest_region_ml": 0.2, "empty_class": expected}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ([], 0.5, False)),
        ({"evaluation": {"test_time_flips": "left_right"}}, (["W"], 0.5, False)),
        (
            {
                "evaluation": {"test_time_flips": ["H", "W"]},
                "cohort": {"anatomy": {"mirror_axes": ["H", "W"]}},
            },
            (["H", "W"], 0.5, False),
        ),
        ({"inference": {"sliding_window": {"overlap": 0.25}}}, ([], 0.25, True)),
    ],
    ids=["default", "flips", "axes", "window"],
)
def test_the_study_says_how_a_network_is_run_on_a_new_scan(load, changes, expected):
    plan = load(changes).scan_plan
    assert (plan["network"]["flips"], plan["network"]["overlap"], plan["is_whole"]) == expected


def test_every_pair_of_settings_of_component_filters_is_tried(load):
    assert not load({}).prediction.chooses_filters
    filters = {"smallest_ml": [0.0, 0.5], "largest_only": [False, True]}
    study = load({"evaluation": {"component_filters": filters}})
    assert study.prediction.chooses_filters
    assert [tuple(tried.values()) for tried in study.prediction.tried_filters] == [
        (0.0, False),
        (0.5, False),
        (0.0, True),
        (0.5, True),
    ]


def test_rounds_are_validated_as_decided_and_say_nothing_of_windows_that_they_do_not_have(load):
    study = load({})
    assert study.validation_settings("fedavg") == study.prediction.decision


@pytest.mark.parametrize(
    ("flips", "message"),
    [
        ("sideways", r"test_time_flips: found 'sideways'; write none, left_right or a list of axes"),
        (["W", "W"], r"test_time_flips: found \['W', 'W'\]; write none, left_right or a list of axes"),
        (["X"], r"test_time_flips.0: 'X' is not one of \['D', 'H', 'W'\]"),
    ],
)
def test_flips_are_a_word_or_axes(load, flips, message):
    with pytest.raises(StudyError, match=message):
        load({"evaluation": {"test_time_flips": flips}})


@pytest.mark.parametrize(
    ("preprocessing", "message"),
    [
        ({"voxel_spacing_mm": [1.0, 0.0, 1.0]}, r"preprocessing\.voxel_spacing_mm"),
        ({"voxel_spacing_mm": [1.0, 1.0]}, r"preprocessing\.voxel_spacing_mm: .* expected three numbers above 0 in mm"),
        ({"voxel_spacing_mm": "natural"}, r"preprocessing\.voxel_spacing_mm: found 'natural'; .*, native, or null"),
        ({"grid": None}, r"^preprocessing\.voxel_spacing_mm: null, and preprocessing\.grid is null; write three"),
        ({"grid": None, "voxel_spacing_mm": "native"}, r"^training\.patch: null, but with preprocessing\.grid null"),
        (
            {"intensity": {"name": "z_score_float16"}},
            r"^training\.augmentation\.gamma_spread: in_plane takes powers of intensities from 0 to 1, but preproc",
        ),
        ({"intensity": {"name": "minmax"}}, r"preprocessing\.intensity\.name"),
        ({"intensity": {"lower_percentile": 1.0}}, r"nearest known key is preprocessing\.intensity\.percentile"),
    ],
    ids=[
        "spacing of zero",
        "two spacings",
        "unknown word",
        "own sizes without spacing",
        "own sizes without patches",
        "powers of half precision",
        "unknown scale",
        "percentiles without their block",
    ],
)
def test_preprocessing_that_cannot_be_is_refused_by_its_key(load, preprocessing, message):
    with pytest.raises(StudyError, match=message):
        load({"preprocessing": preprocessing})


@pytest.mark.parametrize("spacing", ["native", [3.0, 1.0, 1.0]])
def test_cases_of_their_own_size_train_on_patches_that_the_network_divides(load, spacing):
    patch = {"size": [8, 32, 32], "per_case": 2, "foreground_share": 0.5}
    own = {"grid": None, "voxel_spacing_mm": spacing, "intensity": {"name": "z_score_float16"}}
    study = load({"preprocessing": own, "training": {"patch": patch, "augmentation": {"name": "volume"}}})
    settings = study.preprocessing_settings
    assert (settings["grid"], settings["voxel_spacing_mm"]) == (None, spacing)
    assert settings["intensity"] == {"name": "z_score_float16"}
    with pytest.raises(StudyError, match=r"^training\.patch\.size: 40 voxels along W are not a multiple of 16"):
        load({"training": {"patch": {"size": [8, 32, 40]}}})


def test_the_comparison_does_not_depend_on_the_decision(load):
    before = load().comparison_settings
    assert load({"evaluation": {"threshold": 0.4}}).comparison_settings == before


def test_exports_tell_studies_of_other_data_apart(load):
    exported = load().export_description
    assert load({"phantom": {"seed": 99}}).export_description != exported
    assert "reporting" not in exported["config"]


def test_the_description_is_plain_values_that_json_keeps(load):
    description = load().description
    assert json.loads(json.dumps(description)) == description
    assert [arm["name"] for arm in description["arms"]] == [
        "centralized",
        "local-north",
        "local-east",
        "local-south",
        "fedavg",
    ]


@pytest.mark.parametrize(
    ("block", "unread"),
    [
        ({"optimizer": {"name": "adamw"}}, {"optimizer": {"momentum": 0.5}}),
        (
            {"schedule": {"name": "cosine"}},
            {"schedule": {"step_rounds": 3, "step_factor": 0.1, "polynomial_power": 2.0}},
        ),
        ({"schedule": {"name": "constant"}}, {"schedule": {"horizon_rounds": 99, "final_factor": 0.5}}),
        ({"loss": {"segmentation": "reference"}}, {"loss": {"focal_gamma": 1.0}}),
    ],
)
def test_options_that_nothing_reads_are_no_training_settings(load, block, unread):
    ((name, options),) = unread.items()
    plain, other = load({"training": block}), load({"training": {name: block[name] | options}})
    assert plain.recipes["fedavg"].training_settings == other.recipes["fedavg"].training_settings
    assert not options.keys() & plain.recipes["fedavg"].training_settings[name].keys()


def test_options_that_something_reads_are_training_settings(load):
    for block in (
        {"optimizer": {"name": "sgd", "momentum": 0.5}},
        {"loss": {"classification": "focal", "focal_gamma": 1.0}},
    ):
        ((name, options),) = block.items()
        assert load({"training": block}).recipes["fedavg"].training_settings[name].items() >= options.items()
