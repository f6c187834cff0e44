"""Videos of held-out cases: the image, the true outline and what each arm predicts, slice by slice."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image

from fedpedbrain.arm_colours import arm_colours
from fedpedbrain.cohort import HELD_OUT, TEST, Case
from fedpedbrain.data.dataset import ShardDataset
from fedpedbrain.errors import StudyError
from fedpedbrain.files import read_table, replacing, write_table
from fedpedbrain.reporting.frames import CaseView, FramePainter, Panel
from fedpedbrain.reporting.style import readable, sentence_case

VIDEO_COLUMNS = ("case", "site", "class", "seed", "file", "poster", "reason", "results")
VIDEO_COLUMNS += ("num_slices", "poster_slice", "frames_per_second", "are_sides_known")
_TRUE_COLOUR = "#FFFFFF"
# BT.709 is what browsers assume. The index goes to the front, so that playing can start at once.
_FILTERS = "scale=out_color_matrix=bt709:out_range=tv,setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709"
# A key frame every so many lets a page jump to any slice: what lies between is decoded from the last key frame on.
_SLICES_A_KEY_FRAME = 8
_ENCODING = (
    f"-vf {_FILTERS} -preset veryfast -crf 20 -threads 1 -g {_SLICES_A_KEY_FRAME} -movflags +faststart "
    "-fflags +bitexact -flags:v +bitexact"
)


@dataclass(frozen=True)
class ChosenCase:
    """A case to show, and why this one."""

    case: str
    reason: str


def case_ranks(scores: Sequence[Mapping[str, str]]) -> dict[str, tuple[str, float]]:
    """One (class, value) a case by which cases are put in order.

    The value is the mean Dice of the regions that the case has, of all regions where it has none, and the probability
    of the true class in a study without regions.
    """
    values: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    class_of = {}
    for row in scores:
        values[row["case"]][row["target"], row["metric"]] = float(row["value"])
        class_of[row["case"]] = row["class"]
    ranks = {}
    for case, known in values.items():
        dice = {target: value for (target, metric), value in known.items() if metric == "dice"}
        present = [value for target, value in dice.items() if known[target, "true_volume_ml"] > 0]
        probability = known.get((class_of[case], "probability"), 0.0)
        ranks[case] = (class_of[case], float(np.mean(present or list(dice.values()) or [probability])))
    return ranks


def choose_cases(
    scores: Sequence[Mapping[str, str]], classes: Sequence[str], num_cases: int, arm: str
) -> list[ChosenCase]:
    """Choose cases by a rule that nobody can bend: the classes in turn, within a class the median case first.

    After the median come its neighbours in the order of the values. Without classes the cases are spread from the
    worst to the best by quantiles.

    Parameters
    ----------
    scores : the rows of the scores table of one arm and seed; only split ``test`` is chosen from, or ``external`` in
        a study whose training sites have no test patient
    classes : in the order of the config
    num_cases : how many to choose at most
    arm : named in the reasons
    """
    held_out = [row for row in scores if row["split"] == TEST] or list(scores)
    ordered = sorted(case_ranks(held_out).items(), key=lambda item: (item[1][1], item[0]))
    queues = [queue for name in classes if (queue := _from_the_median(ordered, name, arm))]
    if not queues:
        return _spread(ordered, num_cases, arm)
    turns = max(map(len, queues))
    return [queue[turn] for turn in range(turns) for queue in queues if turn < len(queue)][:num_cases]


def _from_the_median(ordered: Sequence[tuple[str, tuple[str, float]]], class_name: str, arm: str) -> list[ChosenCase]:
    members = [(case, value) for case, (name, value) in ordered if name == class_name]
    median = (len(members) - 1) // 2
    order = sorted(range(len(members)), key=lambda rank: (abs(rank - median), rank))
    return [
        ChosenCase(
            members[rank][0],
            f"{'median' if rank == median else 'next to the median'} of the {len(members)} test cases of class "
            f"{readable(class_name)} under {readable(arm)}",
        )
        for rank in order
    ]


def _spread(ordered: Sequence[tuple[str, tuple[str, float]]], num_cases: int, arm: str) -> list[ChosenCase]:
    num_cases = min(num_cases, len(ordered))
    shares = np.linspace(0.0, 1.0, num_cases) if num_cases > 1 else [0.5] * num_cases
    ranks = [round(share * (len(ordered) - 1)) for share in shares]
    return [
        ChosenCase(
            ordered[rank][0], f"rank {rank + 1} of {len(ordered)} test cases from worst to best under {readable(arm)}"
        )
        for rank in ranks
    ]


@dataclass(frozen=True)
class ArmPredictions:
    """What one arm and seed predicts for the held-out cases: masks uint8 (N, R, D, H, W) and the rows of its scores."""

    arm: str
    seed: str
    colour: str
    masks: np.ndarray
    scores: list[dict[str, str]]

    def lines(self, case: Case, regions: Sequence[str]) -> tuple[str, ...]:
        """What the arm predicts for a case, in a few words a line."""
        rows = [row for row in self.scores if row["case"] == case.case]
        value = {(row["target"], row["metric"]): float(row["value"]) for row in rows}
        lines = [_region_line(value, region, len(regions) > 1) for region in regions]
        probabilities = {row["target"]: float(row["value"]) for row in rows if row["metric"] == "probability"}
        if probabilities:
            best = max(probabilities, key=probabilities.__getitem__)
            verdict = ("correct" if best == case.class_name else "wrong") if case.class_name else "truth unknown"
            lines.append(f"{readable(best)} {100 * probabilities[best]:.0f} % ({verdict})")
        return tuple(lines)


def _region_line(value: Mapping[tuple[str, str], float], region: str, named: bool) -> str:
    """Dice says nothing about a case without this region: there the predicted volume is what counts."""
    name = f"{readable(region)}: " if named else ""
    predicted = value[region, "predicted_volume_ml"]
    if value[region, "true_volume_ml"] > 0:
        return f"{name}Dice {value[region, 'dice']:.3f}"
    return f"{name}{predicted:.1f} ml outlined, none is there" if predicted > 0 else f"{name}nothing outlined (correct)"


def build_view(dataset: ShardDataset, row: int, arms: Sequence[ArmPredictions], regions: Sequence[str]) -> CaseView:
    """Gather what the video of one held-out case shows."""
    case, true_masks = dataset.cases[row], dataset.mask(row)
    panels = [Panel("Image")]
    if regions:
        panels.append(Panel("True outline", (), true_masks, _TRUE_COLOUR))
    panels += [
        Panel(readable(arm.arm), arm.lines(case, regions), arm.masks[row] if regions else None, arm.colour)
        for arm in arms
    ]
    words = [f"case {case.case}", f"site {case.site}"]
    if case.class_name:
        words.append(f"true class {readable(case.class_name)}")
    if len(regions) > 1:
        words.append(f"outlines from full colour to pale: {', '.join(map(readable, regions))}")
    image = dataset.image(row)[0]
    aspect = case.plane_aspect(*image.shape[1:])
    return CaseView(image, true_masks, panels, "  ·  ".join(words), aspect, are_sides_known=bool(case.orientation))


def write_video(painter: FramePainter, path: Path, frames_per_second: float) -> None:
    """Encode all frames as H.264 in an MP4 that every browser plays."""
    height, width = painter.size
    with replacing(path) as temporary:
        writer = imageio_ffmpeg.write_frames(
            str(temporary),
            (width, height),
            fps=frames_per_second,
            codec="libx264",
            macro_block_size=2,
            quality=None,
            output_params=_ENCODING.split(),
        )
        writer.send(None)
        for frame in painter:
            writer.send(np.ascontiguousarray(frame))
        writer.close()


def render_videos_files(
    shard_folders: Sequence[str | Path],
    masks_paths: Sequence[str | Path],
    scores_paths: Sequence[str | Path],
    videos_folder: str | Path,
    arms: Sequence[str],
    study_arms: Sequence[str],
    regions: Sequence[str],
    classes: Sequence[str],
    configured_colours: Mapping[str, str],
    num_cases: int,
    frames_per_second: float,
    panel_pixels: int,
) -> None:
    """Write a video and a poster for each chosen case, and ``videos.tsv`` that lists them.

    Parameters
    ----------
    shard_folders : in the order in which the predictions were made
    masks_paths, scores_paths : predicted masks and scores of one seed, one of each arm in ``arms``
    arms : arms to show; the first decides which cases
    study_arms : every arm of the study in the order of the config, so that colours are those of the figures
    regions, classes, configured_colours, num_cases, frames_per_second, panel_pixels : see the config
    """
    dataset = ShardDataset(shard_folders, HELD_OUT)
    colours = arm_colours(study_arms, configured_colours)
    shown = []
    for arm, masks_path, scores_path in zip(arms, masks_paths, scores_paths, strict=True):
        masks, scores = np.load(masks_path, mmap_mode="r"), read_table(scores_path)
        if len(masks) != len(dataset):
            raise StudyError(
                f"{masks_path}: expected a mask for each of the {len(dataset)} held-out cases, found {len(masks)}; "
                "delete it and predict again"
            )
        shown.append(ArmPredictions(arm, scores[0]["seed"], colours[arm], masks, scores))
    row_of = {case.case: row for row, case in enumerate(dataset.cases)}
    entries = []
    for chosen in choose_cases(shown[0].scores, classes, num_cases, arms[0]):
        case = dataset.cases[row_of[chosen.case]]
        view = build_view(dataset, row_of[chosen.case], shown, regions)
        files = _write_case(view, Path(videos_folder) / case.case, panel_pixels, frames_per_second)
        results = "; ".join(f"{readable(arm.arm)}: {', '.join(arm.lines(case, regions))}" for arm in shown)
        facts = {"case": case.case, "site": case.site, "class": case.class_name, "seed": shown[0].seed}
        facts |= {"num_slices": len(view.image), "poster_slice": poster_slice(view.marked) + 1}
        facts["frames_per_second"] = frames_per_second
        facts["are_sides_known"] = int(view.are_sides_known)
        entries.append({**facts, **files, "reason": sentence_case(chosen.reason), "results": results})
    write_table(Path(videos_folder) / "videos.tsv", VIDEO_COLUMNS, entries)


def _write_case(view: CaseView, stem: Path, panel_pixels: int, frames_per_second: float) -> dict[str, str]:
    """Write a case's video and poster; returns their names."""
    painter = FramePainter(view, panel_pixels)
    # Not ``with_suffix``, which would cut a case name at its last dot.
    names = {"file": f"{stem.name}.mp4", "poster": f"{stem.name}.jpg"}
    write_video(painter, stem.parent / names["file"], frames_per_second)
    with replacing(stem.parent / names["poster"]) as temporary:
        Image.fromarray(painter.paint(poster_slice(view.marked))).save(temporary, quality=88)
    return names


def poster_slice(masks: np.ndarray) -> int:
    """Index of the slice with the largest region, the middle one where there is none; masks (R, D, H, W)."""
    areas = masks.sum(axis=(0, 2, 3), dtype=np.int64)
    return int(areas.argmax()) if areas.any() else masks.shape[1] // 2
