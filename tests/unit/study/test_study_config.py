import matplotlib
import pytest
import yaml
from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.sources.source_files import count_cases
from fedpedbrain.study.arms import PARTICIPANTS, POOLED_SITE
from fedpedbrain.study.strategy_facts import WITHOUT_EXCHANGE
from fedpedbrain.study.study import load_study
from snakemake.utils import update_config


def refusal(load, changes: dict) -> str:
    with pytest.raises(StudyError) as caught:
        load(changes)
    return str(caught.value)


def test_the_default_config_is_a_study(repository, schema_path):
    config = yaml.safe_load((repository / "config.yaml").read_text(encoding="utf-8"))
    study = load_study(config, schema_path)
    assert study.num_rounds == config["study"]["rounds"]
    assert study.config["evaluation"]["reference_arm"] in study.arms


def test_every_overlay_of_the_repository_is_a_study(repository, schema_path):
    overlays = sorted((repository / "studies").glob("*.yaml"))
    assert overlays
    for path in overlays:
        config = yaml.safe_load((repository / "config.yaml").read_text(encoding="utf-8"))
        update_config(config, yaml.safe_load(path.read_text(encoding="utf-8")))
        assert load_study(config, schema_path, count_cases).arms, path


def test_an_overlay_replaces_lists_and_keeps_the_other_keys(load):
    study = load({"cohort": {"sites": {"training": ["south", "north"]}}})
    assert study.training_sites == ["south", "north"]
    assert study.external_sites == ["west"]
    assert study.sites == ["south", "north", "west"]


# What the schema refuses.


def test_an_unknown_key_is_refused_by_its_path_with_the_nearest_known_key(load):
    message = refusal(load, {"training": {"batchsize": 4}})
    assert message == "config: unknown key training.batchsize; the nearest known key is training.batch_size"


def test_the_old_word_of_the_field_of_view_is_refused_with_the_new_one(load):
    message = refusal(load, {"preprocessing": {"field_of_view": "head"}})
    assert message == (
        "config: preprocessing.field_of_view: found 'head'; expected image or foreground (which was called head before)"
    )


def test_an_extent_from_large_to_small_is_refused(load):
    message = refusal(load, {"cohort": {"anatomy": {"extent_mm": [450.0, 70.0]}}})
    assert message.startswith("cohort.anatomy.extent_mm: expected the smallest and then the largest extent in mm")
    assert "found [450, 70]" in message


@pytest.mark.parametrize("word", ["", "two\nlines", "<b>", "- x"])
def test_what_is_no_word_is_refused(load, word):
    assert refusal(load, {"cohort": {"anatomy": {"organ": word}}}).startswith("config: cohort.anatomy.organ: found")


def test_an_unknown_key_at_the_top_is_refused(load):
    message = refusal(load, {"trainings": {}})
    assert message == "config: unknown key trainings; the nearest known key is training"


