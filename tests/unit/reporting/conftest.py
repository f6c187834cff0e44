"""A small synthetic study: tables as the evaluation writes them, shards and predictions as the jobs leave them."""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from browser import open_browser
from fedpedbrain.base.cases import DIAGNOSIS, SPLITS, Case
from fedpedbrain.base.files import write_table
from fedpedbrain.evaluation.scores import SCORE_COLUMNS
from fedpedbrain.evaluation.significance import judge_margin
from fedpedbrain.evaluation.site_comparison import ALL_BUT_ONE, ALL_SITES, ONE_SITE
from fedpedbrain.evaluation.tables import (
    CONFUSION_COLUMNS,
    CROSS_SITE_COLUMNS,
    DIFFERENCE_COLUMNS,
    GAIN_COLUMNS,
    POOLED_SCOPE,
    RELIABILITY_COLUMNS,
    SITE_COLUMNS,
    SUMMARY_COLUMNS,
    TEST_COLUMNS,
)
from fedpedbrain.jobs.course.cost import COST_COLUMNS
from fedpedbrain.jobs.course.timeline import measure_timeline_files
from fedpedbrain.jobs.usage import Usage, usage_line
from fedpedbrain.reporting.figure_facts import FIGURES
from fedpedbrain.reporting.figures.figure import plot_figure_files
from fedpedbrain.reporting.pages.report import ReportInputs, by_stem
from fedpedbrain.reporting.pictures.explanation_pictures import EXPLANATION_COLUMNS
from fedpedbrain.reporting.pictures.video import VIDEO_COLUMNS
from fedpedbrain.study.metric_facts import HIGHER
from study_arms import arm

COLOURS = {"pooled-arm": "#0072B2", "fedavg": "#D55E00"}
HISTORY_COLUMNS = ("arm", "seed", "round", "training_loss", "dice", "accuracy", "selection_score")
NUM_ROUNDS = 3
MARGIN = 0.05
TABLES = ("summary", "differences", "tests", "confusion", "sites", "gains", "cross_sites", "reliability")


# What the list of videos says of one.
VIDEO = {"case": "c1", "site": "a", "class": "glioma", "seed": "0", "file": "c1.mp4", "poster": "c1.jpg"}
VIDEO |= {
    "reason": "Median",
    "results": "one: Dice 0.5",
    "num_slices": 3,
    "poster_slice": 2,
    "frames_per_second": 6,
    "are_sides_known": 1,
}

ALL_ARMS = (
    arm("pooled-arm", {"pooled": ["a", "b"]}),
    arm("local-a", {"a": ["a"]}),
    arm("local-b", {"b": ["b"]}),
    arm("fedavg", {"a": ["a"], "b": ["b"]}),
)


@dataclass(frozen=True)
class SyntheticStudy:
    inputs: ReportInputs
    study: dict
    local_sites: dict[str, str]

    @property
    def arms(self) -> list[str]:
        return [arm["name"] for arm in self.study["arms"]]

    @property
    def scores(self) -> list[Path]:
        return [self.inputs.report.with_name("scores.tsv")]

    @property
    def tables(self) -> dict[str, Path]:
        return by_stem(self.inputs.tables)

    def draw_figures(self, dpi: int = 40) -> None:
        inputs, tables, figures = self.inputs, self.tables, by_stem(self.inputs.figures)
        style = {"study_arms": self.arms, "local_sites": self.local_sites, "configured_colours": COLOURS, "dpi": dpi}
        exchanging = [arm["name"] for arm in self.study["arms"] if len(arm["participants"]) > 1]
        finding, shared = {"finding": self.study["anatomy"]["finding"]}, {"style": style, "arms": []}
        plain = {"arms": self.arms, "dpi": dpi}
        timeline = {"jobs_path": inputs.timeline.with_name("jobs.tsv"), "summary_path": inputs.timeline}
        drawn = {
            "convergence": ({"history_paths": inputs.histories}, {"style": style, "exchanging": exchanging} | finding),
            "cross_sites": ({"cross_sites_path": tables["cross_sites"]}, plain | finding),
            "reliability": ({"reliability_path": tables["reliability"]}, shared),
            "volumes": ({"scores_paths": self.scores}, shared),
            "comparison": ({"summary_path": tables["summary"]}, {"style": style} | finding),
            "classes": ({"summary_path": tables["summary"]}, shared | {"classes": self.study["classes"]}),
            "updates": ({"inspection_paths": inputs.inspections}, plain),
            "confusion": ({"confusion_path": tables["confusion"]}, plain | {"colour_map": "Blues"}),
            "cohort": ({"audit_path": inputs.audit}, {"dpi": dpi}),
            "timeline": (timeline, {"style": style}),
        }
        for figure in FIGURES:
            read, settings = drawn[figure]
            plot_figure_files(figure, read, figures[figure], settings)


