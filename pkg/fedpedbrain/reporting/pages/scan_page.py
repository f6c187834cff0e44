"""One page on a new scan: what each model says of it, how far to trust that, and where the models come from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import imageio_ffmpeg
from markupsafe import Markup

from fedpedbrain.base.files import replacing
from fedpedbrain.reporting.figures.style import readable
from fedpedbrain.reporting.pages.pages import data_uri, page_environment, template_text
from fedpedbrain.reporting.pictures.scan_video import ModelView, load_model_views

# Checks of the prediction in a reader's words.
_CHECKS = {
    "orientation": "Orientation",
    "intensity": "Intensities",
    "empty": "Empty outline",
    "clipped": "Clipped outline",
    "probability": "Probability",
}
# What a raised check means for the reader.
_WARNINGS = {
    "orientation": "the orientation is unsure",
    "intensity": "the intensities are unlike those of the training cases",
    "empty": "nothing is outlined",
    "clipped": "an outline is cut off at an edge",
    "probability": "the class is unsure",
}


def verdict(model: ModelView) -> str:
    """What a model says, in one sentence without its end: ``DIPG (83 %), 34.2 ml of whole lesion``."""
    result = model.result
    parts = []
    if result["predicted_class"] is not None:
        best = result["predicted_class"]
        parts.append(f"{readable(best)} ({100 * result['probabilities'][best]:.0f} %)")
    parts += [f"{ml:.1f} ml of {readable(name)}" for name, ml in result["volumes_ml"].items()]
    return ", ".join(parts)


def warnings(model: ModelView) -> list[str]:
    """The checks that a model's prediction did not pass, in a reader's words."""
    return [_WARNINGS[check["name"]] for check in model.result["checks"] if check["is_raised"]]


def check_rows(models: Sequence[ModelView]) -> list[dict[str, Any]]:
    """Every check with what was found, its rule and the models that it holds for; raised ones first."""
    states = {True: "flagged", False: "passed", None: "not checked"}
    rows: dict[tuple[str, ...], list[ModelView]] = {}
    for name, title in _CHECKS.items():
        for model in models:
            for check in (check for check in model.result["checks"] if check["name"] == name):
                finding = check["finding"].removeprefix("not checked: ")
                rows.setdefault((title, states[check["is_raised"]], finding, check["rule"]), []).append(model)
    named = [dict(zip(("title", "state", "finding", "rule"), row, strict=True), models=of) for row, of in rows.items()]
    return sorted(named, key=lambda row: row["state"] != "flagged")


def class_rows(models: Sequence[ModelView]) -> list[tuple[str, list[float | None]]]:
    """Every class with the probability that each model gives it, the most probable class of the first model first."""
    names = {name: None for model in models for name in model.result["probabilities"]}
    rows = [(name, [model.result["probabilities"].get(name) for model in models]) for name in names]
    return sorted(rows, key=lambda row: [-(value or 0.0) for value in row[1]])


def region_rows(models: Sequence[ModelView]) -> list[tuple[str, list[float | None]]]:
    """Every region with the volume (ml) that each model gives it."""
    names = {name: None for model in models for name in model.result["volumes_ml"]}
    return [(name, [model.result["volumes_ml"].get(name) for model in models]) for name in names]


def overlap_rows(models: Sequence[ModelView]) -> list[tuple[str, str, str, float]]:
    """How far each two models outline the same: both names, the region, and the Dice coefficient of the two outlines.

    Regions that neither outlines are left out.
    """
    rows = []
    for number, first in enumerate(models):
        for second in models[number + 1 :]:
            for name in (name for name in first.masks if name in second.masks):
                masks = first.masks[name], second.masks[name]
                sizes = [int(mask.sum(dtype="int64")) for mask in masks]
                if any(sizes):
                    shared = int((masks[0] & masks[1]).sum(dtype="int64"))
                    rows.append((first.name, second.name, name, 2.0 * shared / sum(sizes)))
    return rows


def write_scan_page_files(
    scan: str,
    prediction_folders: Sequence[str | Path],
    video_path: str | Path,
    poster_path: str | Path,
    overview_path: str | Path,
    page_path: str | Path,
    configured_colours: Mapping[str, str],
) -> None:
    """Write the page of one scan.

    Parameters
    ----------
    scan : its name
    prediction_folders : what each model says of it
    video_path, poster_path, overview_path : what ``render_scan_files`` drew
    configured_colours : see the config
    """
    models = load_model_views(prediction_folders, configured_colours)
    num_slices, seconds = imageio_ffmpeg.count_frames_and_secs(str(video_path))
    content = {
        "scan": scan,
        "facts": models[0].result["scan"],
        "models": models,
        "verdicts": [(model, verdict(model), warnings(model)) for model in models],
        "checks": check_rows(models),
        "classes": class_rows(models),
        "regions": region_rows(models),
        "overlaps": overlap_rows(models),
        "video": data_uri(video_path),
        "num_slices": num_slices,
        "frames_per_second": num_slices / seconds,
        "poster": data_uri(poster_path),
        "overview": data_uri(overview_path),
        "files": [
            (model.name, sorted(path.name for path in Path(folder).iterdir() if not path.name.startswith(".")))
            for model, folder in zip(models, prediction_folders, strict=True)
        ],
        "css": Markup(template_text("report.css") + template_text("scan.css")),
    }
    with replacing(page_path) as temporary:
        temporary.write_text(page_environment().get_template("scan.html.j2").render(content), encoding="utf-8")