def test_an_unknown_key_of_an_arm_is_refused(load, config):
    config["arms"][1]["optimiser_state"] = "kept"
    message = refusal(load, {})
    assert message == "config: unknown key arms.1.optimiser_state; the nearest known key is arms.1.optimizer_state"


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"study": {"rounds": "six"}}, "study.rounds"),
        ({"study": {"rounds": 6.0}}, "study.rounds"),
        ({"study": {"seeds": 0}}, "study.seeds"),
        ({"study": None}, "study"),
        ({"cohort": {"sites": {"training": [6]}}}, "cohort.sites.training.0"),
        ({"training": {"batch_size": True}}, "training.batch_size"),
        ({"training": {"optimizer": {"learning_rate": "fast"}}}, "training.optimizer.learning_rate"),
        ({"training": {"optimizer": {"learning_rate": "[1"}}}, "training.optimizer.learning_rate"),
        ({"cohort": {"classes": "dipg"}}, "cohort.classes"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_path(load, changes, path):
    message = refusal(load, changes)
    assert message.startswith(f"config: {path}: ")
    assert "is not of type" in message


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.001"])
def test_a_number_may_be_written_as_yaml_takes_for_text(load, text):
    assert load({"training": {"optimizer": {"learning_rate": text}}}).recipes["fedavg"].training_settings["optimizer"][
        "learning_rate"
    ] == pytest.approx(0.001)


def test_a_folder_whose_name_the_job_graph_would_take_for_a_wildcard_is_refused(load):
    assert refusal(load, {"bids_root": "bids/{x}"}).startswith("config: bids_root: 'bids/{x}' does not match")


@pytest.mark.parametrize("text", ["nan", "1e999", "-inf"])
def test_a_text_that_is_no_finite_number_is_refused(load, text):
    message = refusal(load, {"training": {"optimizer": {"learning_rate": text}}})
    assert message.startswith("config: training.optimizer.learning_rate: ")


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"study": {"rounds": 0}}, "study.rounds"),
        ({"study": {"seeds": [0, 0]}}, "study.seeds"),
        ({"cohort": {"source": "dicom"}}, "cohort.source"),
        ({"cohort": {"sites": {"training": []}}}, "cohort.sites.training"),
        ({"cohort": {"sites": {"training": ["a/b"]}}}, "cohort.sites.training.0"),
        ({"cohort": {"classes": ["dipg"], "normal_class": None}}, "cohort.classes"),
        ({"cohort": {"regions": [{"name": "core", "labels": [0]}]}}, "cohort.regions.0.labels.0"),
        ({"training": {"optimizer": {"learning_rate": -0.1}}}, "training.optimizer.learning_rate"),
        ({"training": {"optimizer": {"learning_rate": float("nan")}}}, "training.optimizer.learning_rate"),
        ({"training": {"optimizer": {"learning_rate": float("inf")}}}, "training.optimizer.learning_rate"),
        ({"training": {"schedule": {"name": "linear"}}}, "training.schedule.name"),
        ({"preprocessing": {"grid": [24, 48]}}, "preprocessing.grid"),
        ({"bids": {"mask_glob": "masks/*.nii.gz"}}, "bids.mask_glob"),
        ({"bids": {"mask_glob": "{subject}/{session}_mask.nii.gz"}}, "bids.mask_glob"),
        ({"bids": {"mask_glob": "{subject}/{_mask.nii.gz"}}, "bids.mask_glob"),
        ({"bids": {"mask_glob": "/masks/{subject}_mask.nii.gz"}}, "bids.mask_glob"),
        ({"evaluation": {"seed": -1}}, "evaluation.seed"),
        ({"evaluation": {"lesion_overlap": 0}}, "evaluation.lesion_overlap"),
        ({"evaluation": {"noninferiority_margin": {"dice": 0}}}, "evaluation.noninferiority_margin.dice"),
        ({"reporting": {"video": {"arms": []}}}, "reporting.video.arms"),
        ({"reporting": {"confusion_colour_map": "Bleus"}}, "reporting.confusion_colour_map"),
        ({"arm_defaults": {"strategy": {"name": "fedavgg"}}}, "arm_defaults.strategy.name"),
        (
            {"arm_defaults": {"strategy": {"name": "trimmed_mean", "trim_fraction": 0.5}}},
            "arm_defaults.strategy.trim_fraction",
        ),
        ({"arm_defaults": {"weighting": "volume"}}, "arm_defaults.weighting"),
        ({"arm_defaults": {"optimizer_state": "lost"}}, "arm_defaults.optimizer_state"),
        ({"arm_defaults": {"batch_norm": "none"}}, "arm_defaults.batch_norm"),
        ({"arm_defaults": {"participation": {"fraction": 0}}}, "arm_defaults.participation.fraction"),
        ({"arm_defaults": {"participation": {"absent": {"north": [0]}}}}, "arm_defaults.participation.absent.north.0"),
        ({"arm_defaults": {"exchange": {"dtype": "float64"}}}, "arm_defaults.exchange.dtype"),
        ({"arm_defaults": {"privacy": {"clip_norm": 0}}}, "arm_defaults.privacy.clip_norm"),
        ({"arm_defaults": {"phases": [{"start": "first"}]}}, "arm_defaults.phases.0.start"),
        ({"arms": [{"name": "a", "participants": "all"}]}, "arms.0.participants"),
        ({"arms": [{"name": "a", "participants": "sites", "weighting": "volume"}]}, "arms.0.weighting"),
    ],
)
def test_an_impossible_value_is_refused_by_its_path(load, changes, path):
    assert f"{path}: " in refusal(load, changes).split("config: ")[-1]


def test_one_class_alone_is_refused_in_words(load):
    message = refusal(load, {"cohort": {"classes": ["dipg"], "normal_class": None}})
    assert message == (
        "config: cohort.classes: found ['dipg']; one class cannot be told apart from anything; "
        "name two or more, each once, or none"
    )


def test_every_colour_map_that_the_config_may_name_is_matplotlibs(schema_path):
    schema = yaml.safe_load(schema_path.read_text(encoding="utf-8"))
    allowed = schema["properties"]["reporting"]["properties"]["confusion_colour_map"]["enum"]
    assert set(allowed) <= set(matplotlib.colormaps)


@pytest.mark.parametrize("key", ["mu", "fraction", "secure_sum"])
def test_an_option_that_stands_outside_of_its_block_is_an_unknown_key(load, config, key):
    config["arms"][2][key] = 1
    assert refusal(load, {}).startswith(f"config: unknown key arms.2.{key}; ")


