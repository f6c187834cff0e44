"""What a study says of training samples: patches, augmentation and mirrors."""

import pytest
from fedpedbrain.base.choices import defaults_of
from fedpedbrain.base.errors import StudyError
from fedpedbrain.models.files import ModelSpec
from fedpedbrain.study.augmentation_facts import AUGMENTATIONS

PATCH = {"size": [8, 32, 32], "per_case": 2, "foreground_share": 0.5}
VOLUME = {"training": {"augmentation": {"name": "volume"}}}


def with_patch(**changes) -> dict:
    return {"training": {"patch": PATCH | changes}}


def refusal(load, changes: dict) -> str:
    with pytest.raises(StudyError) as caught:
        load(changes)
    return str(caught.value)


# Settings.


def test_a_study_of_whole_cases_and_changes_in_plane_names_neither(load):
    study = load()
    settings = study.recipes["fedavg"].training_settings
    assert "patch" not in settings
    assert list(settings["augmentation"]) == list(AUGMENTATIONS["in_plane"].options)
    assert "patch" not in study.model_spec(study.own_recipe)
    assert {("SAMPLERS", "whole"), ("AUGMENTATIONS", "in_plane")} <= study.arm_choices["fedavg"]


def test_patches_and_changes_of_volumes_are_named_and_chosen(load):
    plain, study = load(), load(with_patch() | {"training": with_patch()["training"] | VOLUME["training"]})
    settings = study.recipes["fedavg"].training_settings
    assert settings["patch"] == PATCH
    assert settings["augmentation"] == {"name": "volume"} | defaults_of(AUGMENTATIONS["volume"].options)
    assert {("SAMPLERS", "patches"), ("AUGMENTATIONS", "volume")} <= study.arm_choices["fedavg"]
    assert not {("SAMPLERS", "whole"), ("AUGMENTATIONS", "in_plane")} & study.arm_choices["fedavg"]
    assert ModelSpec(**study.model_spec(study.own_recipe)).patch == PATCH["size"]
    assert study.settings_digests["fedavg"] != plain.settings_digests["fedavg"]


def test_options_of_another_augmentation_change_nothing(load):
    first = load(VOLUME).settings_digests
    assert load({"training": {"augmentation": {"gamma_spread": 0.1}}}).settings_digests == first
    assert load({"training": {"augmentation": {"gamma_range": [0.8, 1.2]}}}).settings_digests != first


def test_an_arm_with_patches_of_its_own_has_a_start_that_says_so(load, study_config):
    study_config["arms"].append({"name": "patches", "participants": "sites"} | with_patch())
    study = load()
    assert study.recipes["fedavg"].start == "unet"
    start = study.recipes["patches"].start
    assert start.startswith("unet_")
    assert study.model_spec(study.starts[start])["patch"] == PATCH["size"]
    assert "patch" not in study.model_spec(study.starts["unet"])
    # As many patches per case as it likes: the start is that of the size.
    study_config["arms"][-1]["training"]["patch"] = PATCH | {"per_case": 9}
    assert load().recipes["patches"].start == start


def test_an_arm_may_change_a_part_of_the_studys_patches(load, study_config):
    study_config["arms"].append({"name": "more", "participants": "sites", "training": {"patch": {"per_case": 9}}})
    study = load(with_patch())
    assert study.recipes["more"].training_settings["patch"] == PATCH | {"per_case": 9}
    assert study.recipes["more"].start == study.recipes["fedavg"].start == "unet"
    study_config["arms"][-1]["training"]["patch"] = None
    study = load()
    assert "patch" not in study.recipes["more"].training_settings
    assert study.recipes["more"].start != "unet"


# What is refused.


def test_a_part_of_a_patch_is_none(load, study_config):
    study_config["arms"].append({"name": "more", "participants": "sites", "training": {"patch": {"per_case": 9}}})
    assert refusal(load, {}) == "config: arms.more.training.patch: missing key size, foreground_share"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (with_patch(size=[8, 30, 32]), "training.patch.size: 30 voxels along H are not a multiple of 16"),
        (with_patch(size=[8, 16, 16]), "training.patch.size: the deepest stage of network.unet is a single voxel"),
        (with_patch(size=[8, 32]), "config: training.patch.size: "),
        (with_patch(per_case=0), "config: training.patch.per_case: 0 is less than the minimum of 1"),
        (with_patch(foreground_share=1.5), "config: training.patch.foreground_share: 1.5 is greater than"),
        (
            {"training": {"augmentation": {"name": "volume", "gamma_range": [1.5, 0.7]}}},
            "training.augmentation.gamma_range: expected the smallest and then the largest value, found [1.5, 0.7]",
        ),
        ({"training": {"augmentation": {"name": "elastic"}}}, "config: training.augmentation.name: 'elastic' is not"),
    ],
)
def test_samples_that_cannot_be_are_refused(load, changes, message):
    assert refusal(load, changes).startswith(message)


def test_patches_are_what_the_strides_divide_and_not_the_grid(load):
    assert "24 voxels along D" not in refusal(load, {"preprocessing": {"grid": [24, 50, 50]}})
    assert load(with_patch() | {"preprocessing": {"grid": [24, 50, 50]}}).recipes["fedavg"].patch_size == PATCH["size"]


def test_patches_are_no_examples_of_dp_sgd(load):
    load(with_patch())
    private = {"example_level": {"clip_norm": 1.0, "noise_multiplier": 1.0}}
    message = refusal(load, {"arm_defaults": {"privacy": private}})
    assert message.startswith("arms.fedavg.privacy.example_level: an example has to be a case, training.patch makes")


@pytest.mark.parametrize(
    ("axes", "changes", "key"),
    [
        ([], {"training": {"augmentation": {"flip_probability": 0.5}}}, "training.augmentation"),
        (["H"], VOLUME, "training.augmentation"),
        (["W"], {"training": {"augmentation": {"name": "volume", "mirror_axes": ["W", "D"]}}}, "training.augmentation"),
        ([], {"training": {"augmentation": {"flip_probability": 0.0}}, "evaluation": {"test_time_flips": "left_right"}},
         "evaluation.test_time_flips"),
    ],
)  # fmt: skip
def test_mirrors_of_another_anatomy_are_refused(load, axes, changes, key):
    message = refusal(load, changes | {"cohort": {"anatomy": {"mirror_axes": axes}}})
    assert message.startswith(f"{key}: mirrors along ")
    assert f"cohort.anatomy.mirror_axes names {axes[0] if axes else 'none'}; " in message


@pytest.mark.parametrize(
    "augmentation", [{"flip_probability": 0.0}, {"name": "volume", "mirror_axes": []},
                     {"name": "volume", "mirror_probability": 0.0}],
)  # fmt: skip
def test_an_anatomy_without_mirrors_trains_without_them(load, augmentation):
    load({"training": {"augmentation": augmentation}, "cohort": {"anatomy": {"mirror_axes": []}}})


def test_which_mirrors_an_anatomy_has_trains_nothing_again(load):
    first = load()
    other = load({"cohort": {"anatomy": {"mirror_axes": ["H", "W"]}}})
    assert other.settings_digests == first.settings_digests
    assert other.preprocessing_settings == first.preprocessing_settings
