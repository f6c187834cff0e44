"""What a change makes run anew: the rows of docs/reference/reruns.md, each as the exact jobs that a study plans."""

import os
import re
import shutil

import pytest
from workspace import REPOSITORY, TINY, Workspace

pytestmark = pytest.mark.slow

# Of the tiny study: centralized, local-north, local-east and fedavg, 2 rounds.
ARMS = 4
# One each in a round of centralized, local-north and local-east, two in one of fedavg.
TRAINING_JOBS_A_ROUND = 5
# North and east, on whose patients every arm is validated.
TRAINING_SITES = 2
# Of one site, and of all sites together.
OF_A_SITE = ["index_site", "split_site", "build_shard", "split_shard", "lay_out_scans", "plot_quality"]
OF_ALL_SITES = dict.fromkeys(["check_cohort", "find_duplicates", "audit_cohort", "plot_cohort", "write_audit_page"], 1)
ONE_SITE = OF_ALL_SITES | dict.fromkeys(OF_A_SITE, 1)
COHORT = OF_ALL_SITES | dict.fromkeys(OF_A_SITE, 3) | {"summarize_intensities": ARMS}
# Of a cohort whose patients are split otherwise.
SPLIT_ANEW = {rule: number for rule, number in COHORT.items() if rule not in ("index_site", "build_shard")}
# What shows all arms, and so is made again where there is one more.
OF_ALL_ARMS = ["compare_arms", "plot_convergence", "plot_updates", "plot_comparison", "plot_classes"]
OF_ALL_ARMS += ["plot_confusion", "plot_cross_sites", "plot_reliability", "plot_volumes"]
OF_ALL_ARMS += ["measure_timeline", "plot_timeline", "write_report", "write_model_folders", "export_results", "all"]
SHOWN = dict.fromkeys(OF_ALL_ARMS, 1)
# What of it shows the training, and nothing of the scores.
OF_TRAINING = {"plot_convergence", "plot_updates"}
# The gallery shows centralized and fedavg.
GALLERY = {"choose_cases": 1, "explain_cases": 2, "plot_explanations": 1, "render_videos": 1}
# Where the settings are written down.
WRITTEN_DOWN = dict.fromkeys(["write_report", "write_model_folders", "export_results", "all"], 1)
REPORT = {"write_report": 1, "all": 1}


def rounds(number, participants=TRAINING_JOBS_A_ROUND, arms=ARMS, sites=TRAINING_SITES):
    """Jobs of so many rounds, which are few enough for one block of validation; one arm of them is federated."""
    return {
        "train_site": number * participants,
        "aggregate_round": number * arms,
        "validate_site": arms * sites,
        "inspect_updates": number,
    }


def scored(arms=ARMS):
    """What follows the last round of so many arms."""
    names = ("select_model", "record_lineage", "predict_cases", "score_predictions", "measure_cost")
    return dict.fromkeys(names, arms)


TRAINED = scored() | GALLERY | SHOWN
# With the models as they are.
PREDICTED = dict.fromkeys(["predict_cases", "score_predictions", "measure_cost"], ARMS) | GALLERY
PREDICTED |= {rule: 1 for rule in OF_ALL_ARMS if rule not in OF_TRAINING}
ONE_MORE_ARM = "arms=[{name: centralized, participants: pooled}, {name: local, participants: alone}, "
ONE_MORE_ARM += (
    "{name: fedavg, participants: sites}, {name: more, participants: sites, strategy: {name: fedprox, mu: 0.1}}]"
)
OWN_RECIPE = "arms=[{name: centralized, participants: pooled}, {name: local, participants: alone}, "
OWN_RECIPE += "{name: fedavg, participants: sites, training: {optimizer: {learning_rate: 0.0001}}}]"
# A model made elsewhere: nothing trains, and nothing of the arms is predicted or scored again. Arms and candidates
# share colours, so that figures of arms alone are drawn again, too.
CANDIDATE = {"predict_cases": 1, "score_predictions": 1} | {rule: 1 for rule in OF_ALL_ARMS if rule != "plot_updates"}