def test_every_default_of_an_arm_may_be_said_of_one_arm_and_every_one_is_needed(schema_path):
    schema = yaml.safe_load(schema_path.read_text(encoding="utf-8"))["properties"]
    of_one = schema["arms"]["items"]["properties"].keys() - {"name", "participants"}
    assert of_one == schema["arm_defaults"]["properties"].keys() == set(schema["arm_defaults"]["required"])


def test_every_kind_of_participants_is_known(schema_path):
    schema = yaml.safe_load(schema_path.read_text(encoding="utf-8"))["properties"]
    assert set(schema["arms"]["items"]["properties"]["participants"]["enum"]) == set(PARTICIPANTS)


def test_the_facts_of_an_arm_without_exchange_are_those_of_the_default_config(repository):
    defaults = yaml.safe_load((repository / "config.yaml").read_text(encoding="utf-8"))["arm_defaults"]
    assert {key: value for key, value in defaults.items() if key != "optimizer_state"} == WITHOUT_EXCHANGE


def test_blocks_of_an_arm_may_be_written_on_the_command_line(load, config):
    # Nested values of --config arrive as text.
    config["arms"] = [
        {"name": "centralized", "participants": "pooled"},
        {"name": "fedavg", "participants": "sites", "participation": {"fraction": "0.5", "absent": {"north": ["3"]}}},
    ]
    config["arms"][1]["strategy"] = {"name": "fedprox", "mu": "1e-3"}
    arm = load().arms["fedavg"]
    assert arm.strategy["mu"] == 0.001
    assert len(arm.sites_in_round(0, 1)) == 2
    assert "north" not in arm.sites_in_round(0, 3)


@pytest.mark.parametrize("title", ["", "one\n", "one\ntwo", "one\rtwo", "one\u2028two"])
def test_a_title_is_one_line(load, title):
    expected = "expected one line of text; in YAML, fold long titles with >-"
    assert refusal(load, {"study": {"title": title}}) == f"config: study.title: found {title!r}; {expected}"


def test_a_missing_key_is_refused(load, config):
    del config["training"]["batch_size"]
    assert refusal(load, {}) == "config: training: missing key batch_size"


def test_each_missing_key_is_said_once(load, config):
    del config["training"]["batch_size"], config["training"]["threads"]
    message = refusal(load, {})
    assert message.count("batch_size") == 1
    assert message.count("threads") == 1


def test_a_missing_block_is_refused(load, config):
    del config["evaluation"]
    assert refusal(load, {}) == "config: top level: missing key evaluation"


def test_all_errors_of_the_schema_are_said_at_once(load, config):
    del config["training"]["threads"]
    message = refusal(load, {"study": {"rounds": 0, "tittle": "x"}})
    assert len(message.splitlines()) == 3
    for part in ("training: missing key threads", "study.rounds: ", "unknown key study.tittle"):
        assert f"config: {part}" in message


# What only the values together show.


def test_a_site_listed_twice_is_refused(load):
    message = refusal(load, {"cohort": {"sites": {"training": ["north", "east", "north"]}}})
    assert message.startswith("cohort.sites: 'north' is listed twice")


def test_a_site_that_trains_and_is_external_is_refused(load):
    message = refusal(load, {"cohort": {"sites": {"external": ["north"]}}})
    assert message.startswith("cohort.sites: 'north' is listed twice")


@pytest.mark.parametrize("source", ["bids", "listed", "class_folders"])
def test_a_class_map_that_leads_to_no_class_is_refused(load, source):
    overlay = {"cohort": {"source": source, "regions": []}, source: {"class_map": {"no_tumor": "healthy"}}}
    message = refusal(load, overlay)
    assert message.startswith(f"{source}.class_map: 'no_tumor' leads to 'healthy', which is none of cohort.classes")


def test_a_site_named_as_all_sites_together_is_refused(load):
    assert "rename the site" in refusal(load, {"cohort": {"sites": {"external": [POOLED_SITE]}}})


def test_a_study_that_predicts_nothing_is_refused(load):
    assert "no regions and no classes" in refusal(
        load, {"cohort": {"regions": [], "classes": [], "normal_class": None}}
    )


def test_two_regions_of_one_name_are_refused(load):
    regions = [{"name": "core", "labels": [1]}, {"name": "core", "labels": [2]}]
    assert refusal(load, {"cohort": {"regions": regions}}).startswith("cohort.regions: ")


@pytest.mark.parametrize("name", ["DIPG", "diagnosis"])
def test_a_region_of_a_name_that_tables_give_to_something_else_is_refused(load, name):
    message = refusal(load, {"cohort": {"regions": [{"name": name, "labels": [1]}]}})
    assert message == f"cohort.regions: '{name}' is a class's name or that of all diagnoses, too; rename it"


def test_a_class_named_as_all_diagnoses_together_is_refused(load):
    message = refusal(load, {"cohort": {"classes": ["normal", "diagnosis"]}})
    assert message.startswith("cohort.classes: 'diagnosis' is the name of all diagnoses together")


