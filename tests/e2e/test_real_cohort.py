"""A real BIDS cohort from folder to report, where one is at hand."""

from pathlib import Path

import pandas as pd
import pytest
from workspace import REPOSITORY, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.long]
COHORT = REPOSITORY.parent / "shared" / "data" / "tcga_lgg_bids"


@pytest.mark.skipif(not COHORT.is_dir(), reason=f"no real cohort at ../{Path(*COHORT.parts[-3:])}")
def test_four_institutions_from_bids_to_report(tmp_path):
    workspace = Workspace(tmp_path)
    patch = "{size: [1, 48, 48], per_case: 1, foreground_share: 1.0}"
    overrides = ["study={rounds: 1}", f"training={{epochs_per_round: 1, patch: {patch}}}"]
    stages = "features: [4, 8], strides: [[1, 1, 1], [1, 2, 2]], kernels: [[1, 3, 3], [1, 3, 3]], blocks: [1, 1]"
    overrides += [f"network={{residual_unet: {{{stages}}}}}"]
    overrides += ["arms=[{name: centralized, participants: pooled}]"]
    overrides += ["evaluation={bootstrap_samples: 100}"]
    video = "{arms: [centralized], num_cases: 1, panel_pixels: 64}"
    overrides += [f"reporting={{arm_colours: {{}}, figure_dpi: 75, video: {video}}}"]
    study = str(REPOSITORY / "studies" / "tcga_lgg.yaml")
    overrides += [f"cohort_root={COHORT}"]
    report = "results/report.html"
    result = workspace.snakemake("--configfile", study, "--cores", "2", "--config", *overrides, "--", report)
    assert result.returncode == 0, result.stdout
    counts = pd.read_csv(tmp_path / "results/tables/cohort.tsv", sep="\t").groupby("site")["num_patients"].sum()
    assert counts.to_dict() == {"CS": 13, "DU": 36, "FG": 11, "HT": 27}
    assert (tmp_path / report).stat().st_size > 100_000