# Row of the table to what --config says, and the jobs that run.
SETTINGS = {
    "nothing": ([], {}),
    "learning rate, or anything else of `training`": (
        ["training={optimizer: {learning_rate: 0.0001}}"],
        rounds(2) | TRAINED,
    ),
    "`cohort.splits`": (["cohort={splits: {seed: 1}}"], SPLIT_ANEW | rounds(2) | TRAINED),
    "`study.rounds` raised": (["study={rounds: 4}"], rounds(2) | TRAINED),
    "`study.rounds` lowered": (["study={rounds: 1}"], TRAINED | {"validate_site": ARMS * TRAINING_SITES}),
    "an arm added": (
        [ONE_MORE_ARM],
        # No video: it shows other arms.
        rounds(2, participants=2, arms=1) | scored(1) | {"summarize_intensities": 1} | SHOWN,
    ),
    "a seed added": (
        ["study={seeds: [0, 1]}"],
        # The gallery shows the first seed.
        {"initialize_model": 1, "summarize_intensities": ARMS} | rounds(2) | scored() | SHOWN,
    ),
    "a training site added": (
        ["cohort={sites: {training: [north, east, south]}}"],
        ONE_SITE
        # Centralized, fedavg of three sites, and the site's own arm.
        | rounds(2, participants=1 + 3 + 1, arms=3)
        # The two other arms are validated on the patients of the site alone.
        | {"summarize_intensities": 3, "validate_site": 3 * 3 + 2 * 1}
        | scored(ARMS + 1)
        | GALLERY
        | SHOWN,
    ),
    "an external site added": (["cohort={sites: {external: [west, south]}}"], ONE_SITE | PREDICTED),
    "an external site removed": (["cohort={sites: {external: []}}"], OF_ALL_SITES | PREDICTED),
    "a training site removed": (
        ["cohort={sites: {training: [north]}}"],
        OF_ALL_SITES
        # Centralized and fedavg, of one site now, whose updates cannot be compared.
        | {"train_site": 2 * 2, "aggregate_round": 2 * 2, "validate_site": 2, "summarize_intensities": 2}
        # The arm of the site that is left chooses by scores that are there.
        | scored(ARMS - 1)
        | GALLERY
        | SHOWN,
    ),
    "a case added at a site": (
        ["phantom={cases: {north: 11}}"],
        ONE_SITE
        # Except the arm of the other site, which is validated on this site's patients again.
        | rounds(2, participants=1 + 1 + 2, arms=3)
        | {"summarize_intensities": 3, "validate_site": 3 * 2 + 1}
        | TRAINED,
    ),
    "a setting of one arm": (
        ["arm_defaults={exchange: {dtype: bfloat16}}"],
        # The other arms exchange nothing.
        rounds(2, participants=2, arms=1)
        | scored(1)
        | {"explain_cases": 1, "plot_explanations": 1, "render_videos": 1}
        | SHOWN,
    ),
    "a recipe of one arm": (
        [OWN_RECIPE],
        rounds(2, participants=2, arms=1)
        | scored(1)
        | {"explain_cases": 1, "plot_explanations": 1, "render_videos": 1}
        | SHOWN,
    ),
    "a candidate added": (["candidates=[{name: published, model: results/models/fedavg/seed-0/best.pth}]"], CANDIDATE),
    "a key that nothing chosen reads; `allow_missing_sites`": (
        [
            "training={optimizer: {momentum: 0.5}, schedule: {step_rounds: 3}}",
            "network={i3d_unet: {width: 0.25}}",
            "phantom={cases: {south: 9}}",
            "arm_defaults={participation: {allow_missing_sites: true}}",
        ],
        WRITTEN_DOWN,
    ),
    "organ, finding or extent of `cohort.anatomy`": (
        ["cohort={anatomy: {organ: prostate, finding: lesion, extent_mm: [50.0, 400.0]}}"],
        {"plot_convergence": 1, "plot_comparison": 1, "plot_cross_sites": 1} | WRITTEN_DOWN,
    ),
    "`evaluation.geometry`": (["evaluation={geometry: grid}"], PREDICTED),
    "a figure's colours": (["reporting={confusion_colour_map: Greens}"], {"plot_confusion": 1} | REPORT),
}


def edit_package(study, path, old, new):
    study.edit(f"pkg/fedpedbrain/{path}", old, new)


def install(study, package):
    """Another version of a package, where it is looked for first."""
    facts = study.folder / "pkg" / f"{package}-99.0.dist-info" / "METADATA"
    facts.parent.mkdir()
    facts.write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 99.0\n")


def comment(study):
    edit_package(study, "federated/exchange/averaging.py", "import torch\n", "import torch\n\n# A remark.\n")
    edit_package(study, "training/losses/voxel_terms.py", '"""', '"""Anew: ')


def words(study):
    """Other words of an error, and a module by another name."""
    edit_package(study, "federated/rounds.py", "all updates weigh nothing", "no update weighs anything")
    losses = study.folder / "pkg" / "fedpedbrain" / "training" / "losses"
    (losses / "voxel_terms.py").rename(losses / "terms.py")
    for path in losses.glob("*.py"):
        path.write_text(path.read_text().replace("losses.voxel_terms", "losses.terms"))