def test_a_normal_class_that_is_no_class_is_refused(load):
    message = refusal(load, {"cohort": {"normal_class": "healthy"}})
    assert message.startswith("cohort.normal_class: 'healthy' is none of cohort.classes")


def test_no_normal_class_is_fine(load):
    assert load({"cohort": {"normal_class": None}}).config["cohort"]["normal_class"] is None


def test_fractions_that_leave_nobody_to_train_on_are_refused(load):
    message = refusal(load, {"cohort": {"splits": {"test_fraction": 0.7, "validation_fraction": 0.3}}})
    assert message.startswith("cohort.splits: ")


def test_an_unknown_reference_arm_is_refused_with_the_known_ones(load):
    message = refusal(load, {"evaluation": {"reference_arm": "local"}})
    assert message.startswith("evaluation.reference_arm: 'local' is none of the study's arms (centralized, local-north")


def test_the_video_shows_known_arms_only(load):
    message = refusal(load, {"reporting": {"video": {"arms": ["fedprox"]}}})
    assert message.startswith("reporting.video.arms: 'fedprox' is none")


def test_a_colour_may_be_that_of_an_arm_which_the_study_leaves_out(load):
    assert "fedprox" not in load({"reporting": {"arm_colours": {"fedprox": "#000000"}}}).arms


def test_two_arms_of_one_name_are_refused(load, config):
    arms = [*config["arms"], config["arms"][0]]
    assert refusal(load, {"arms": arms}).startswith("arms: two arms are named 'centralized'")


def test_an_arm_named_as_one_of_the_lone_sites_is_refused(load, config):
    arms = [*config["arms"], config["arms"][2] | {"name": "local-north"}]
    assert refusal(load, {"arms": arms}).startswith("arms: two arms are named 'local-north'")


def test_two_arms_alone_are_refused_since_a_site_has_one_local_arm(load, config):
    arms = [*config["arms"], config["arms"][1] | {"name": "lone", "optimizer_state": "fresh"}]
    assert refusal(load, {"arms": arms}) == "arms: 'local' and 'lone' both have participants alone; keep one of them"


NO_CLASSES = {"classes": [], "normal_class": None}


@pytest.mark.parametrize(
    ("cohort", "weights", "named"),
    [
        ({}, (0, 0), "segmentation_weight 0 and classification_weight 0"),
        (NO_CLASSES, (0, 1), "segmentation_weight 0"),
        ({"regions": []}, (1, 0), "classification_weight 0"),
    ],
    ids=["both", "no classes", "no regions"],
)
def test_a_loss_that_is_always_0_is_refused(load, cohort, weights, named):
    loss = dict(zip(("segmentation_weight", "classification_weight"), weights, strict=True))
    message = refusal(load, {"cohort": cohort, "training": {"loss": loss}})
    assert message == f"training.loss: nothing is learnt with {named}; raise one"


def test_one_of_two_losses_may_be_left_out(load):
    study = load({"training": {"loss": {"segmentation_weight": 0}}})
    assert study.recipes["fedavg"].training_settings["loss"]["classification_weight"]


def test_strides_that_do_not_divide_the_grid_are_refused(load):
    message = refusal(load, {"preprocessing": {"grid": [24, 48, 40]}})
    assert message.startswith("preprocessing.grid: 40 voxels along W are not a multiple of 16")


def test_strides_of_another_network_do_not_matter(load):
    study = load({"preprocessing": {"grid": [24, 48, 40]}, "network": {"name": "i3d_unet"}})
    assert study.recipes["fedavg"].network["name"] == "i3d_unet"


def test_one_stride_a_stage_is_needed(load):
    message = refusal(load, {"network": {"unet": {"channels": [16, 32, 64]}}})
    assert message.startswith("network.unet: 3 channels but 4 strides")


def test_a_grid_whose_deepest_stage_is_one_voxel_is_refused(load):
    # Instance normalisation has no spread to divide by there.
    assert "preprocessing.grid" in refusal(load, {"preprocessing": {"grid": [8, 16, 16]}})


def test_a_grid_too_small_for_the_network_is_refused(load):
    message = refusal(load, {"preprocessing": {"grid": [4, 48, 48]}, "network": {"name": "i3d_unet"}})
    assert "preprocessing.grid" in message


def test_a_bids_cohort_needs_an_image_suffix_for_every_channel(load):
    # One image would silently stand for both channels.
    message = refusal(
        load, {"cohort": {"source": "bids", "channels": ["T1w", "T2w"]}, "bids": {"image_suffixes": ["T2w"]}}
    )
    assert "cohort.channels" in message
    assert "bids.image_suffixes" in message


def test_a_simulated_cohort_has_one_channel(load):
    assert "cohort.channels" in refusal(load, {"cohort": {"channels": ["T1w", "T2w"]}})
