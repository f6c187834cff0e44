"""Videos of held-out cases: the image, the true outline and what each arm predicts, slice by slice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image

from fedpedbrain.base.cases import Shard
from fedpedbrain.base.files import read_table, replacing, write_table
from fedpedbrain.data.grid.intensity import to_grey_levels
from fedpedbrain.data.grid.packed_masks import PackedMasks
from fedpedbrain.evaluation.case_choice import read_choice
from fedpedbrain.evaluation.case_geometry import HeldOutCases, open_predictions
from fedpedbrain.reporting.figures.style import readable
from fedpedbrain.reporting.pictures.frames import CaseView, FramePainter, Panel, plane_aspect
from fedpedbrain.reporting.words.case_words import CaseScores, describe_choice
from fedpedbrain.study.geometry_facts import GEOMETRIES

VIDEO_COLUMNS = ("case", "site", "class", "seed", "file", "poster", "reason", "results")
VIDEO_COLUMNS += ("num_slices", "poster_slice", "frames_per_second", "are_sides_known")
_TRUE_COLOUR = "#FFFFFF"
# BT.709 is what browsers assume. The index goes to the front, so that playing can start at once.
_FILTERS = "scale=out_color_matrix=bt709:out_range=tv,setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709"
# A key frame every so many lets a page jump to any slice: what lies between is decoded from the last key frame on.
_SLICES_A_KEY_FRAME = 8
_ENCODING = (
    f"-vf {_FILTERS} -preset superfast -crf 21 -threads 1 -g {_SLICES_A_KEY_FRAME} -movflags +faststart "
    "-fflags +bitexact -flags:v +bitexact"
)


@dataclass(frozen=True)
class ArmPredictions:
    """What one arm and seed predicts for the held-out cases: masks and scores."""

    arm: str
    colour: str
    masks: PackedMasks
    scores: CaseScores


def build_view(dataset: HeldOutCases, row: int, arms: Sequence[ArmPredictions], regions: Sequence[str]) -> CaseView:
    """Gather what the video of one held-out case shows."""
    case, true_masks = dataset.cases[row], dataset.mask(row)
    panels = [Panel("Image")]
    if regions:
        panels.append(Panel("True outline", arms[0].scores.true_lines(case, regions), true_masks, _TRUE_COLOUR))
    panels += [
        Panel(readable(arm.arm), arm.scores.lines(case, regions), arm.masks.row(row) if regions else None, arm.colour)
        for arm in arms
    ]
    words = [f"case {case.case}", f"site {case.site}"]
    if case.class_name:
        words.append(f"true class {readable(case.class_name)}")
    if len(regions) > 1:
        words.append(f"regions from full colour to pale: {', '.join(map(readable, regions))}")
    image = to_grey_levels(dataset.image(row)[:1])[0]
    aspect = plane_aspect(image.shape, dataset.spacing_mm(row))
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


@dataclass(frozen=True)
class VideoStyle:
    """What videos show, and how.

    Attributes
    ----------
    colours : arm to show to its colour in the figures; the first arm has decided which cases
    regions, classes, frames_per_second, panel_pixels : see the config
    geometry : in which the cases are shown, a word of ``GEOMETRIES``
    """

    colours: Mapping[str, str]
    regions: Sequence[str]
    classes: Sequence[str]
    frames_per_second: float
    panel_pixels: int
    geometry: str


def render_videos_files(
    choice_path: str | Path,
    shards: Sequence[Shard],
    masks_paths: Sequence[str | Path],
    scores_paths: Sequence[str | Path],
    videos_folder: str | Path,
    style: VideoStyle,
) -> None:
    """Write a video and a poster for each chosen case, and ``videos.tsv`` that lists them.

    Parameters
    ----------
    choice_path : the chosen cases
    shards : in the order in which the predictions were made
    masks_paths, scores_paths : predicted masks and scores of one seed, one of each arm that is shown
    """
    dataset = GEOMETRIES.load(style.geometry)().open(shards)
    shown = [
        ArmPredictions(
            arm, colour, open_predictions(masks_path, dataset, len(style.regions)), CaseScores(read_table(scores_path))
        )
        for (arm, colour), masks_path, scores_path in zip(style.colours.items(), masks_paths, scores_paths, strict=True)
    ]
    row_of = {case.case: row for row, case in enumerate(dataset.cases)}
    entries = []
    for chosen in read_choice(choice_path):
        case = dataset.cases[row_of[chosen.case]]
        view = build_view(dataset, row_of[chosen.case], shown, style.regions)
        files = _write_case(view, Path(videos_folder) / case.case, chosen.slice_index, style)
        results = [("true", shown[0].scores.true_lines(case, style.regions))] if style.regions else []
        results += [(readable(arm.arm), arm.scores.lines(case, style.regions)) for arm in shown]
        facts = {"case": case.case, "site": case.site, "class": case.class_name, "seed": shown[0].scores.seed}
        facts |= {"reason": describe_choice(chosen, shown[0].arm, bool(style.classes))}
        facts |= {"results": "; ".join(f"{name}: {', '.join(lines)}" for name, lines in results)}
        facts |= {"num_slices": len(view.image), "poster_slice": chosen.slice_index + 1}
        facts |= {"frames_per_second": style.frames_per_second, "are_sides_known": int(view.are_sides_known)}
        entries.append({**facts, **files})
    write_table(Path(videos_folder) / "videos.tsv", VIDEO_COLUMNS, entries)


def _write_case(view: CaseView, stem: Path, poster_slice: int, style: VideoStyle) -> dict[str, str]:
    """Write a case's video and poster; returns their names."""
    painter = FramePainter(view, style.panel_pixels)
    # Not ``with_suffix``, which would cut a case name at its last dot.
    names = {"file": f"{stem.name}.mp4", "poster": f"{stem.name}.jpg"}
    write_video(painter, stem.parent / names["file"], style.frames_per_second)
    with replacing(stem.parent / names["poster"]) as temporary:
        Image.fromarray(painter.paint(poster_slice)).save(temporary, quality=88)
    return names
