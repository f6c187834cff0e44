"""The profiles: what all have in common, what the cluster is asked for, and that its groups wait in no circle."""

import re

import pytest
import yaml
from fedpedbrain.reporting.figure_facts import FIGURES
from workspace import REPOSITORY, Workspace

DEFAULT = yaml.safe_load((REPOSITORY / "profiles/default/config.yaml").read_text())
SLURM = yaml.safe_load((REPOSITORY / "profiles/slurm/config.yaml").read_text())
# What depends on the place; all else decides what reruns, and how a run goes on.
OF_A_PLACE = {"cores", "resources"}
# They run where Snakemake does.
LOCAL_RULES = {"fetch_site", "fetch_pretrained", "fetch_checkpoint"}
# Targets of requests, which run nothing themselves.
TARGETS = {"predict", "import_model"}
ARMS = {
    "cyclic": "strategy: {name: cyclic}",
    "masked": "privacy: {secure_sum: true}",
    "phased": "strategy: {name: fedbn}, phases: [{sites: [north], rounds: 1}, {start: best}]",
}
STUDY = [
    "study={rounds: 2}",
    "arms=[" + ", ".join(f"{{name: {name}, participants: sites, {block}}}" for name, block in ARMS.items()) + "]",
    "evaluation={reference_arm: cyclic}",
    "reporting={video: {arms: [cyclic]}}",
]


def rule_names() -> set[str]:
    texts = [path.read_text() for path in (REPOSITORY / "rules").glob("*.smk")]
    named = r"^(?:use rule \w+ as|rule) (\w+)(?::| with)"
    written = {name for text in texts for name in re.findall(named, text, re.MULTILINE)}
    return written | {f"plot_{figure}" for figure in FIGURES}


@pytest.mark.parametrize("name", ["slurm", "local-gpu", "cpu"])
def test_what_reruns_is_the_same_wherever_a_study_runs(name):
    profile = yaml.safe_load((REPOSITORY / "profiles" / name / "config.yaml").read_text())
    shared = DEFAULT.keys() - OF_A_PLACE
    assert {key: profile[key] for key in shared} == {key: DEFAULT[key] for key in shared}


def test_every_rule_asks_the_cluster_for_memory_and_time_and_for_more_at_each_try():
    asked = SLURM["set-resources"]
    assert asked.keys() == rule_names() - LOCAL_RULES - TARGETS
    for name, resources in asked.items():
        assert resources.keys() == {"mem_mb", "runtime"}, name
        assert all(re.fullmatch(r"\d+ \* attempt", text) for text in resources.values()), name


def test_rounds_that_pass_ask_for_what_others_ask_for():
    for block in ("groups", "set-resources"):
        for rule, variant in (("train_site", "train_passing_site"), ("aggregate_round", "aggregate_passing_round")):
            assert SLURM[block][variant] == SLURM[block][rule]


def test_groups_name_rules():
    assert SLURM["groups"].keys() <= rule_names()
    assert SLURM["group-components"].keys() <= set(SLURM["groups"].values())


def test_a_round_of_any_arm_is_one_job_of_the_cluster(tmp_path):
    command = ["--workflow-profile", "profiles/slurm", "--dry-run", "--config", *STUDY]
    result = Workspace(tmp_path).without_jobs(*command)
    assert result.returncode == 0, result.stdout
    groups = re.findall(r"Group job (\S+)", result.stdout)
    assert len(groups) == len(set(groups))
    of_arms = {f"{group}-{name}-0" for name in ARMS for group in ("model", "round", "validation")}
    expected = {group for group in SLURM["groups"].values() if "{" not in group}
    assert {re.sub(r"-\d{3}$", "", group) for group in groups} == expected | of_arms
    assert sum(group.startswith("round-") for group in groups) == 2 * len(ARMS)
    # All sites validate a block of rounds in one; the phased arm has a block of either phase.
    assert sum(group.startswith("validation-") for group in groups) == len(ARMS) + 1
