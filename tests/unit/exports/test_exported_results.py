"""What other programs read of a study: CSV, TensorBoard by its own reader, MLflow's file store by its form."""

import json

import pandas as pd
import pytest
import yaml
from fedpedbrain.base.files import files_below
from fedpedbrain.evaluation.tables import POOLED_SCOPE, read_results
from fedpedbrain.exports.model_runs import run_parameters
from study_arms import arm
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG, parse_session_start_info_plugin_data

VARIANTS = {
    "full": {},
    "no classes": {"classes": ()},
    "no regions": {"regions": ()},
    "three seeds": {"seeds": (0, 1, 2)},
}


def names_below(folder):
    return {str(path.relative_to(folder)) for path in files_below(folder)}


def mlflow_runs(exported):
    """Contents of every run's files by their place below it, by the run's name."""
    (experiment,) = (exported.folder / "mlflow").iterdir()
    runs = {}
    for folder in (path for path in experiment.iterdir() if path.is_dir()):
        content = {name: (folder / name).read_text() for name in names_below(folder)}
        runs[content["tags/mlflow.runName"]] = content
    return runs


@pytest.mark.parametrize("differing", VARIANTS.values(), ids=VARIANTS)
def test_means_of_the_values_are_those_of_the_summary(export, differing):
    exported = export(**differing)
    values = pd.read_csv(exported.folder / "metrics.csv")
    assert list(values)[:4] == ["arm", "seed", "case", "patient"]
    summary = read_results(exported.folder.with_name("study") / "summary.tsv")
    summary = summary[(summary["scope"] == POOLED_SCOPE) & summary["low"].isna() & (summary["num_cases"] > 0)]
    means = values[values["split"] == "test"].groupby(["arm", "target", "metric"])["value"].mean()
    compared = [row for row in summary.itertuples() if (row.arm, row.target, row.metric) in means.index]
    assert {row.metric for row in compared} >= ({"dice"} if "dice" in set(values["metric"]) else {"accuracy"})
    for row in compared:
        assert means[row.arm, row.target, row.metric] == pytest.approx(row.value, abs=1e-5), row


@pytest.mark.parametrize("differing", VARIANTS.values(), ids=VARIANTS)
def test_every_arm_and_seed_is_a_run_of_both_trackers(export, differing):
    exported = export(**differing)
    found = {place.rpartition("/")[0] for place in names_below(exported.folder / "tensorboard")}
    assert {f"{arm}/seed-{seed}" for arm, seed in exported.models} == {
        "/".join(place.split("/")[:2]) for place in found
    }
    # Of a pooled arm's sites there are validation scores, of the participant its training.
    assert {place for place in found if "seed-0" in place} == {
        *("fedavg/seed-0", "fedavg/seed-0/a", "fedavg/seed-0/b"),
        *("pooled-arm/seed-0", "pooled-arm/seed-0/a", "pooled-arm/seed-0/pooled"),
    }
    assert len(mlflow_runs(exported)) == len(exported.models)


def test_the_same_study_gives_the_same_bytes(export):
    exported = export()
    before = {path: path.read_bytes() for path in files_below(exported.folder)}
    assert len(before) > 50
    export(again=True)
    assert {path: path.read_bytes() for path in files_below(exported.folder)} == before


def test_rounds_have_the_values_of_the_arm_and_of_its_sites(export):
    rounds = pd.read_csv(export().folder / "rounds.csv")
    value = rounds.set_index(["arm", "seed", "round", "site", "metric"])["value"]
    at = ("fedavg", 0, 1)
    assert value[*at, "all sites", "training_loss"] == 1.0
    assert value[*at, "all sites", "uploaded_bytes"] == 200
    assert value[*at, "a", "training_loss"] == 1.5, "of the last epoch"
    assert value[*at, "a", "validation_dice"] == 0.5
    assert value[*at, "a", "validation_accuracy"] == 0.5
    assert value[*at, "b", "cosine_to_others"] == -0.25
    assert rounds["value"].notna().all()
    places = rounds[["arm", "round"]].drop_duplicates().itertuples(index=False, name=None)
    assert list(places) == [("pooled-arm", 1), ("pooled-arm", 2), ("fedavg", 1), ("fedavg", 2)]


def test_an_arm_that_exchanges_nothing_uploads_nothing(export):
    exported = export()
    rounds = pd.read_csv(exported.folder / "rounds.csv").groupby("arm")["metric"].agg(set)
    assert rounds["fedavg"] - rounds["pooled-arm"] == {"uploaded_bytes", "num_updates"}
    assert "update_norm" in rounds["pooled-arm"]
    of_pooled = mlflow_runs(exported)["pooled-arm, seed 0"]
    assert "metrics/rounds/training_loss" in of_pooled
    assert not [name for name in of_pooled if name.endswith(("uploaded_bytes", "num_updates"))]


def test_trackers_credit_the_common_model_with_no_score_of_sites_own_models(export):
    personal = arm("fedbn", {"a": ["a"]}, strategy={"name": "fedbn"})
    run = mlflow_runs(export(arms=(personal,)))["FedBN, seed 0"]
    scores = {name.removeprefix("metrics/").rpartition("/")[0] for name in run if name.endswith("/dice")}
    own = "test_with_sites_own_models"
    # Site b has no model of its own, nor has the external one.
    assert scores == {f"{own}/tumour", f"{own}_at_a/tumour", "test_at_b/tumour", "external_at_x/tumour"}
    assert run["params/is_personal"] == "True"