HEAD = {"organ": "head", "finding": "tumour"}


def rules_of(metric: str) -> tuple[str, int, int]:
    return ("one_or_zero", 2, 0) if metric == "dice" else ("", 0, 0)


def kind_of(sites: list[str]) -> str:
    if len(sites) == 1:
        return ONE_SITE
    return ALL_SITES if {"a", "b"} <= set(sites) else ALL_BUT_ONE


class StudyWriter:
    """Writes one study's tables; every number follows from the place of its arm in the list of arms."""

    def __init__(self, folder: Path, study: dict) -> None:
        self.folder, self.study = folder, study
        self.scopes = [(POOLED_SCOPE, "test"), ("a", "test"), ("b", "test")]
        self.scopes += [(site, "external") for site in study["external_sites"]]
        self.measures = [(region, metric) for region in study["regions"] for metric in ("dice", "dice_all_cases")]
        self.measures += [(DIAGNOSIS, "accuracy"), (DIAGNOSIS, "macro_f1")] if study["classes"] else []
        self.measures += [(name, "recall") for name in study["classes"][:1]]

    def score(self, number: int, scope: str) -> float:
        return 0.801 - 0.1 * number + (0.05 if scope == "b" else 0.0)

    def write_scores(self) -> None:
        values, differences, tests = [], [], []
        names = [arm["name"] for arm in self.study["arms"]]
        spread = 0.013 if len(self.study["seeds"]) > 1 else ""
        for (scope, split), (number, name), (target, metric) in itertools.product(
            self.scopes, enumerate(names), self.measures
        ):
            value = self.score(number, scope)
            # Neither macro_f1, as where a class is rare, nor a site with one patient has an interval.
            ends = ("", "") if metric == "macro_f1" or scope == "a" else (value - 0.04, value + 0.04)
            sizes = (12, 1 if scope == "a" else 12)
            values.append((name, scope, split, target, metric, *sizes, value, *ends, spread, *rules_of(metric)))
            if number:
                change = -0.1 * number
                low, high = ends if ends == ("", "") else (change - 0.15, change + 0.15)
                place = (name, names[0], scope, split, target, metric)
                differences.append((*place, *sizes, change, low, high, "", *rules_of(metric)))
                judged = ("", "", "", "")
                if metric == "dice" and scope != "a":
                    judged = (0.02, 0.06, MARGIN, judge_margin(low, high, MARGIN, HIGHER))
                tests.append((*place, sizes[1], len(names) - 1, *judged))
        self.table("summary", SUMMARY_COLUMNS, values)
        self.table("differences", DIFFERENCE_COLUMNS, differences)
        self.table("tests", TEST_COLUMNS, tests)
        self.write_sites(values)
        classes = self.study["classes"]
        counts = [
            (name, "test", true, predicted, 5 if true == predicted else number)
            for number, name in enumerate(names)
            for true, predicted in itertools.product(classes, classes)
        ]
        # At external sites an arm takes more for the wrong class.
        counts += [
            (name, "external", true, predicted, 4 if true == predicted else 2 * number)
            for number, name in enumerate(names if self.study["external_sites"] else [])
            for true, predicted in itertools.product(classes, classes)
        ]
        self.table("confusion", CONFUSION_COLUMNS, counts)
        bins = [
            (name, POOLED_SCOPE, "test", low, low + 0.5, *found)
            for name, (low, found) in itertools.product(names if classes else [], ((0.0, (0,)), (0.5, (12, 0.9, 0.75))))
        ]
        self.table("reliability", RELIABILITY_COLUMNS, bins)
        self.table("scores", SCORE_COLUMNS, [row for name in names for row in self.volume_rows(name)])

    def volume_rows(self, name: str) -> list[tuple]:
        """Two test cases and an external one, of which 1 ml too little, 3 ml too much and 5 ml too much is found."""
        cases = (("c1", "test", 10.0, 9.0), ("c2", "test", 20.0, 23.0), ("c3", "external", 30.0, 35.0))
        return [
            (name, seed, case, case, "a", split, "", region, metric, value, "")
            for seed, region, (case, split, true, predicted) in itertools.product(
                self.study["seeds"], self.study["regions"], cases
            )
            for metric, value in (("true_volume_ml", true), ("predicted_volume_ml", predicted))
        ]

    def write_sites(self, values: list[tuple]) -> None:
        """At b every arm scores 0.05 more than at a; gains are those of the arms' places in the list."""
        arms = {arm["name"]: arm["sites"] for arm in self.study["arms"]}
        alone = {sites[0]: name for name, sites in arms.items() if len(sites) == 1}
        places = {name: number for number, name in enumerate(arms)}
        shown = [(target, metric) for target, metric in self.measures if metric in ("dice", "accuracy")]
        gaps = [
            (name, *measure, "higher", 2, 0, "a", self.score(number, "a"), "b", self.score(number, "b"), 0.05)
            for (name, number), measure in itertools.product(places.items(), shown)
        ]
        gains = [
            (name, alone[site], site, *measure, 12, 12, gain, gain - 0.05, gain + 0.05, "", *rules_of(measure[1]))
            for name, measure, site in itertools.product(arms, shown, alone)
            if len(arms[name]) > 1
            for gain in [0.1 * (places[alone[site]] - places[name])]
        ]
        everywhere = [
            (name, kind_of(arms[name]), ";".join(arms[name]), scope, split, own, *row[:7])
            for name, scope, split, *row in values
            if scope != POOLED_SCOPE
            for own in [int(scope in arms[name])]
        ]
        self.table("sites", SITE_COLUMNS, gaps)
        self.table("gains", GAIN_COLUMNS, gains)
        self.table("cross_sites", CROSS_SITE_COLUMNS, everywhere)

    def table(self, name: str, columns: tuple, rows: list[tuple]) -> None:
        write_table(self.folder / f"{name}.tsv", columns, (dict(zip(columns, row, strict=False)) for row in rows))

    def write_audit(self) -> None:
        sites = []
        for site in ("a", "b", *self.study["external_sites"]):
            external = site in self.study["external_sites"]
            splits = dict(zip(SPLITS, (0, 0, 0, 20) if external else (11, 3, 6, 0), strict=True))
            facts = {"site": site, "role": "external" if external else "training", "num_patients": 20, "num_cases": 20}
            facts |= {"splits": splits, "classes": dict.fromkeys(self.study["classes"], 10) or {"unknown": 20}}
            facts["held_out_spacing_mm"] = {"scan": [6.0, 4.0 if external else 5.0, 5.0], "grid": [9.0, 9.0, 9.0]}
            facts["patients_by_split"] = splits
            facts |= {"shapes": ["4x8x8"], "spacings_mm": ["3x1x1"], "num_empty_masks": 2}
            facts["median_volume_ml"] = dict.fromkeys(self.study["regions"], None if external else 21.5)
            sites.append(facts)
        (self.folder / "audit.json").write_text(json.dumps({"sites": sites, "notes": ["a <note> & more"]}))

    def write_training(self) -> tuple[list[Path], list[Path]]:
        histories, selections = [], []
        for number, seed in itertools.product(range(len(self.study["arms"])), self.study["seeds"]):
            name = self.study["arms"][number]["name"]
            place = self.folder / f"{name}-{seed}"
            rows = [self.history_row(name, number, seed, round_number) for round_number in range(1, NUM_ROUNDS + 1)]
            write_table(place.with_suffix(".tsv"), list(rows[0]), rows)
            updates = [
                {"site": "a", "sha256": "ab" * 32, "weight": 0.25},
                {"site": "b", "sha256": "cd" * 32, "weight": 0.75},
            ]
            lineage = {"kind": "global", "arm": name, "seed": seed, "round": 3, "site": "", "num_cases": 22}
            lineage |= {"num_steps": 44, "settings_digest": "ef" * 32, "parent_sha256": "12" * 32, "updates": updates}
            model = {"num_rounds": NUM_ROUNDS, "num_validated": NUM_ROUNDS}
            model |= {"sha256": "34" * 32, "model_bytes": 1_500_000, "lineage": lineage}
            place.with_suffix(".json").write_text(json.dumps({**rows[-1], **model}))
            histories.append(place.with_suffix(".tsv"))
            selections.append(place.with_suffix(".json"))
        return histories, selections

    def write_costs(self) -> list[Path]:
        """Every arm's training takes 10 s a job and its validation 1 s; prediction left no record."""
        paths = []
        for item, seed in itertools.product(self.study["arms"], self.study["seeds"]):
            num_jobs = NUM_ROUNDS * len(item["participants"])
            who = {"arm": item["name"], "seed": seed, "peak_memory_mb": 400, "gpu_memory_mb": 0, "gpus": ""}
            rows = []
            phases = [("training", num_jobs, 10), ("validation", NUM_ROUNDS, 1), ("prediction", 1, 0)]
            for phase, number, seconds in phases:
                times = {"wall_seconds": number * seconds, "parallel_seconds": NUM_ROUNDS * seconds, "gpu_seconds": 0}
                times |= {"cpu_seconds": 2 * number * seconds, "num_recorded": number if seconds else 0}
                rows.append(who | times | {"phase": phase, "num_jobs": number})
            paths.append(self.folder / f"{item['name']}-{seed}-cost.tsv")
            write_table(paths[-1], COST_COLUMNS, rows)
        return paths

    def write_timeline(self) -> Path:
        """One job after the other: every site's training takes 10 s, each round's averaging 1 s, an hour apart."""
        clock = 1e9
        for item, number in itertools.product(self.study["arms"], range(1, NUM_ROUNDS + 1)):
            folder = self.folder / "logs" / item["name"] / "seed-0" / f"round-{number:03d}"
            folder.mkdir(parents=True, exist_ok=True)
            jobs = [("train_site", f"train-{site}", 10.0) for site in item["participants"]]
            for rule, name, seconds in [*jobs, ("aggregate_round", "aggregate", 1.0)]:
                usage = Usage(seconds, seconds, 400, started=clock, ended=clock + seconds, host="node")
                (folder / f"{name}.log").write_text(usage_line(rule, usage))
                clock += seconds
            clock += 3600.0
        paths = [self.folder / "jobs.tsv", self.folder / "timeline.json"]
        arms = [item["name"] for item in self.study["arms"]]
        folders = [self.folder / name for name in ("logs", "logs/requests", "records")]
        measure_timeline_files(*folders, *paths, arms, [0], NUM_ROUNDS)
        return paths[1]

    def write_inspection(self, name: str, rows: list[tuple]) -> Path:
        """Rows of round, site, length and cosine to the others; a site without a length is missing."""
        entries = []
        for round_number, site, norm, cosine in rows:
            known = {} if norm is None else {"share": 0.5, "norm": norm, "cosine_to_others": cosine}
            who = {"arm": name, "seed": 0, "round": round_number, "site": site, "missing": int(norm is None)}
            entries.append(who | known)
        columns = ("arm", "seed", "round", "site", "missing", "share", "norm", "cosine_to_others")
        write_table(self.folder / f"{name}-inspection.tsv", columns, entries)
        return self.folder / f"{name}-inspection.tsv"

    def history_row(self, name: str, number: int, seed: int, round_number: int) -> dict:
        score = 0.2 * round_number - 0.03 * number + 0.01 * seed
        dice = score if self.study["regions"] else None
        accuracy = score if self.study["classes"] else None
        numbers = (name, seed, round_number, 1.0 / round_number, dice, accuracy, score)
        # In round 2 one of two sites sends nothing.
        num_updates = 1 if round_number == 2 else 2
        sent = {"uploaded_bytes": 1_500_000 * num_updates, "num_updates": num_updates}
        return dict(zip(HISTORY_COLUMNS, numbers, strict=True)) | sent | {"selected": int(round_number == NUM_ROUNDS)}


