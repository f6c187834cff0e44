"""Bad input is refused with one clear line, before anything trains, and earlier results stay."""

import shutil

import pytest
from workspace import TINY, Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("refusals"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("study={rouns: 3}", "unknown key study.rouns; the nearest known key is study.rounds"),
        ("traning={}", "unknown key traning; the nearest known key is training"),
        ("study={rounds: many}", "study.rounds: 'many' is not of type 'integer'"),
        ("study={rounds: 0}", "study.rounds: 0 is less than the minimum of 1"),
        ("evaluation={reference_arm: central}", "evaluation.reference_arm: 'central' is none of the study's arms"),
        ("preprocessing={grid: [24, 50, 48]}", "preprocessing.grid: 50 voxels along H are not a multiple of"),
        ("cohort={source: bids}", "cohort_root: the bids source needs the folder"),
        ("cohort={splits: {keep_file: no.tsv}}", "cohort.splits.keep_file: no file no.tsv; correct the path"),
        ("network={pretrained: {source: no.pth}}", "network.pretrained.source: no file"),
        ("scan=no.nii.gz", "scan: no file or folder"),
        ("inbox=no", "inbox: no folder"),
        ("model=no.pth", "model: no file"),
        ("checkpoint=no.pth", "checkpoint: no file"),
        ("imported_model=a/b", "expected letters, digits, _ and -"),
        ("checkpoint_sha256=abc", "checkpoint_sha256: 'abc' does not match"),
    ],
)
def test_a_bad_config_stops_before_any_job(workspace, override, message):
    result = workspace.without_jobs("--cores", "1", "--config", override)
    assert result.returncode != 0
    assert message in result.stdout
    assert "Traceback" not in result.stdout
    assert not (workspace.folder / "results").exists()


def test_a_run_that_its_disk_cannot_hold_stops_before_any_job(tmp_path):
    # Of its own: a run that is refused so late has made the folder of results.
    workspace = Workspace(tmp_path)
    # 160 cases of an image and a mask with 512 GiB of voxels each.
    grid = "preprocessing={grid: [8192, 8192, 8192]}"
    result = workspace.without_jobs("--cores", "1", "--config", grid, "--", "cohort")
    assert result.returncode != 0
    needed = f"{160 * 2 * 8192**3 / 1e9:.1f} GB"
    assert f"up to {needed} of disk are needed (cohort {needed}), " in result.stdout
    assert "raise study.keep_every" in result.stdout
    assert "Traceback" not in result.stdout
    assert not (workspace.folder / "results/cohort").exists()


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("strategy: {name: fedavg, mu: 0.1}", "arms.fedavg.strategy: fedavg has no option 'mu'; its options: none"),
        ("phases: [{largest: 9, rounds: 1}, {}]", "arms.fedavg.phases: phase 1 wants 9 sites, there are 3; lower it"),
        (
            "participation: {minimum_sites: 3, absent: {south: [2]}}",
            "arms.fedavg.participation: round 2 has 2 of at least 3 sites",
        ),
    ],
)
def test_an_arm_that_contradicts_itself_stops_before_any_job(workspace, block, message):
    arms = f"[{{name: centralized, participants: pooled}}, {{name: fedavg, participants: sites, {block}}}]"
    result = workspace.without_jobs("--cores", "1", "--config", f"arms={arms}")
    assert result.returncode != 0
    assert any(line.startswith(message) for line in result.stdout.splitlines())
    assert "Traceback" not in result.stdout
    assert not (workspace.folder / "results").exists()


def test_a_missing_cohort_folder_is_named(workspace):
    result = workspace.without_jobs("--cores", "1", "--config", "cohort={source: bids}", "cohort_root=/nowhere/cohort")
    assert result.returncode != 0
    assert "cohort_root: no folder at /nowhere/cohort" in result.stdout


def test_a_folder_without_participants_is_named(workspace, tmp_path):
    result = workspace.without_jobs("--cores", "1", "--config", "cohort={source: bids}", f"cohort_root={tmp_path}")
    assert result.returncode != 0
    assert f"{tmp_path}/participants.tsv: missing" in result.stdout


def test_the_studys_own_splits_cannot_be_kept(workspace):
    own = workspace.folder / "results" / "cohort" / "splits.tsv"
    own.parent.mkdir(parents=True)
    own.touch()
    override = "cohort={splits: {keep_file: results/cohort/splits.tsv}}"
    result = workspace.without_jobs("--cores", "1", "--config", override)
    shutil.rmtree(workspace.folder / "results")
    assert result.returncode != 0
    assert "this study's own splits.tsv is made anew; name a copy of it" in result.stdout


def test_predict_says_what_it_needs(workspace):
    result = workspace.without_jobs("--cores", "1", "predict")
    assert result.returncode != 0
    assert "--config scan=PATH model=PATH" in result.stdout


def test_an_import_says_what_it_needs(workspace):
    result = workspace.without_jobs("--cores", "1", "import_model")
    assert result.returncode != 0
    assert "snakemake import_model --config checkpoint=PATH" in result.stdout


def test_conversion_says_what_it_needs(workspace):
    result = workspace.without_jobs("--cores", "1", "convert_to_bids")
    assert result.returncode != 0
    assert "--config dicom_root=PATH bids_root=PATH" in result.stdout


@pytest.mark.slow
def test_a_problem_of_the_cohort_stops_before_training_and_keeps_earlier_results(workspace, tmp_path):
    earlier = workspace.folder / "results" / "report.html"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("earlier")
    result = workspace.snakemake(
        "--configfile", TINY, "--cores", "1", "--config", "phantom={cases: {north: 1}}", "--", "models"
    )
    assert result.returncode != 0
    assert "ERROR: site north: 1 patient(s), a training site needs at least 2" in result.stdout
    assert "Traceback" not in result.stdout
    assert ", training " not in result.stdout
    assert earlier.read_text() == "earlier"
    shutil.rmtree(workspace.folder / "results")
