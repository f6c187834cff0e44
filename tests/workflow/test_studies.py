"""The named studies: each loads, its header says what to expect, and the template is a study as it is."""

import re

import pytest
import yaml
from fedpedbrain.study.study import load_study
from snakemake.utils import update_config
from workspace import REPOSITORY, Workspace

STUDIES = sorted((REPOSITORY / "studies").glob("*.yaml"))
TEMPLATE = REPOSITORY / "studies" / "template.yaml"


def header_of(path):
    return path.read_text(encoding="utf-8").split("\nstudy:")[0]


@pytest.mark.parametrize("path", [*STUDIES, REPOSITORY / "config.yaml"], ids=lambda path: path.stem)
def test_a_studys_header_states_its_command_its_time_and_the_score_to_expect(path):
    header = header_of(path)
    assert re.search(r"^#.*snakemake .*--cores all", header, re.MULTILINE)
    assert "# Time: " in header
    assert "Score to expect: " in header


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_loads(path, config, schema_path):
    update_config(config, yaml.safe_load(path.read_text(encoding="utf-8")))
    study = load_study(config, schema_path, lambda settings: dict.fromkeys(settings["sites"], 10))
    assert study.config["study"]["title"] != ""


def test_each_line_of_the_template_says_what_to_fill_in():
    body = TEMPLATE.read_text(encoding="utf-8").removeprefix(header_of(TEMPLATE)).strip().splitlines()
    assert len(body) <= 25
    blocks = ("study:", "cohort:", "sites:", "bids:")
    without = [line for line in body if " #" not in line and line.strip() not in blocks]
    assert [line.split(":")[0].strip() for line in without] == []


def test_the_template_is_planned_as_it_is(bids, tmp_path):
    bids.rows.clear()
    for number, site in enumerate(["site_a", "site_b", "site_c"] * 4):
        bids.add(f"sub-1{number:02}", site, "n/a", suffixes=["FLAIR"])
    (tmp_path / "study").mkdir()
    workspace = Workspace(tmp_path / "study")
    config = [f"cohort_root={bids.root}", "study={rounds: 2}"]
    jobs = workspace.planned("--configfile", "studies/template.yaml", "--config", *config)
    # Pooled, two sites alone, and two federated ones, in each of two rounds.
    assert jobs["train_site"] == 2 * (1 + 2 + 2)
    assert jobs["build_shard"] == 3