def texts(study):
    # The caption of Snakemake's report, and of ours.
    study.edit("rules/captions/classes.rst", "Precision, recall, F1 and AUROC", "How well each class is told")
    templates = "reporting/pages/templates/report"
    edit_package(study, f"{templates}/results.html.j2", "Each class against", "A class against")
    edit_package(study, f"{templates}/statistics.html.j2", "Tests of", "All tests of")


def caption(study):
    study.edit("rules/captions/classes.rst", "Precision, recall, F1 and AUROC", "How well each class is told")


def code_of(path, old, new):
    return lambda study: edit_package(study, path, old, new)


def touch(study):
    cohort = study.folder / "results/cohort"
    for path in (cohort / "splits.tsv", *cohort.glob("sites/*/*"), *study.folder.glob("results/models/**/global.pth")):
        path.touch()


def lose_records(study):
    shutil.rmtree(study.folder / ".snakemake")


ROUNDS = rounds(2)
FIGURES = {rule: 1 for rule in OF_ALL_ARMS if rule.startswith("plot_")} | {"plot_cohort": 1, "plot_explanations": 1}

# Row to what is done to the study, and the jobs that run.
EDITS = {
    "a comment, a docstring or the layout of code": (comment, {}),
    "the words of an error or of a log; the name or place of a module": (words, {}),
    "code of the cohort": (
        code_of("data/grid/geometry.py", "_LEAST_FOREGROUND_FRACTION = 0.02", "_LEAST_FOREGROUND_FRACTION = 0.03"),
        COHORT | ROUNDS | TRAINED,
    ),
    "code of the training": (
        code_of("training/losses/voxel_terms.py", "SMOOTH = 1.0", "SMOOTH = 2.0"),
        ROUNDS | TRAINED,
    ),
    "code of the averaging": (
        code_of("federated/exchange/averaging.py", "total.div_(sum(factors))", "total.div_(math.fsum(factors))"),
        ROUNDS | TRAINED,
    ),
    "code of the scores": (
        code_of("evaluation/surfaces.py", "import numpy as np\n", "import numpy as np\n\nLEFT_OVER = 1\n"),
        {"score_predictions": ARMS} | GALLERY | {rule: 1 for rule in OF_ALL_ARMS if rule not in OF_TRAINING},
    ),
    "code of a figure": (
        code_of("reporting/figures/convergence_figure.py", "import math\n", "import math\n\nLEFT_OVER = 1\n"),
        {"plot_convergence": 1} | REPORT,
    ),
    "a text of the report": (texts, REPORT),
    "a caption in `rules/captions`": (caption, {}),
    "another version of torch": (lambda study: install(study, "torch"), {"initialize_model": 1} | ROUNDS | TRAINED),
    "another version of matplotlib": (
        lambda study: install(study, "matplotlib"),
        FIGURES | WRITTEN_DOWN | {"plot_quality": 3, "render_videos": 1, "write_audit_page": 1},
    ),
    "a file of the results touched, unchanged": (touch, {}),
    "`.snakemake/` lost": (lose_records, {}),
}


@pytest.mark.parametrize("row", SETTINGS)
def test_of_settings(finished_study, row):
    settings, jobs = SETTINGS[row]
    overrides = ["--config", *settings] if settings else []
    assert finished_study.planned("--configfile", TINY, *overrides) == jobs


@pytest.mark.parametrize("row", EDITS)
def test_of_files(study_copy, row):
    change, jobs = EDITS[row]
    change(study_copy)
    assert study_copy.planned("--configfile", TINY) == jobs


CORRECTED = "an image or a mask of a site corrected"
BIDS = ["cohort={source: bids, sites: {training: [north, south], external: []}, classes: [normal, dipg]}"]


def test_of_a_cohort_of_files(bids, tmp_path):
    for number in range(5, 11):
        bids.add(f"sub-{number:02d}", ("north", "south")[number % 2], "dipg")
    (tmp_path / "study").mkdir()
    study = Workspace(tmp_path / "study")
    arguments = ["--configfile", TINY, "--config", f"cohort_root={bids.root}", *BIDS, "--", "results/cohort/audit.json"]
    result = study.snakemake("--cores", "2", *arguments)
    assert result.returncode == 0, result.stdout
    # What trains follows the shard, as where a case is added.
    jobs = {rule: number for rule, number in ONE_SITE.items() if not rule.startswith(("plot", "write", "lay_out"))}
    mask = bids.mask("sub-01")
    content, dates = mask.read_bytes(), (mask.stat().st_atime_ns, mask.stat().st_mtime_ns)
    mask.write_bytes(content + b" ")
    assert study.planned(*arguments) == jobs
    mask.write_bytes(content)
    os.utime(mask, ns=dates)
    assert study.planned(*arguments) == {}
    bids.add("sub-11", "north", "dipg")
    assert study.planned(*arguments) == jobs
    bids.rows["sub-11"]["site"] = "elsewhere"
    bids.write_participants()
    # Counted among those who are left out.
    assert study.planned(*arguments) == {"check_cohort": 1, "audit_cohort": 1}


