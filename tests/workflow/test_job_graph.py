"""How many jobs a study has, and of which kind."""

import re
from collections import Counter
from types import SimpleNamespace

import pytest
import yaml
from workspace import TINY, Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("graph"))


def test_the_default_study_trains_every_arm_every_round(workspace):
    jobs = workspace.planned("--config", "study={rounds: 3}")
    # A round is one pooled job, one for each of three sites alone, and one for each of three federated sites.
    assert jobs["train_site"] == 3 * (1 + 3 + 3)
    assert jobs["aggregate_round"] == 3 * 5
    # Every arm is validated on the patients of all three sites, all rounds of a block at once.
    assert jobs["validate_site"] == 5 * 3
    # Of the federated arm alone: elsewhere a round has one update.
    assert jobs["inspect_updates"] == 3
    assert jobs["select_model"] == jobs["predict_cases"] == jobs["score_predictions"] == 5
    assert jobs["build_shard"] == 4
    assert jobs["initialize_model"] == jobs["write_report"] == 1
    # Without noise there is no privacy to account for.
    assert "account_privacy" not in jobs


def test_component_filters_are_chosen_for_every_candidate_and_seed_where_there_is_a_choice(workspace):
    several = "evaluation={component_filters: {smallest_ml: [0.0, 0.5]}}"
    jobs = workspace.planned("--config", "study={rounds: 1, seeds: [0, 1]}", several)
    assert jobs["choose_filters"] == jobs["predict_cases"] == 2 * 5
    single = "evaluation={component_filters: {largest_only: [true]}}"
    assert "choose_filters" not in workspace.planned("--config", "study={rounds: 1}", single)


def test_scans_are_laid_out_for_scores_and_no_training_asks_for_them(workspace):
    assert workspace.planned("--config", "study={rounds: 1}")["lay_out_scans"] == 4
    models = workspace.planned("--config", "study={rounds: 1}", "--", "models", "cohort")
    assert models["train_site"] == 7
    assert "lay_out_scans" not in models
    on_grid = workspace.planned("--config", "study={rounds: 1}", "evaluation={geometry: grid}")
    assert on_grid["score_predictions"] == 5
    assert "lay_out_scans" not in on_grid
    both = workspace.planned("--config", "study={rounds: 1}", "evaluation={geometry: both}")
    assert (both["lay_out_scans"], both["score_predictions"]) == (4, 5)


def test_a_second_seed_doubles_training_and_shares_the_cohort(workspace):
    jobs = workspace.planned("--config", "study={rounds: 1, seeds: [0, 1]}")
    assert jobs["train_site"] == 2 * 7
    assert jobs["initialize_model"] == 2
    assert jobs["build_shard"] == 4


def test_a_cost_waits_for_a_job_that_runs_again_though_its_record_is_gone(tmp_path):
    workspace = Workspace(tmp_path)
    # There, but older than the model that it is predicted with.
    masks = tmp_path / "results/predictions/fedavg/seed-0/masks.npy"
    masks.parent.mkdir(parents=True)
    masks.touch()
    cost = "results/models/fedavg/seed-0/cost.tsv"
    assert workspace.planned("--config", "study={rounds: 1}", "--", cost)["predict_cases"] == 1


def planned_lines(workspace):
    """What a dry run says of every job, without the order, the numbers and the times of its lines."""
    output = workspace.without_jobs("--dry-run", "--configfile", TINY).stdout
    lines = [re.sub(r"^Job \d+", "Job", line) for line in output.splitlines()]
    return Counter(word for line in lines if line.startswith(("Job", "Reason")) for word in line.split(", "))


def test_what_is_asked_once_while_planning_changes_no_plan(workspace, tmp_path):
    plain = workspace.copy(tmp_path / "plain")
    snakefile = plain.folder / "Snakefile"
    include = 'include: "rules/snakemake_internals.smk"\n'
    assert include in snakefile.read_text()
    snakefile.write_text(snakefile.read_text().replace(include, ""))
    lines = planned_lines(workspace)
    assert sum(line.startswith("Job") for line in lines.elements()) > 50
    assert lines == planned_lines(plain)


def plan_of_scans(workspace, **config):
    arguments = [f"{key}={value}" for key, value in config.items()]
    return workspace.planned("--configfile", "studies/tcga_lgg.yaml", "--config", *arguments, "--", "predict")


@pytest.fixture
def touched(tmp_path):
    """``touched(path)``: an empty file below the test's folder."""

    def _touched(path: str):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
        return tmp_path / path

    return _touched


def test_a_new_scan_is_predicted_where_the_cohort_of_its_models_study_is_not(workspace, touched):
    jobs = plan_of_scans(workspace, scan=touched("scan.nii.gz"), model=touched("model.pth"))
    assert jobs == {"predict_scan": 1, "render_scan": 1, "write_scan_page": 1, "predict": 1}


