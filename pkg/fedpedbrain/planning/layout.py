"""What lies where below the folder ``results``, in both directions: the path of a file, and what a path is.

The rules write these paths, and ``tests/workflow/test_layout.py`` compares them with this table. No job imports this
module, so a new row or another word reruns nothing. Standard library alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import NamedTuple

RESULTS = "results"
# The phase of what no rule makes: records of all files, and each job's log.
BY_NO_RULE = "run"
# Phase to its title. The rules of a phase stand in ``rules/PHASE.smk``.
LAYOUT_PHASES = {
    "cohort": "Cohort",
    "training": "Training",
    "models": "Models",
    "evaluation": "Predictions, scores and tables",
    "gallery": "Case gallery",
    "figures": "Figures",
    "reporting": "Report and exports",
    "inference": "New scans",
    "imports": "Imported models",
    "conversion": "Conversion",
    BY_NO_RULE: "Every job",
}
_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"
# Wildcard to what it may be. Numbers are integers for the caller, whatever their digits in the path.
_WILDCARDS = {
    "arm": _NAME,
    "candidate": _NAME,
    "network": _NAME,
    "imported": _NAME,
    "seed": r"0|[1-9]\d*",
    "round": r"\d{3}",
    "site": r"[A-Za-z0-9_]+",
    "scan": r"[A-Za-z0-9._-]+",
    "model": r"[A-Za-z0-9_-]+",
    "figure": r"\w+",
}
_DIGITS = {"seed": "d", "round": "03d"}
_PART = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class OutputKind:
    """One kind of file of a study, or a folder with all that it holds.

    Attributes
    ----------
    pattern : path below ``results``, in which wildcards stand in braces; a folder ends with a slash
    what : what it is, in words that can follow its path and a colon
    phase : one of ``LAYOUT_PHASES``
    page : the page below ``docs`` that says more, with a heading maybe; "" for none
    """

    pattern: str
    what: str
    phase: str
    page: str = ""

    @property
    def wildcards(self) -> list[str]:
        """Names of the wildcards, in the order of the path."""
        return _PART.findall(self.pattern)

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        texts = _PART.split(self.pattern)
        # Every other part is the name of a wildcard.
        parts = [
            f"(?P<{text}>{_WILDCARDS[text]})" if index % 2 else re.escape(text) for index, text in enumerate(texts)
        ]
        return re.compile("".join(parts).removesuffix("/") + ("(?:/.*)?" if self.pattern.endswith("/") else ""))

    def values_in(self, path: str) -> dict[str, str | int] | None:
        """Values of the wildcards in a path below ``results``; None where the path is of another kind."""
        match = self._regex.fullmatch(path)
        if match is None:
            return None
        return {name: int(value) if name in _DIGITS else value for name, value in match.groupdict().items()}


def _kinds(phase: str, folder: str, page: str, **files: tuple[str, ...]) -> dict[str, OutputKind]:
    """Rows of one phase and folder: name to the file and what it is, and its own page where it has another."""
    return {
        name: OutputKind(folder + file, what, phase, *(own or [page])) for name, (file, what, *own) in files.items()
    }


_SEED = "models/{arm}/seed-{seed}/"
_ROUND = f"{_SEED}round-{{round}}/"
_AUDIT, _SPLITS = "how-to/reading-the-audit.md", "explanation/from-scan-to-grid.md#splits"
_SHARDS = "explanation/from-scan-to-grid.md#shards"
_SCANS = "explanation/from-scan-to-grid.md#back-into-the-scan"
_MODEL_FILES, _LINEAGE = "reference/model-files.md", "reference/model-files.md#lineage"
_REPORT = "reference/outputs.md#the-report"
# In the order of the data.
LAYOUT: Mapping[str, OutputKind] = {
    **_kinds(
        "cohort",
        "downloads/",
        "how-to/flpedbrain.md#downloads",
        downloads=("{site}.json", "where the fetched files of a site are"),
    ),
    **_kinds(
        "cohort",
        "cohort/sites/{site}/",
        "explanation/from-scan-to-grid.md",
        site_index=("index.tsv", "every case of a site, checked", _AUDIT),
        site_splits=("splits.tsv", "the split of every patient of a site", _SPLITS),
        images=("images.npy", "a site's images on the network's grid, memory-mapped", _SHARDS),
        masks=("masks.npy", "a site's masks on the network's grid, memory-mapped uint8", _SHARDS),
        shard_table=("shard.tsv", "the cases of a site's arrays, with size and SHA-256 of images and masks", _SHARDS),
        shard_cases=("cases.tsv", "the cases of shard.tsv with their splits; every job that reads a case checks it"),
        outlines=("outlines.tsv", "the volume of each outline in the scan, and what the grid cuts of it", _AUDIT),
        frames=("frames.tsv", "where each case's grid and scan lie", _SCANS),
        scan_images=("scan_images.npy", "the first channel of a site's held-out cases in their scans' voxels", _SCANS),
        scan_masks=("scan_masks.npy", "their outlines in these voxels, one bit per voxel", _SCANS),
        scan_table=("scans.tsv", "sizes, spacings and SHA-256 of these scans", _SCANS),
        audited_cases=("audit.tsv", "every case of a site with its problems", _AUDIT),
    ),
    **_kinds(
        "cohort",
        "cohort/",
        _AUDIT,
        index=("index.tsv", "every case of all sites, which were compared with each other"),
        splits=("splits.tsv", "the split of every patient of all sites", _SPLITS),
        left_out=("left_out.tsv", "participants at sites of the source that are not in the study"),
        duplicates=("duplicates.tsv", "pairs of cases that look like one image"),
        audit=("audit.json", "counts and findings of the audit, for programs"),
        audit_page=("audit.html", "the audit to look at: what is in the cohort and what looks wrong"),
    ),
    **_kinds("cohort", "tables/", _AUDIT, cohort_table=("cohort.tsv", "cases by site, class and split")),
    **_kinds(
        "training",
        "models/initial/{network}/",
        "how-to/pretrained-weights.md",
        fetched_weights=("pretrained.pth", "fetched weights that the network's arms start from"),
        initial_model=("seed-{seed}.pth", "the model that all arms of a network and seed start from", _MODEL_FILES),
    ),
    **_kinds(
        "training",
        _ROUND,
        "how-to/disk.md",
        secret_key=("keys/{site}.secret", "a site's secret key of one secure sum; temporary", "how-to/privacy.md"),
        public_key=("keys/{site}.public", "a site's public key of one secure sum; temporary", "how-to/privacy.md"),
        site_update=("updates/{site}.pth", "what a site sends to the server; temporary"),
        site_state=(
            "states/{site}.pth",
            "what a site keeps for its next round: of train_site where planning/kept_rounds has it stay, "
            "else temporary, of train_passing_site",
        ),
        site_metrics=("metrics/{site}.json", "the numbers of a site's training in one round; temporary"),
        global_model=("global.pth", "the model made of a round's updates; stays in rounds that study.keep_every keeps"),
        server_state=("server.pth", "what the server keeps for its next averaging; stays where global.pth does"),
        round_metrics=("metrics.json", "the numbers of all sites' training in one round"),
        round_lineage=("lineage.json", "SHA-256 and lineage of a round's files, as its averaging noted them", _LINEAGE),
        inspection=("inspection.tsv", "the length and the direction of each update of a round", ""),
    ),
    **_kinds(
        "training",
        f"{_SEED}validation/{{site}}/",
        "",
        validation=(
            "from-{round}.json",
            "scores on a site's own validation patients, of the rounds that stay among up to 25 from this one on",
        ),
    ),
    **_kinds(
        "models",
        _ROUND,
        "",
        best_before=("best_before.pth", "the best model of the phase before, where a phase starts from it"),
        history_before=("history_before.tsv", "losses and scores of every round of the phase before"),
        selection_before=("selection_before.json", "which round of the phase before is the best, and its scores"),
    ),
    **_kinds(
        "models",
        _SEED,
        "",
        best_model=("best.pth", "the model of the best round of an arm", _MODEL_FILES),
        history=("history.tsv", "losses and scores of every round of an arm"),
        selection=("selection.json", "which round is the best, and its scores"),
        personal_model=("personal/{site}.pth", "the best model with the weights that a site keeps", _MODEL_FILES),
        intensities=("intensities.json", "what the training images of an arm look like", "how-to/new-scans.md#flags"),
        lineage=("lineage.json", "every file from the start to the best model, with SHA-256 and lineage", _LINEAGE),
        privacy=("privacy.json", "epsilon of an arm with noise, over all rounds", "how-to/privacy.md"),
        cost=("cost.tsv", "time, memory and GPU of an arm's jobs", _REPORT),
    ),
    **_kinds(
        "models",
        "models/{candidate}/seed-{seed}/",
        "explanation/segmentation.md#components",
        filters=("filters.json", "component filters of a candidate that were tried and chosen on validation patients"),
    ),
    **_kinds(
        "evaluation",
        "predictions/{candidate}/seed-{seed}/",
        "",
        predicted_masks=(
            "masks.npy",
            "predicted masks of the held-out cases, one bit per voxel, where evaluation.geometry says",
            _SCANS,
        ),
        masks_on_grid=(
            "masks_on_grid.npy",
            "the same on the network's grid, where evaluation.geometry is both",
            _SCANS,
        ),
        predicted_classes=("probabilities.tsv", "predicted class probabilities of the held-out cases"),
        restored_masks=(
            "scans/",
            "predicted masks of the held-out cases in the scans' own geometry, as NIfTI",
            "reference/wildcards-and-targets.md",
        ),
    ),
    **_kinds(
        "evaluation",
        "scores/{candidate}/",
        "reference/metrics.md",
        scores=("seed-{seed}.tsv", "scores of the held-out cases, one row per case, target and metric"),
    ),
    **_kinds(
        "evaluation",
        "tables/",
        "reference/metrics.md#tables",
        summary_table=("summary.tsv", "mean scores of every arm, over all sites and by site"),
        differences_table=("differences.tsv", "paired differences of every arm to the reference arm"),
        confusion_table=("confusion.tsv", "numbers of cases by true and predicted class of every arm", ""),
        models_table=("models.tsv", "mean scores of every arm and seed"),
        tests_table=("tests.tsv", "tests of the differences, and whether they stay within the margin"),
        reliability_table=("reliability.tsv", "predictions by the probability of their most probable class"),
        sites_table=("sites.tsv", "worst and best training site of every arm"),
        gains_table=("gains.tsv", "at each site, what an arm of several sites gains over the site's local arm"),
        cross_sites_table=("cross_sites.tsv", "scores of every arm at every site, with what it was trained on"),
    ),
    **_kinds(
        "gallery",
        "",
        "",
        shown_cases=("gallery/cases.tsv", "the cases shown in the gallery, and why"),
        explanations=(
            "gallery/{candidate}/seed-{seed}.npz",
            "region probabilities of these cases, and the evidence for their class",
        ),
        explanation_pictures=(
            "figures/explanations/",
            "pictures of the gallery's region probabilities and evidence, and a table of them",
        ),
        videos=("videos/", "the cases of the gallery slice by slice, and a table of them"),
    ),
    **_kinds(
        "figures",
        "figures/",
        "",
        figure=("{figure}.png", "a figure of the report"),
        quality_picture=(
            "quality/{site}.png",
            "the cases of a site as the network sees them",
            "explanation/from-scan-to-grid.md",
        ),
    ),
    **_kinds(
        "reporting",
        "",
        _REPORT,
        job_times=("timeline/jobs.tsv", "when and where each job ran, one row per job"),
        timeline_summary=("timeline/summary.json", "what was busy during the run, and its critical path"),
        report=("report.html", "the study's report, self-contained"),
        report_record=(
            "report.json",
            "the report for programs: the study, every row of its tables, the SHA-256 of each file behind it",
        ),
    ),
    **_kinds(
        "reporting",
        "exports/",
        "how-to/exports.md",
        model_card=("models/{arm}/seed-{seed}/README.md", "the card of a model"),
        exported_model=("models/{arm}/seed-{seed}/best.pth", "the best model of an arm, beside its card"),
        exported_intensities=(
            "models/{arm}/seed-{seed}/intensities.json",
            "what the training images of a model look like, beside its card",
        ),
        exported_scores=("metrics.csv", "every value that the means are made of"),
        exported_rounds=("rounds.csv", "losses, validation scores and updates of every round"),
        tensorboard=("tensorboard/", "event files for TensorBoard"),
        mlflow=("mlflow/", "an experiment for MLflow"),
    ),
    **_kinds(
        "inference",
        "inference/{scan}/",
        "how-to/new-scans.md#what-comes-out",
        scan_prediction=("{model}/", "what a model says of a new scan: masks, classes, volumes, flags"),
        scan_video=("slices.mp4", "every slice of a new scan with each model's outlines"),
        scan_poster=("slices.jpg", "the slice of a new scan with the largest outline"),
        scan_overview=("overview.jpg", "a few slices of a new scan with each model's outlines"),
        scan_page=("scan.html", "the page of a new scan"),
    ),
    **_kinds(
        "imports",
        "models/imported/",
        "how-to/import-a-model.md",
        fetched_checkpoint=("{imported}/checkpoint.pth", "the fetched checkpoint of a model that was made elsewhere"),
        imported_model=("{imported}.pth", "a model that was made elsewhere, as a model file"),
    ),
    **_kinds(
        "conversion",
        "conversion/",
        "how-to/dicom-to-bids.md",
        converted_series=("series.tsv", "what became of every DICOM series"),
    ),
    **_kinds(BY_NO_RULE, "records/", "reference/reruns.md#records", records=("", "how each file was made")),
    **_kinds(
        BY_NO_RULE, "logs/", "how-to/failures.md#logs", logs=("", "what each job said and used, one file per job")
    ),
}


class FoundOutput(NamedTuple):
    """What a path is: the name of its row in ``LAYOUT`` and the values of the row's wildcards."""

    name: str
    values: dict[str, str | int]

    @property
    def kind(self) -> OutputKind:
        """The row."""
        return LAYOUT[self.name]


def path_of_output(name: str, **values: str | int) -> str:
    """Path below ``results`` of a row of ``LAYOUT``, a folder's with its slash.

    Parameters
    ----------
    values : of all wildcards of the row; ``seed`` and ``round`` are integers

    Raises
    ------
    ValueError : a wildcard cannot have such a value, since the path would be of another file
    """
    kind = LAYOUT[name]
    path = kind.pattern.format(**{key: format(value, _DIGITS.get(key, "")) for key, value in values.items()})
    if kind.values_in(path) != values:
        raise ValueError(f"{name}: expected values of {', '.join(kind.wildcards)}, found {values}")
    return path


def find_output(path: str) -> FoundOutput | None:
    """What a path is; None where it is no file of a study.

    Parameters
    ----------
    path : through a folder ``results``, or from there on
    """
    parts = PurePath(path).parts
    starts = [index + 1 for index, part in enumerate(parts) if part == RESULTS]
    # An arm may have the folder's name.
    for start in [*starts, 0]:
        below = "/".join(parts[start:])
        for name, kind in LAYOUT.items():
            if (values := kind.values_in(below)) is not None:
                return FoundOutput(name, values)
    return None