def test_studies_that_differ_in_arms_or_seeds_can_share_a_store(export):
    stores = [export(), export(seeds=(0, 1, 2)), export(arms=(arm("fedavg", {"a": ["a"], "b": ["b"]}),))]
    experiments = [next((exported.folder / "mlflow").iterdir()) for exported in stores]
    assert len({experiment.name for experiment in experiments}) == len(stores)
    names = {yaml.safe_load((experiment / "meta.yaml").read_text())["name"] for experiment in experiments}
    assert len(names) == len(stores), "a database has no two experiments of one name"
    assert all(name.startswith("A study (") for name in names)
    runs = [path.name for experiment in experiments for path in experiment.iterdir() if path.is_dir()]
    assert len(set(runs)) == len(runs)


def test_settings_that_decide_a_run_are_among_its_parameters(export):
    study = export().study
    first = {"first_round": 1, "last_round": 1, "sites": ["a"], "learning_rate": 0.5, "start": "last"}
    phases = [first, first | {"first_round": 2, "last_round": None, "start": "best"}]
    parameters = run_parameters({**study["arms"][1], "phases": phases}, 0, study)
    assert [phase["learning_rate"] for phase in json.loads(parameters["phases"])] == [0.5, 0.5]
    assert [phase["start"] for phase in json.loads(parameters["phases"])] == ["last", "best"]
    assert "sites" not in parameters["phases"]
    assert parameters["preprocessing.intensity.percentile.upper_percentile"] == 99.5
    assert parameters["network.pretrained.part"] == "all"
    assert not [name for name in parameters if "z_score" in name or "i3d_unet" in name]


def test_a_normalisation_without_options_needs_none(export):
    study = export().study
    preprocessing = study["config"]["preprocessing"]
    as_stored = study["config"] | {"preprocessing": preprocessing | {"intensity": {"name": "reference"}}}
    parameters = run_parameters(study["arms"][1], 0, study | {"config": as_stored})
    assert parameters["preprocessing.intensity.name"] == "reference"


def test_a_site_that_sent_nothing_has_no_values_of_training(export):
    rounds = pd.read_csv(export().folder / "rounds.csv")
    of_b = rounds[(rounds["arm"] == "fedavg") & (rounds["site"] == "b")].set_index("round")["metric"]
    assert {"training_loss", "update_norm", "learning_rate"} <= set(of_b[1])
    assert not {"training_loss", "update_norm", "learning_rate"} & set(of_b[2])


def test_tensorboard_reads_scalars_by_round_and_the_scores_at_the_chosen_one(export):
    folder = export().folder / "tensorboard" / "fedavg" / "seed-0"
    of_arm, of_site = (EventAccumulator(str(path)).Reload() for path in (folder, folder / "a"))
    assert [(event.step, event.value) for event in of_site.Scalars("rounds/learning_rate")] == [(1, 0.5), (2, 0.25)]
    assert [(event.step, event.value) for event in of_arm.Scalars("rounds/training_loss")] == [(1, 1.0), (2, 0.5)]
    (score,) = of_arm.Scalars("test/tumour/dice")
    assert (score.step, score.value, score.wall_time) == (2, pytest.approx(0.6015), 0.0)
    assert of_arm.Scalars("external_at_x/tumour/dice")[0].value == pytest.approx(0.603)
    settings = parse_session_start_info_plugin_data(
        of_arm.SummaryMetadata(SESSION_START_INFO_TAG).plugin_data.content
    ).hparams
    assert settings["training.optimizer.learning_rate"].number_value == 0.003
    assert settings["strategy.name"].string_value == "fedavg"
    assert settings["training.deterministic"].bool_value is False


def test_mlflow_finds_settings_values_by_round_and_where_the_model_is(export):
    exported = export(seeds=(0, 1, 2))
    run = mlflow_runs(exported)["FedAvg, seed 1"]
    assert run["params/training.optimizer.learning_rate"] == "0.003"
    assert run["params/kind"] == "federated"
    assert run["metrics/rounds/training_loss"] == "0 1.0 1\n0 0.5 2\n"
    assert run["metrics/sites/a/training_loss"] == "0 1.5 1\n0 3.0 2\n"
    assert run["metrics/test/tumour/dice"] == "0 0.6115 2\n"
    assert run["tags/settings_digest"] == "ef" * 32
    assert run["tags/model_sha256"] == "34" * 32
    assert run["tags/version.fedpedbrain"] == "1.2.3"
    assert run["tags/model_folder"] == str(exported.card("fedavg", 1).parent)
    assert run["artifacts/README.md"] == exported.card("fedavg", 1).read_text()
    assert "artifacts/selection.json" in run
    assert not [name for name in run if name.endswith(".pth")]
    meta = yaml.safe_load(run["meta.yaml"])
    (experiment,) = (exported.folder / "mlflow").iterdir()
    assert (
        meta["experiment_id"]
        == experiment.name
        == yaml.safe_load((experiment / "meta.yaml").read_text())["experiment_id"]
    )
    # What mlflow.entities.RunStatus and SourceType call FINISHED and LOCAL, and a time that is the same every time.
    assert (meta["status"], meta["source_type"], meta["start_time"], meta["lifecycle_stage"]) == (3, 4, 0, "active")
    assert (experiment / meta["run_id"] / "meta.yaml").is_file()
    # Of 63 bits, as a database keeps it.
    assert int(experiment.name) < 2**63