@pytest.fixture(scope="session")
def tab(tmp_path_factory):
    """A tab of a browser, whatever was shown in it before."""
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


def study_writer(folder: Path) -> Callable[..., SyntheticStudy]:
    """A function that writes a study into a folder; its arguments are what studies differ in."""

    def write(
        regions=("whole_tumour",),
        classes=("normal", "glioma"),
        external=("x",),
        arms=ALL_ARMS,
        seeds=(0,),
        source="bids",
        sent=(),
        privacy=None,
        anatomy=HEAD,
    ):
        study = {
            "title": "A <study>",
            "anatomy": dict(anatomy),
            "source": source,
            "arms": list(arms),
            "candidates": [],
            "reference_arm": arms[0]["name"],
        }
        study |= {"training_sites": ["a", "b"], "external_sites": list(external), "regions": list(regions)}
        study |= {"classes": list(classes), "normal_class": classes[0] if classes else None, "num_rounds": NUM_ROUNDS}
        study |= {"seeds": list(seeds), "versions": {"python": "3.11"}}
        study["config"] = {
            "evaluation": {
                "confidence_level": 0.95,
                "bootstrap_samples": 500,
                "surface_tolerance_mm": 4.5,
                "lesion_overlap": 0.2,
                "smallest_region_ml": 0.75,
                "geometry": "scan",
                "empty_when_normal": True,
                "component_filters": {"smallest_ml": [0.0], "largest_only": [False]},
                "noninferiority_margin": {"dice": MARGIN, "accuracy": None},
            },
            "training": {"epochs_per_round": 2},
            "preprocessing": {"grid": [4, 8, 8]},
            "reporting": {"arm_colours": COLOURS, "power": {"cpu_core_watts": 10.0, "gpu_watts": None}},
        }
        writer, sent = StudyWriter(folder, study), dict(sent)
        writer.write_scores()
        writer.write_audit()
        histories, selections = writer.write_training()
        figures = [folder / f"{name}.png" for name in FIGURES]
        write_table(folder / "videos" / "videos.tsv", VIDEO_COLUMNS, [])
        write_table(folder / "videos" / "explanations.tsv", EXPLANATION_COLUMNS, [])
        places = (
            folder / "audit.json",
            histories,
            selections,
            figures,
            folder / "videos",
            folder / "videos",
            folder / "report.html",
            folder / "report.json",
            writer.write_timeline(),
        )
        local_sites = {item["name"]: item["sites"][0] for item in arms if len(item["sites"]) == 1}
        inspections = [writer.write_inspection(item["name"], rows) for item in arms if (rows := sent.get(item["name"]))]
        account = folder / "privacy.json"
        account.write_text(json.dumps(privacy))
        tables = [folder / f"{name}.tsv" for name in TABLES]
        inputs = ReportInputs(tables, *places, inspections, [account] if privacy else [], costs=writer.write_costs())
        return SyntheticStudy(inputs, study, local_sites)

    return write


