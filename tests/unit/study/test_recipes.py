"""An arm may have its own training and network; what it does not name is the study's."""

import pytest
from fedpedbrain.base.errors import StudyError
from fedpedbrain.study.study import load_study

OWN = {"network": {"name": "i3d_unet"}, "training": {"optimizer": {"name": "sgd", "learning_rate": 0.1}}}


@pytest.fixture
def load(config, schema_path):
    """``load(**block)``: a study whose arm ``own`` has these blocks, beside a pooled arm and plain FedAvg."""

    def _load(**block):
        config["arms"] = [
            {"name": "centralized", "participants": "pooled"},
            {"name": "fedavg", "participants": "sites"},
            {"name": "own", "participants": "sites", **block},
        ]
        return load_study(config, schema_path)

    return _load


def test_an_arms_blocks_are_laid_over_the_studys_key_by_key(load):
    study = load(**OWN)
    training = study.recipes["own"].training
    assert training["optimizer"] == study.config["training"]["optimizer"] | OWN["training"]["optimizer"]
    assert training["loss"] == study.config["training"]["loss"]
    assert study.site_plan("own", 0, 1, "north")["learning_rate"] == 0.1
    assert study.site_plan("fedavg", 0, 1, "north")["learning_rate"] == study.recipes["fedavg"].learning_rate != 0.1
    assert study.round_plan("own", 1)["momentum"] == study.round_plan("fedavg", 1)["momentum"] == 0.0


def test_a_recipe_says_what_of_it_is_the_arms_own(load):
    assert load(**OWN).recipes["own"].differences == {
        "training.optimizer.name": "sgd",
        "training.optimizer.learning_rate": 0.1,
        "network.name": "i3d_unet",
        "network.i3d_unet": load().config["network"]["i3d_unet"],
    }
    assert load().recipes["own"].differences == {}
    # A block that says what the study says is no recipe of its own.
    same = {"training": {"batch_size": load().config["training"]["batch_size"]}}
    assert load(**same).settings_digests == load().settings_digests


def test_arms_of_one_network_share_a_start_and_others_have_their_own(load):
    study = load(**OWN)
    assert study.recipes["fedavg"].start == study.recipes["centralized"].start == "unet"
    assert study.recipes["own"].start.startswith("i3d_unet_")
    assert set(study.starts) == {"unet", study.recipes["own"].start}
    assert study.model_spec(study.starts["unet"])["name"] == "unet"
    # Another learning rate alone needs no other start; weights made elsewhere do.
    assert set(load(training=OWN["training"]).starts) == {"unet"}
    assert len(load(network={"pretrained": {"source": "weights.pth"}}).starts) == 2


def test_a_recipe_changes_no_digest_and_no_choice_of_another_arm(load):
    plain, study = load(), load(**OWN)
    for name in ("centralized", "fedavg"):
        assert study.settings_digests[name] == plain.settings_digests[name]
        assert study.arm_choices[name] == plain.arm_choices[name]
    assert study.settings_digests["own"] != plain.settings_digests["own"]
    assert {("NETWORKS", "i3d_unet"), ("OPTIMIZERS", "sgd")} <= study.arm_choices["own"]
    assert ("NETWORKS", "unet") not in study.arm_choices["own"]


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"training": {"lerning": 1}}, r"config: unknown key arms\.2\.training\.lerning; the nearest known key is"),
        ({"training": {"threads": 2}}, r"config: unknown key arms\.2\.training\.threads"),
        ({"network": {"name": "vnet"}}, r"config: arms\.2\.network\.name: 'vnet' is not one of"),
        (
            {"training": {"loss": {"segmentation_weight": 0.0, "classification_weight": 0.0}}},
            r"^arms\.own\.training\.loss: nothing is learnt",
        ),
        ({"network": {"unet": {"strides": [[1, 2, 2], [5, 2, 2]]}}}, r"^arms\.own\.network\.unet: \d channels but 2"),
        (
            {"network": {"name": "i3d_unet"}, "privacy": {"clip_norm": 1.0, "noise_multiplier": 1.0}},
            r"^arms\.own\.privacy\.noise_multiplier: i3d_unet has batch statistics",
        ),
    ],
    ids=["unknown key", "threads", "network", "loss", "strides", "noise"],
)
def test_a_recipe_that_cannot_be_is_refused_by_the_arms_name(load, block, message):
    with pytest.raises(StudyError, match=message):
        load(**block)
