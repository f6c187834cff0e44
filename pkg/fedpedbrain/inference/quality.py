"""What may be wrong with the prediction of a scan: checks that each say number, rule and what was found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedpedbrain.base.words import with_article
from fedpedbrain.data.checks.training_intensities import foreground_quantiles, intensity_distance
from fedpedbrain.data.formats.scan import Scan
from fedpedbrain.data.grid.intensity import to_grey_levels
from fedpedbrain.data.grid.orientation import tilt_degrees

# Both ends of the axes (D, H, W).
_SIDES = (("feet", "head"), ("front", "back"), ("right", "left"))
# Beyond this the nearest patient axis of an image's axis begins to be a matter of chance: it is so at 45 degrees.
_MOST_TILT_DEGREES = 35.0
# Training cases may all be alike; closer than this (grey levels of 255), no eye and no network tells them apart.
_LEAST_DISTANCE = 1.0


@dataclass(frozen=True)
class Check:
    """One check of a prediction.

    Attributes
    ----------
    name : ``empty``, ``clipped``, ``orientation``, ``intensity`` or ``probability``
    is_raised : whether the prediction is flagged; None where it could not be checked
    value, unit : the number that decides, None where there is none
    rule : from where on the flag is raised, in words
    finding : what was found, in words
    """

    name: str
    is_raised: bool | None
    value: float | None
    unit: str
    rule: str
    finding: str


def check_empty(volumes_ml: Mapping[str, float], predicted_class: str | None, empty_class: str | None) -> Check:
    """Flag a prediction in which no region was found.

    Parameters
    ----------
    volumes_ml : of every region
    predicted_class, empty_class : the most probable class, and the one whose cases get no region
    """
    total = sum(volumes_ml.values())
    finding = f"regions of {total:.1f} ml in all were found" if total > 0 else "no region was found"
    if total == 0 and predicted_class is not None and predicted_class == empty_class:
        finding += f", as the most probable class is {predicted_class}, which has none"
    return Check("empty", total == 0, total, "ml", "flagged where no region was found", finding)


def touched_sides(region: np.ndarray) -> list[str]:
    """Names of the outer planes of an array that a region touches; bool (D, H, W), from feet, front and right."""
    return [
        name
        for axis, names in enumerate(_SIDES)
        for name, plane in zip(names, (0, -1), strict=True)
        if region.take(plane, axis).any()
    ]


def check_clipped(in_scan: Mapping[str, np.ndarray], on_grid: Mapping[str, np.ndarray]) -> Check:
    """Flag a prediction with a region that reaches the edge of what was scanned or of what the network saw.

    Parameters
    ----------
    in_scan, on_grid : the regions by name, bool (D, H, W), D from feet to head, H from front to back, W from right
        to left
    """
    found, sides = [], set()
    for name, region in in_scan.items():
        touched = {"scan": touched_sides(region), "network's view": touched_sides(on_grid[name])}
        sides |= {side for names in touched.values() for side in names}
        found += [
            f"{name} touches the edge of the {what}: {', '.join(names)}" for what, names in touched.items() if names
        ]
    rule = "flagged where a region touches one of the six sides of the scan or of the network's view"
    finding = "; ".join(found) if found else "no region touches an edge"
    return Check("clipped", bool(sides), float(len(sides)), "sides", rule, finding)


def check_orientation(scan: Scan, organ: str, extent_mm: Sequence[float]) -> Check:
    """Flag a scan of which it is not sure where the patient's right, front and head are, or that shows no such organ.

    Parameters
    ----------
    extent_mm : the smallest and the largest field of view that shows the organ, along any axis
    """
    tilt = tilt_degrees(scan.image)
    extents = [size * step for size, step in zip(scan.image.GetSize(), scan.image.GetSpacing(), strict=True)]
    low, high = extent_mm
    doubts = [] if scan.is_orientation_known else [f"{scan.form} carries no orientation, the config's word was taken"]
    if tilt > _MOST_TILT_DEGREES:
        doubts.append(f"the axes lie {tilt:.0f} degrees off the patient's")
    if not all(low <= extent <= high for extent in extents):
        words = " x ".join(f"{extent:.0f}" for extent in extents)
        doubts.append(f"a field of view of {words} mm is not that of {with_article(organ)}")
    rule = (
        f"flagged where the form carries no orientation, the axes lie more than {_MOST_TILT_DEGREES:.0f} degrees off "
        f"the patient's, or the field of view is not from {low:.0f} to {high:.0f} mm along every axis"
    )
    finding = "; ".join(doubts) if doubts else f"the axes lie {tilt:.0f} degrees off the patient's"
    return Check("orientation", bool(doubts), tilt, "degrees", rule, finding)


def check_intensity(images: np.ndarray, reference: Mapping[str, Any] | None, tolerance: float, organ: str) -> Check:
    """Flag a scan whose preprocessed intensities are unlike those of the model's training cases.

    Parameters
    ----------
    images : preprocessed, uint8 or float16 (C, D, H, W)
    reference : what ``summarize_intensities`` made of the training cases; None where it is not at hand
    tolerance : flagged from so many times the furthest training case's distance on, which counts as one grey level
        where it is less
    """
    times = "" if tolerance == 1.0 else f"{tolerance:g} times "
    rule = (
        f"flagged where the {organ}'s intensities lie further from the training cases' than {times}the furthest of "
        f"these, or than {tolerance * _LEAST_DISTANCE:g} grey levels where that is more"
    )
    if reference is None:
        finding = "not checked: no intensities.json of the training cases beside the model"
        return Check("intensity", None, None, "", rule, finding)
    if len(reference["channels"]) != len(images):
        finding = f"not checked: intensities.json describes other channels ({', '.join(reference['channels'])})"
        return Check("intensity", None, None, "", rule, finding)
    ratios, found = [], []
    for image, (name, known) in zip(to_grey_levels(images), reference["channels"].items(), strict=True):
        quantiles = foreground_quantiles(image, **reference["foreground"])
        distance = intensity_distance(quantiles, np.array(known["quantiles"]))
        largest = known["largest_distance"]
        ratios.append(distance / max(largest, _LEAST_DISTANCE))
        found.append(f"{name} {distance:.1f} grey levels of 255 away, the furthest training case {largest:.1f}")
    return Check("intensity", max(ratios) > tolerance, max(ratios), "times", rule, "; ".join(found))


def check_probability(probabilities: Mapping[str, float], least: float) -> Check:
    """Flag a prediction whose most probable class is not probable enough; ``probabilities`` of every class."""
    best = max(probabilities, key=probabilities.__getitem__)
    rule = f"flagged where the most probable class has less than {100 * least:g} %"
    finding = f"{best} has {100 * probabilities[best]:.1f} %"
    return Check("probability", probabilities[best] < least, probabilities[best], "", rule, finding)