@pytest.fixture
def write_study(tmp_path):
    """A function that writes a study, see ``study_writer``."""
    return study_writer(tmp_path)


@pytest.fixture(scope="module")
def write_shared_study(tmp_path_factory):
    """The same for a study that all tests of a module look at."""
    return study_writer(tmp_path_factory.mktemp("study"))


@pytest.fixture
def shard(tmp_path, write_shard):
    """One site's shard of three test cases (glioma, glioma, normal) and one training case between them."""
    folder = tmp_path / "shard"
    rows = [("c1", "glioma", "test"), ("c2", "glioma", "train"), ("c3", "glioma", "test"), ("c4", "normal", "test")]
    cases = [
        Case(name, name, "a", kind, (), "", (6, 30, 20), (4.0, 1.0, 1.0), "0", split, (6.0, 3.75, 2.5))
        for name, kind, split in rows
    ]
    images = np.random.default_rng(0).integers(0, 255, (4, 1, 6, 16, 16), dtype=np.uint8)
    masks = np.zeros((4, 1, 6, 16, 16), dtype=np.uint8)
    masks[:3, 0, 1:4, 4:9, 5:10] = 1
    masks[:3, 0, 2, 4:11, 5:12] = 1
    return write_shard(folder, cases, images, masks)


@pytest.fixture(scope="session")
def list_videos():
    """``list_videos(folder, changes, ...)`` writes the list of videos, a row for each dict of changes.

    A video's poster is also the picture that explains it.
    """

    def _list_videos(folder: Path, *changes: dict) -> None:
        rows = [VIDEO | change for change in changes]
        write_table(folder / "videos.tsv", VIDEO_COLUMNS, rows)
        explained = [{"case": row["case"], "file": row["poster"], "text": "Evidence for glioma"} for row in rows]
        explained = [row | {"saliency_cells": "3 x 2 x 2"} for row in explained]
        write_table(folder / "explanations.tsv", EXPLANATION_COLUMNS, explained)

    return _list_videos
