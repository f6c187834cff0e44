"""Held-out cases in their scans' own voxels: what is predicted gets there, is decided, scored and given out there."""

import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from fedpedbrain.base.cases import HELD_OUT, Shard
from fedpedbrain.base.files import read_table, write_table
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.data.grid.frame_table import CaseFrame, Geometry
from fedpedbrain.data.grid.geometry import to_lps
from fedpedbrain.data.grid.scan_dataset import ScanDataset
from fedpedbrain.data.shards import preprocess_mask
from fedpedbrain.evaluation.case_choice import CHOICE_COLUMNS, choose_cases_files, read_choice
from fedpedbrain.evaluation.case_geometry import read_frames_of
from fedpedbrain.evaluation.explanations import explain_cases_files
from fedpedbrain.evaluation.mask_pair import MaskPair
from fedpedbrain.evaluation.predictions import decide_in, predict_cases_files
from fedpedbrain.evaluation.restoration import restore_labels, restore_predictions_files
from fedpedbrain.evaluation.scan_geometry import ScanGeometry
from fedpedbrain.evaluation.scores import region_scores, score_predictions_files
from fedpedbrain.models.components import ComponentFilter
from fedpedbrain.models.prediction import PredictionPlan
from predicted_masks import read_masks, write_masks
from scanned_heads import MADE_SCANS
from simpleitk_metrics import measure_region

BRATS = Path(__file__).resolve().parents[4] / "shared/data/brats"
SETTINGS = {"surface_tolerance_mm": 2.0, "lesion_overlap": 0.3}
METRICS_OF_BOTH = ("dice", "dice_on_grid")
DECISION = {"threshold": 0.5, "smallest_region_ml": 0.0}
GEOMETRY, CPU, ALONE = ScanGeometry(), torch.device("cpu"), PredictionPlan()


def straight(size, origin, spacing) -> Geometry:
    """A geometry whose axes (x, y, z) are the patient's."""
    return Geometry(size, origin, spacing, tuple(np.eye(3).ravel()))