def test_of_splits_that_are_refused_nothing_trains(study_copy):
    models = sorted(study_copy.folder.glob("results/models/**/*.pth"))
    dates = [path.stat().st_mtime_ns for path in models]
    (study_copy.folder / "kept.tsv").write_text("patient\tsplit\nnobody\ttrain\n")
    splits = "cohort={splits: {keep_file: kept.tsv}}"
    arguments = ["--configfile", TINY, "--config", splits, "--cores", "2", "--keep-going", "--", "models"]
    assert study_copy.planned(*arguments)["train_site"] > 0
    refused = study_copy.snakemake(*arguments)
    assert refused.returncode != 0
    assert "kept.tsv: none of its 1 patients is in the cohort" in refused.stdout
    assert models
    assert [path.stat().st_mtime_ns for path in models] == dates


def test_settings_count_though_the_records_folder_is_lost(study_copy):
    lose_records(study_copy)
    settings, jobs = SETTINGS["learning rate, or anything else of `training`"]
    assert study_copy.planned("--configfile", TINY, "--config", *settings) == jobs


def test_a_change_of_the_audit_trains_nothing_and_hides_no_other_change(finished_study):
    audit = "audit={small_site_patients: 4}"
    audited = {"audit_cohort": 1, "plot_cohort": 1, "write_audit_page": 1}
    shown = finished_study.planned("--configfile", TINY, "--config", audit)
    assert audited.items() <= shown.items()
    assert not {"train_site", "predict_cases"} & shown.keys()
    learning_rate, jobs = SETTINGS["learning rate, or anything else of `training`"]
    assert finished_study.planned("--configfile", TINY, "--config", audit, *learning_rate) == audited | jobs


HISTORY = "results/models/fedavg/seed-0/lineage.json"
LOST = "`results/records/` lost"


def test_of_records_that_are_all_lost(study_copy):
    learning_rate, _ = SETTINGS["learning rate, or anything else of `training`"]
    lose_records(study_copy)
    shutil.rmtree(study_copy.folder / "results" / "records")
    # Models that carry the study's settings: nothing trains before somebody has said so.
    for arguments, message in (
        ([], "no record says how this and "),
        (["--touch", "--config", *learning_rate], "trained with other settings than this study's, as were "),
    ):
        refused = study_copy.without_jobs("--configfile", TINY, "--cores", "2", HISTORY, *arguments)
        assert refused.returncode != 0
        assert message in refused.stdout
    accepted = study_copy.without_jobs("--configfile", TINY, "--cores", "2", "--touch", HISTORY)
    assert accepted.returncode == 0, accepted.stdout
    assert study_copy.planned("--configfile", TINY, "--", HISTORY) == {}


def test_every_row_of_the_docs_is_a_test():
    page = (REPOSITORY / "docs" / "reference" / "reruns.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| .+ \|$", page, re.MULTILINE)
    assert rows[1:] == [*SETTINGS, *EDITS, CORRECTED, LOST]


def test_a_round_that_was_the_last_need_not_stay_when_there_are_more(finished_study):
    study = "study={rounds: 3, keep_every: 5}"
    assert finished_study.planned("--configfile", TINY, "--config", study) == rounds(1) | TRAINED


def test_after_the_models_alone_the_report_trains_nothing(finished_study):
    jobs, whole = (
        finished_study.planned("--configfile", TINY, "--forceall", "--", target) for target in ("models", "all")
    )
    # What reads updates, which are deleted then.
    for rule in ("aggregate_round", "inspect_updates"):
        assert jobs[rule] == whole[rule] > 0


def test_for_a_log_that_is_gone_nothing_trains_again(study_copy):
    arm = study_copy.folder / "results/models/fedavg/seed-0"
    (study_copy.folder / "results/logs/models/fedavg/seed-0/round-001/train-north.log").unlink()
    (arm / "cost.tsv").unlink()
    assert study_copy.planned("--configfile", TINY, "--", "results/models/fedavg/seed-0/cost.tsv") == {
        "measure_cost": 1
    }
