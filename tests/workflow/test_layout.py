"""The layout of the results in the package is that of the rules."""

import json

import pytest
from fedpedbrain.planning.fingerprint import PACKAGE_ROOT, reached_files
from fedpedbrain.planning.layout import BY_NO_RULE, LAYOUT, find_output
from workspace import Workspace

# Of each rule: its name, the file that it stands in, its outputs with whether each is a folder, and its logs.
PROBE = """

import json
from snakemake.io import strip_wildcard_constraints

Path("rules.json").write_text(json.dumps([
    [
        maker.name,
        Path(maker.snakefile).stem,
        [[strip_wildcard_constraints(path), bool(path.is_directory)] for path in maker.output],
        [strip_wildcard_constraints(path) for path in maker.log],
    ]
    for maker in workflow.rules
]))
"""
# A value for each wildcard of the rules.
VALUES = {"arm": "fedavg", "candidate": "fedavg", "network": "unet", "imported": "theirs", "seed": 0, "round": 7}
VALUES |= {"site": "north", "scan": "scan.1", "model": "best"}
BIDS = "bids/dataset_description.json"


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    """What ``PROBE`` writes of the default study's rules in both geometries.

    A BIDS folder that is asked for lies outside the results.
    """
    workspace = Workspace(tmp_path_factory.mktemp("layout"))
    with open(workspace.folder / "Snakefile", "a") as file:
        file.write(PROBE)
    result = workspace.without_jobs("--list-rules", "--config", "bids_root=bids", "evaluation={geometry: both}")
    assert result.returncode == 0, result.stdout
    return json.loads((workspace.folder / "rules.json").read_text())


def filled(pattern):
    return pattern.replace("{round}", "{round:03d}").format(**VALUES)


def outputs_of(rules):
    """Of each output below the results: its rule's file, the pattern below the results and whether it is a folder."""
    for _, phase, outputs, _ in rules:
        for pattern, is_folder in outputs:
            if pattern != BIDS:
                folder, _, below = pattern.partition("/")
                assert folder == "results"
                yield phase, below, is_folder


def test_every_output_of_a_rule_is_of_one_row_with_the_same_wildcards_and_phase(rules):
    assert len(rules) > 50
    for phase, pattern, is_folder in outputs_of(rules):
        path = filled(pattern)
        found = {name: kind.values_in(path) for name, kind in LAYOUT.items() if kind.values_in(path) is not None}
        assert len(found) == 1, f"{pattern}: rows {list(found)}"
        ((name, values),) = found.items()
        own = {key: value for key, value in VALUES.items() if f"{{{key}}}" in pattern}
        # An output without wildcards may be one of several that a rule lists.
        assert own in ({}, values), pattern
        assert (LAYOUT[name].phase, LAYOUT[name].pattern.endswith("/")) == (phase, is_folder), pattern


def test_every_row_is_made_by_a_rule_or_says_that_none_makes_it(rules):
    made = {find_output(filled(pattern)).name for _, pattern, _ in outputs_of(rules)}
    assert made == {name for name, kind in LAYOUT.items() if kind.phase != BY_NO_RULE}


def test_what_no_rule_makes_are_logs_of_jobs_and_records(rules, repository):
    logs = [filled(path) for *_, logs in rules for path in logs]
    assert len(logs) > 40
    assert {find_output(path).name for path in logs} == {"logs"}
    assert 'RECORDS = Path("results/records")' in (repository / "rules" / f"{BY_NO_RULE}.smk").read_text()
    assert {name for name, kind in LAYOUT.items() if kind.phase == BY_NO_RULE} == {"logs", "records"}


def test_every_wildcard_of_the_layout_is_explained(repository):
    page = (repository / "docs" / "reference" / "wildcards-and-targets.md").read_text()
    assert not {name for kind in LAYOUT.values() for name in kind.wildcards if f"`{{{name}}}`" not in page}


def test_no_job_depends_on_the_layout_or_reruns_for_a_word_of_it(repository):
    layout = PACKAGE_ROOT / "planning" / "layout.py"
    assert layout in reached_files(PACKAGE_ROOT / "commands" / "describe_outputs.py")
    scripts = sorted((repository / "workflow_scripts").glob("*.py"))
    assert len(scripts) > 30
    assert not [path.name for path in scripts if layout in reached_files(path)]