def test_every_scan_of_an_inbox_is_a_job_for_every_model(workspace, touched):
    for name in ("a.nii.gz", "b {odd} name.nii.gz", "series/1.dcm", "series/2 {odd}.dcm"):
        touched(f"inbox/{name}")
    models = f"first={touched('model.pth')},second={touched('other.pth')}"
    jobs = plan_of_scans(workspace, inbox=touched("inbox/a.nii.gz").parent, model=models)
    assert jobs == {"predict_scan": 3 * 2, "render_scan": 3, "write_scan_page": 3, "predict": 1}


@pytest.mark.parametrize(
    ("checkpoint", "jobs"),
    [
        ("file", {"import_checkpoint": 1}),
        ("hf://owner/name@v1/ckpt.pth", {"fetch_checkpoint": 1, "import_checkpoint": 1}),
    ],
)
def test_a_checkpoint_is_imported_where_no_cohort_is(workspace, touched, checkpoint, jobs):
    if checkpoint == "file":
        checkpoint = touched("ckpt.pth")
    config = [f"checkpoint={checkpoint}", "imported_model=theirs", "cohort={source: bids}", "cohort_root=/nowhere"]
    assert workspace.planned("import_model", "--config", *config) == jobs | {"import_model": 1}
    # The target of whoever needs a model of that name.
    assert workspace.planned("--config", *config, "--", "results/models/imported/theirs.pth") == jobs


def test_a_model_that_was_imported_before_is_scored_as_the_file_that_it_is(workspace):
    path = workspace.folder / "results/models/imported/theirs.pth"
    path.parent.mkdir(parents=True)
    path.touch()
    candidates = "candidates=[{name: theirs, model: results/models/imported/theirs.pth}]"
    jobs = workspace.planned("--config", "study={rounds: 1}", candidates)
    path.unlink()
    assert "import_checkpoint" not in jobs
    assert jobs["score_predictions"] == 5 + 1


def test_a_study_without_external_sites_is_planned(workspace):
    jobs = workspace.planned("--config", "study={rounds: 1}", "cohort={sites: {training: [north, east], external: []}}")
    assert jobs["build_shard"] == 2
    assert jobs["train_site"] == 1 + 2 + 2


def test_privacy_is_accounted_for_in_arms_with_noise_and_no_others(workspace):
    arms = [
        "{name: centralized, participants: pooled}",
        "{name: fedavg, participants: sites}",
        "{name: clipped, participants: sites, privacy: {clip_norm: 1.0}}",
        "{name: sites, participants: sites, privacy: {clip_norm: 1.0, noise_multiplier: 1.0}}",
        "{name: cases, participants: sites, privacy: {example_level: {clip_norm: 1.0, noise_multiplier: 1.0}}}",
    ]
    jobs = workspace.planned("--config", "study={rounds: 2, seeds: [0, 1]}", f"arms=[{', '.join(arms)}]")
    assert jobs["select_model"] == 5 * 2
    assert jobs["account_privacy"] == 2 * 2


# Arms: the default study has the training sites north, east and south.


@pytest.fixture
def plan(workspace, tmp_path):
    """``plan(rounds, seeds, block)``: jobs by rule of a study of one arm, named ``arm``."""

    def _plan(num_rounds: int = 3, seeds=(0,), participants: str = "sites", **block):
        first = {"alone": "arm-north", "all_but_one": "arm-north"}.get(participants, "arm")
        overlay = {
            "study": {"rounds": num_rounds, "seeds": list(seeds)},
            "arms": [{"name": "arm", "participants": participants, **block}],
            "evaluation": {"reference_arm": first},
            "reporting": {"video": {"arms": [first]}},
        }
        (tmp_path / "overlay.yaml").write_text(yaml.safe_dump(overlay))
        return workspace.planned("--configfile", str(tmp_path / "overlay.yaml"))

    return _plan


@pytest.mark.parametrize(
    ("participants", "num_arms", "num_jobs"),
    [("pooled", 1, 1), ("alone", 3, 3), ("sites", 1, 3), ("all_but_one", 3, 6), ("iid", 1, 3)],
)
def test_every_participant_of_an_arm_trains_once_a_round(plan, participants, num_arms, num_jobs):
    jobs = plan(2, participants=participants)
    assert jobs["train_site"] == 2 * num_jobs
    assert jobs["aggregate_round"] == 2 * num_arms
    assert jobs["validate_site"] == 3 * num_arms
    assert jobs["select_model"] == jobs["record_lineage"] == jobs["predict_cases"] == num_arms
    assert not {"select_phase_start", "personalize_model", "make_keys"} & set(jobs)


def test_absent_sites_do_not_train(plan):
    jobs = plan(3, participation={"absent": {"south": [2], "east": [2, 3]}})
    assert jobs["train_site"] == 3 * 3 - 3
    assert jobs["aggregate_round"] == 3


def test_sites_that_are_not_drawn_do_not_train(plan):
    jobs = plan(3, seeds=[0, 1], participation={"fraction": 0.5})
    assert jobs["train_site"] == 2 * 3 * 2
    assert jobs["aggregate_round"] == 2 * 3


