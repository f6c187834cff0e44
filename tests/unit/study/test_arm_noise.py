"""What would carry cases past the noise of an arm."""

import pytest
from fedpedbrain.base.errors import StudyError
from fedpedbrain.study.network_facts import NETWORKS
from fedpedbrain.study.study import Study, load_study
from snakemake.utils import update_config

SITE_NOISE = {"clip_norm": 1.0, "noise_multiplier": 1.0}
CASE_NOISE = {"example_level": {"clip_norm": 1.0, "noise_multiplier": 1.0}}
either_noise = pytest.mark.parametrize(
    ("privacy", "key"), [(SITE_NOISE, "noise_multiplier"), (CASE_NOISE, "example_level")], ids=["sites", "cases"]
)


@pytest.fixture
def load_private(config, schema_path):
    """Load the study with settings of its federated arm."""

    config["arms"] = [
        {"name": "centralized", "participants": "pooled"},
        {"name": "local", "participants": "alone"},
        {"name": "fedavg", "participants": "sites"},
    ]

    def _load(network: str, changes: dict | None = None, **arm) -> Study:
        config["arms"][2] |= arm
        update_config(config, {"network": {"name": network}} | (changes or {}))
        return load_study(config, schema_path)

    return _load


@either_noise
@pytest.mark.parametrize("batch_norm", ["average", "local"])
def test_noise_with_batch_statistics_that_sites_send_is_refused(load_private, privacy, key, batch_norm):
    with pytest.raises(StudyError) as caught:
        load_private("i3d_unet", privacy=privacy, batch_norm=batch_norm)
    assert str(caught.value) == (
        f"arms.fedavg.privacy.{key}: i3d_unet has batch statistics, which take no noise; "
        "set the arm's batch_norm: frozen, or network.name: unet"
    )


@either_noise
@pytest.mark.parametrize(
    ("network", "batch_norm"), [("i3d_unet", "frozen"), ("unet", "average")], ids=["frozen", "without any"]
)
def test_noise_without_batch_statistics_is_a_study(load_private, privacy, key, network, batch_norm):
    assert load_private(network, privacy=privacy, batch_norm=batch_norm).arms["fedavg"].is_private


@pytest.mark.parametrize(("participants", "name"), [("pooled", "centralized"), ("alone", "local-north")])
def test_arms_without_exchange_train_privately_as_the_baseline(load_private, config, participants, name):
    (block,) = (block for block in config["arms"] if block["participants"] == participants)
    block |= {"privacy": CASE_NOISE | {"delta": 0.001}, "batch_norm": "frozen"}
    study = load_private("i3d_unet")
    assert study.arms[name].is_private
    assert study.arms[name].block["privacy"]["delta"] == 0.001
    number, sites = 1, study.arms[name].participants
    plan = study.site_plan(name, 0, number, sites[0])
    assert plan["arm"]["privacy"]["example_level"] == CASE_NOISE["example_level"]
    assert plan["arm"]["batch_norm"] == "frozen"


def test_a_baseline_with_batch_statistics_takes_no_noise_either(load_private, config):
    config["arms"][0]["privacy"] = CASE_NOISE
    with pytest.raises(StudyError, match=r"arms\.centralized\.privacy\.example_level: i3d_unet has"):
        load_private("i3d_unet")


def test_batch_statistics_without_noise_are_a_study(load_private):
    assert not load_private("i3d_unet", privacy={"clip_norm": 1.0}).arms["fedavg"].is_private


def test_the_networks_with_batch_norm_are_those_that_are_named(repository):
    folder = repository / "pkg/fedpedbrain/models/architectures"
    sources = {path.stem: path.read_text() for path in folder.glob("*.py")}
    assert {name for name, text in sources.items() if "BatchNorm" in text} == {
        name for name, facts in NETWORKS.items() if facts.has_batch_norm
    }


def test_classes_balanced_by_the_cases_are_refused_with_noise_on_cases(load_private):
    balanced = {"training": {"loss": {"balance_classes": True}}}
    with pytest.raises(StudyError) as caught:
        load_private("unet", balanced, privacy=CASE_NOISE)
    assert str(caught.value) == (
        "arms.fedavg.privacy.example_level: training.loss.balance_classes lets every case change the weight of the "
        "others; set it to false"
    )


def test_classes_balanced_by_the_cases_go_with_noise_on_sites(load_private):
    assert load_private("unet", {"training": {"loss": {"balance_classes": True}}}, privacy=SITE_NOISE).arms


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_noise_is_refused_where_rounding_lengthens_clipped_updates(load_private, dtype):
    with pytest.raises(StudyError) as caught:
        load_private("unet", privacy=SITE_NOISE, exchange={"dtype": dtype, "content": "difference"})
    assert str(caught.value) == (
        "arms.fedavg.privacy.noise_multiplier: rounding makes updates longer than clip_norm; "
        "set exchange.dtype: float32"
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_updates_of_private_cases_may_be_rounded(load_private, dtype):
    assert load_private("unet", privacy=CASE_NOISE, exchange={"dtype": dtype, "content": "difference"}).arms
