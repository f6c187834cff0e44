"""Settings of networks and losses that contradict each other are refused by their place."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from fedpedbrain.base.errors import StudyError
from fedpedbrain.study.study import load_study

REPOSITORY = Path(__file__).resolve().parents[3]
FLAT = {
    "strides": [[1, 1, 1], [1, 2, 2], [1, 2, 2]],
    "kernels": [[1, 3, 3]] * 3,
    "features": [4, 8, 8],
    "blocks": [1, 1, 1],
}


def load(
    options: dict[str, Any],
    loss: str = "dice_cross_entropy",
    grid: tuple[int, ...] = (24, 48, 48),
    regions: list[dict[str, Any]] | None = None,
) -> None:
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    config["cohort"] |= {"regions": regions} if regions else {}
    config["preprocessing"]["grid"] = list(grid)
    config["network"] |= {"name": "residual_unet", "residual_unet": options}
    config["training"]["loss"]["segmentation"] = loss
    load_study(config, REPOSITORY / "rules" / "schemas" / "config.schema.yaml")


def test_slices_with_neighbours_are_taken() -> None:
    load(FLAT | {"neighbours": 2})


@pytest.mark.parametrize(
    ("options", "loss", "grid", "message"),
    [
        (FLAT | {"blocks": [1, 1]}, "dice", (24, 48, 48), r"network.residual_unet: 3 features but 2 blocks"),
        (
            FLAT | {"kernels": [[3, 3, 3]] * 2},
            "dice",
            (24, 48, 48),
            r"3 features but 2 kernels; give one of each per stage",
        ),
        (
            FLAT | {"kernels": [[3, 3, 3]] * 3, "neighbours": 1},
            "dice",
            (24, 48, 48),
            "residual_unet.neighbours: expected 0, or 1 along D in all kernels and strides, found 1",
        ),
        (FLAT, "dice", (24, 4, 4), "the deepest stage of network.residual_unet is a single voxel"),
        (FLAT, "dice_label_cross_entropy", (24, 48, 48), "is over labels, found exclusive_regions false"),
        (FLAT | {"exclusive_regions": True}, "dice", (24, 48, 48), "regions that may overlap, found exclusive_regions"),
    ],
    ids=["blocks", "kernels", "neighbours", "single voxel", "labels", "regions"],
)
def test_contradictions_are_refused(options, loss, grid, message) -> None:
    with pytest.raises(StudyError, match=message):
        load(options, loss, grid)


def test_regions_that_share_a_label_do_not_exclude_each_other() -> None:
    regions = [{"name": "whole", "labels": [1, 2]}, {"name": "core", "labels": [2]}]
    options = FLAT | {"exclusive_regions": True}
    with pytest.raises(StudyError, match="exclusive_regions: true, but label 2 is of whole and core; set it to"):
        load(options, "dice_label_cross_entropy", regions=regions)
    load(options, "dice_label_cross_entropy", regions=[{"name": "whole", "labels": [1, 2]}])