def test_probabilities_are_interpolated_linearly_at_the_scans_voxels():
    # Along x, the grid lies from -2 to 10 mm in voxels of 4 mm; the scan's voxels of 1 mm lie from -5 mm on.
    scan, grid = (
        straight((20, 1, 1), (-5.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        straight((3, 1, 1), (0.0,) * 3, (4.0, 1.0, 1.0)),
    )
    (found,) = GEOMETRY.lay(CaseFrame("a", grid, scan), [np.array([[[0.0, 1.0, 0.5]]], np.float32)])
    assert found.shape == (1, 1, 20)
    # Up to the outer face the last voxel counts, beyond it nothing.
    rising, falling = [0.0, 0.0, 0.25, 0.5, 0.75, 1.0], [0.875, 0.75, 0.625, 0.5, 0.5]
    assert found[0, 0, 4:15].tolist() == pytest.approx([*rising, *falling])
    assert not found[0, 0, [0, 1, 2, 16, 17, 18, 19]].any()


def test_a_region_is_decided_by_the_volume_of_the_scans_voxels():
    # The grid has one voxel of 8 ml, of which the scan has 8 of 1 ml.
    frame = CaseFrame("a", straight((1, 1, 1), (0.0,) * 3, (20.0,) * 3), straight((2, 2, 2), (-5.0,) * 3, (10.0,) * 3))
    assert GEOMETRY.voxel_ml(frame) == 1.0
    probabilities = np.full((1, 1, 1, 1), 0.6, np.float32)
    for smallest_ml, is_kept in ((8.0, True), (8.1, False)):
        filters = [ComponentFilter(smallest_component_ml=smallest_ml)]
        regions = decide_in(GEOMETRY, frame, probabilities, filters, DECISION)
        assert (regions.shape, regions.all()) == ((1, 2, 2, 2), is_kept)


@pytest.mark.parametrize("name", MADE_SCANS)
def test_regions_are_given_out_as_the_scan_is_stored(name):
    scan = MADE_SCANS[name]
    labels, stored = scan.labels(0), scan.stored(scan.labels(0))
    frame = CaseFrame("a", Geometry.of(stored), Geometry.of(stored))
    assert GEOMETRY.shape(frame) == scan.size
    given_out = restore_labels(np.stack([labels > 0, labels == 2]).astype(np.uint8), frame, GEOMETRY)
    assert Geometry.of(given_out) == Geometry.of(stored)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(given_out), sitk.GetArrayFromImage(stored))


def misplaced(masks: np.ndarray) -> np.ndarray:
    """Regions that were found beside where they are, with holes; the core stays inside the whole."""
    found = np.roll(masks, (1, -2, 1), (1, 2, 3))
    found[:, :, ::5] = 0
    return found


def score(folder: Path, shard: Shard, masks) -> dict[tuple[str, str, str], float]:
    """Score masks in their scans and give them out to ``scans``; returns case, region and metric to value."""
    write_masks(folder / "masks.npy", masks)
    write_table(folder / "probabilities.tsv", ["case", "class", "probability"], [])
    inputs = ({"scan": folder / "masks.npy"}, folder / "probabilities.tsv", [shard])
    score_predictions_files(*inputs, folder / "scores.tsv", "fedavg", 0, ["whole", "core"], SETTINGS)
    restore_predictions_files(folder / "masks.npy", [shard], folder / "scans", "scan", 2)
    rows = read_table(folder / "scores.tsv")
    return {(row["case"], row["target"], row["metric"]): float(row["value"]) for row in rows}


def measure(prediction_path: Path, truth_path: Path, core: int) -> dict[tuple[str, str], float]:
    """Region and metric to value, measured with SimpleITK on two images of labels as they are stored."""
    predicted, truth = (sitk.ReadImage(str(path)) for path in (prediction_path, truth_path))
    found, drawn = map(sitk.GetArrayFromImage, (predicted, truth))
    pairs = {"whole": (found > 0, drawn > 0), "core": (found == 2, drawn == core)}
    return {
        (region, metric): value
        for region, masks in pairs.items()
        for metric, value in measure_region(*masks, truth.GetSpacing()[::-1], **SETTINGS).items()
    }


def test_scores_are_those_of_an_independent_implementation_on_the_images_as_stored(scanned_site, bids, tmp_path):
    dataset = ScanDataset([scanned_site], HELD_OUT)
    masks = [misplaced(dataset.mask(row)) for row in range(len(dataset))]
    # Of one case the core is not found.
    masks[0][1] = 0
    found = score(tmp_path, scanned_site, masks)
    for case in dataset.cases:
        expected = measure(tmp_path / "scans" / f"{case.case}.nii.gz", bids.mask(case.case), 2)
        for (region, metric), value in expected.items():
            key = (case.case, region, metric)
            assert found[key] == pytest.approx(value, rel=1e-6, abs=1e-6, nan_ok=True), key


@pytest.mark.skipif(not BRATS.is_dir(), reason="no real gliomas at ../shared/data/brats")
def test_scores_of_real_tumours_are_those_of_an_independent_implementation(tmp_path):
    path = sorted(BRATS.glob("BraTS2021*/*seg.nii.gz"))[0]
    regions = [{"name": "whole", "labels": [1, 2, 4]}, {"name": "core", "labels": [4]}]
    truth = sitk.ReadImage(str(path))
    frame = CaseFrame("a", Geometry.of(truth), Geometry.of(truth))
    masks = preprocess_mask(truth, to_lps(truth), regions)
    found = misplaced(masks)
    sitk.WriteImage(restore_labels(found, frame, GEOMETRY), str(tmp_path / "found.nii.gz"))
    expected = measure(tmp_path / "found.nii.gz", path, 4)
    for region, *pair in zip(("whole", "core"), found.astype(bool), masks.astype(bool), strict=True):
        spacing_mm = to_lps(truth).GetSpacing()[::-1]
        for metric, value, _ in region_scores(MaskPair(*pair, spacing_mm, **SETTINGS)):
            assert value == pytest.approx(expected[region, metric], rel=1e-6, abs=1e-6), (region, metric)


def test_both_geometries_are_scored_where_both_are_asked_for(scanned_site, tmp_path):
    scans, grids = ScanDataset([scanned_site], HELD_OUT), ShardDataset([scanned_site], HELD_OUT)
    write_masks(tmp_path / "scan.npy", map(scans.mask, range(len(scans))))
    empty = np.zeros_like(grids.mask(0))
    write_masks(tmp_path / "grid.npy", [empty, *map(grids.mask, range(1, len(grids)))])
    write_table(tmp_path / "probabilities.tsv", ["case", "class", "probability"], [])
    paths = {"scan": tmp_path / "scan.npy", "grid": tmp_path / "grid.npy"}
    files = (paths, tmp_path / "probabilities.tsv", [scanned_site], tmp_path / "scores.tsv")
    score_predictions_files(*files, "fedavg", 0, ["whole", "core"], SETTINGS)
    rows = read_table(tmp_path / "scores.tsv")
    values = {metric: [float(row["value"]) for row in rows if row["metric"] == metric] for metric in METRICS_OF_BOTH}
    assert values == {"dice": [1.0] * 6, "dice_on_grid": [0.0, 0.0, 1.0, 1.0, 1.0, 1.0]}
    # Of the truth's volumes, those in the scan.
    (true_ml,) = (
        float(row["value"])
        for row in rows
        if (row["case"], row["target"], row["metric"]) == (scans.cases[0].case, "whole", "true_volume_ml")
    )
    assert true_ml == pytest.approx(scans.mask(0)[0].sum() * math.prod(scans.spacing_mm(0)) / 1000.0)


@pytest.fixture
def predict(scanned_site, tmp_path, spec, write_constant_model):
    """Predict the made scans with a network that sees the whole region everywhere; returns masks by geometry."""
    spec["regions"], spec["preprocessing"] = ["whole", "core"], spec["preprocessing"] | {"grid": [10, 20, 20]}
    model = write_constant_model(tmp_path / "best.pth", regions=["whole"], class_name="dipg")
    paths = {name: tmp_path / f"{name}.npy" for name in ("scan", "grid")}
    datasets = {"scan": ScanDataset([scanned_site], HELD_OUT), "grid": ShardDataset([scanned_site], HELD_OUT)}

    def _predict(decision=DECISION) -> dict[str, list[np.ndarray]]:
        files = ([model], {}, [scanned_site], paths, tmp_path / "probabilities.tsv")
        predict_cases_files(*files, decision, {}, CPU, ALONE, None, {})
        return {
            name: read_masks(paths[name], [(2, *dataset.grid_shape(row)) for row in range(len(dataset))])
            for name, dataset in datasets.items()
        }

    return _predict


def test_what_a_network_sees_on_its_grid_is_predicted_in_the_scan_and_nothing_beyond_it(predict, scanned_site):
    masks, frames = predict(), read_frames_of([scanned_site])
    for case, in_scan, on_grid in zip(ScanDataset([scanned_site], HELD_OUT).cases, *masks.values(), strict=True):
        assert (on_grid[0].all(), on_grid[1].any(), in_scan[1].any()) == (True, False, False)
        frame = frames[case.case]
        grid_ml, scan_ml = (math.prod(part.spacing) / 1000.0 for part in (frame.grid, frame.scan))
        # The grid covers the head, which lies in the middle of the scan.
        assert in_scan[0].sum() * scan_ml == pytest.approx(on_grid[0].sum() * grid_ml, rel=0.05)
        assert not in_scan[0, :, 0, 0].any()


def test_a_region_below_the_smallest_volume_is_left_out_in_the_scan(predict):
    assert not any(
        regions.any() for masks in predict(DECISION | {"smallest_region_ml": 1e6}).values() for regions in masks
    )


def test_the_slice_that_stands_for_a_case_is_one_of_its_scan(scanned_site, tmp_path):
    dataset = ScanDataset([scanned_site], HELD_OUT)
    rows = [
        {"case": case.case, "class": "dipg", "split": "test", "target": "whole", "metric": metric, "value": "1.0"}
        for case in dataset.cases
        for metric in ("dice", "true_volume_ml")
    ]
    write_table(tmp_path / "scores.tsv", tuple(rows[0]), rows)
    choose_cases_files(tmp_path / "scores.tsv", [scanned_site], tmp_path / "cases.tsv", ["dipg"], 3, "scan")
    chosen = {case.case: case.slice_index for case in read_choice(tmp_path / "cases.tsv")}
    areas = [dataset.mask(row).sum((0, 2, 3)) for row in range(len(dataset))]
    assert chosen == {case.case: int(np.argmax(area)) for case, area in zip(dataset.cases, areas, strict=True)}


def test_a_case_is_explained_on_a_slice_of_its_scan(predict, scanned_site, tmp_path):
    masks, dataset = predict(), ScanDataset([scanned_site], HELD_OUT)
    facts = {"class_name": "dipg", "split": "test", "place": "only", "rank": 1, "num_cases": 1, "slice_index": 7}
    write_table(tmp_path / "cases.tsv", CHOICE_COLUMNS, [facts | {"case": case.case} for case in dataset.cases])
    files = ([tmp_path / "best.pth"], {}, [scanned_site], tmp_path / "cases.tsv", tmp_path / "found.npz")
    explain_cases_files(*files, CPU, ALONE, "scan")
    with np.load(tmp_path / "found.npz") as found:
        for row in range(len(dataset)):
            regions = found[f"regions_{row}"]
            assert regions.shape == (2, *dataset.grid_shape(row)[1:])
            np.testing.assert_array_equal(regions[0] >= 0.5, masks["scan"][row][0, 7] == 1)
            assert found[f"saliency_{row}"].shape == (1, *dataset.grid_shape(row)[1:])