@pytest.mark.parametrize(("start", "num_choices"), [("best", 2), ("last", 0)])
def test_a_phase_that_starts_from_the_best_model_chooses_it_once_a_seed(plan, start, num_choices):
    jobs = plan(4, seeds=[0, 1], phases=[{"largest": 2, "rounds": 2}, {"start": start}])
    assert jobs.get("select_phase_start", 0) == num_choices
    assert jobs["train_site"] == 2 * (2 * 2 + 2 * 3)
    assert jobs["select_model"] == 2


@pytest.mark.parametrize("block", [{"strategy": {"name": "ditto"}}, {"batch_norm": "local"}], ids=["ditto", "local"])
def test_a_personal_arm_ends_with_a_model_a_site(plan, block):
    assert plan(2, seeds=[0, 1], **block)["personalize_model"] == 2 * 3


def test_a_site_that_never_took_part_has_no_model_of_its_own(plan):
    jobs = plan(2, strategy={"name": "fedbn"}, participation={"absent": {"south": [1, 2]}})
    assert jobs["personalize_model"] == 2


def test_an_arm_that_sums_securely_makes_keys_once_a_site_and_round(plan):
    jobs = plan(3, seeds=[0, 1], privacy={"secure_sum": True})
    assert jobs["make_keys"] == jobs["train_site"] == 2 * 3 * 3


def test_arms_that_differ_do_not_take_each_others_jobs(workspace, tmp_path):
    overlay = {
        # Nothing of round 2 stays but its numbers, and of round 1 states of sites in the personal arm alone.
        "study": {"rounds": 3, "keep_every": 3},
        "arms": [
            {"name": "centralized", "participants": "pooled"},
            {"name": "fedavg", "participants": "sites"},
            {"name": "warm", "participants": "sites", "phases": [{"sites": ["east"], "rounds": 1}, {"start": "best"}]},
            {"name": "own", "participants": "sites", "strategy": {"name": "fedbn"}},
            {"name": "secret", "participants": "sites", "privacy": {"secure_sum": True}},
        ],
    }
    (tmp_path / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    output = workspace.without_jobs("--dry-run", "--configfile", str(tmp_path / "overlay.yaml")).stdout
    messages = re.findall(r"Job \d+: (\w+), seed 0: (?:round \d+ of 3, |rounds from \d+ on, )?(.*)", output)
    counts = Counter((arm, re.sub("north|east|south", "SITE", text)) for arm, text in messages)
    training = {"centralized": 3, "fedavg": 9, "warm": 1 + 2 * 3, "own": 9, "secret": 9}
    name_of = {"centralized": "training pooled"}
    assert {arm: counts[arm, name_of.get(arm, "training SITE")] for arm in training} == training
    assert {arm: counts[arm, "averaging"] for arm in training} == dict.fromkeys(training, 3)
    # Of the arm of two phases, each of them.
    assert {arm: counts[arm, "validating on SITE"] for arm in training} == dict.fromkeys(training, 3) | {"warm": 2 * 3}
    jobs = dict(re.findall(r"^(\w+passing\w+) +(\d+)$", output, re.MULTILINE))
    # Both rounds before the last, of the personal arm the second.
    assert jobs == {"train_passing_site": f"{2 + 6 + 4 + 6 + 3}", "aggregate_passing_round": "5"}
    assert {arm for arm, text in counts if text == "making the model of SITE"} == {"own"}
    assert {arm for arm, text in counts if text == "making keys of SITE"} == {"secret"}
    assert {arm for arm, text in counts if text.startswith("choosing the model that round 002")} == {"warm"}
    assert len(messages) == sum(counts.values()) > 60


# Which job goes first.


RULE_WITH_PRIORITY = r"^(?:use rule \w+ as|rule) (\w+)(?::| with:)\n(?:(?!^(?:use )?rule ).*\n)*?    priority: (.+)\n"


def test_what_training_waits_for_goes_before_it_and_validation_after_it(repository):
    text = "".join(path.read_text() for path in sorted((repository / "rules").glob("*.smk")))
    priorities = dict(re.findall(RULE_WITH_PRIORITY, text, re.MULTILINE))
    first = ["make_keys", "aggregate_round", "select_phase_start"]
    assert priorities == dict.fromkeys(first, "priorities.UNBLOCKS_TRAINING") | {
        "inspect_updates": "priorities.FREES_DISK",
        "index_site": "largest_first",
        "build_shard": "largest_first",
        "train_site": "training_first",
        "validate_site": "validation_last",
        "measure_timeline": "priorities.LAST",
    }


@pytest.mark.parametrize(("num_gpus", "is_local", "cores"), [(4, True, 1), (0, True, 2), (1, False, 2)])
def test_a_training_job_counts_as_one_core_of_a_machine_with_gpus(repository, num_gpus, is_local, cores):
    names = {
        "STUDY": SimpleNamespace(arms={}, config={"training": {"threads": 2}}),
        # Of a cluster's nodes, a job gets the cores that it asks for.
        "workflow": SimpleNamespace(global_resources={"gpu": SimpleNamespace(value=num_gpus)}, local_exec=is_local),
    }
    exec((repository / "rules/priorities.smk").read_text(), names)
    assert names["CORES_OF_TRAINING"] == cores
