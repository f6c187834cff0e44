"""What is outlined in a scan survives the way to the grid and back, whatever the scan, the grid and the settings."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from fedpedbrain.data.formats.volumes import Volume
from fedpedbrain.data.grid.frame_table import CaseFrame, Geometry, read_frames, write_frames
from fedpedbrain.data.shards import preprocess_images, preprocess_mask
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

BRATS = Path(__file__).resolve().parents[5] / "shared/data/brats"
# Of the head of a patient who lies straight, and of one whose slices follow the base of the skull.
STRAIGHT = np.eye(3).ravel().tolist()
OBLIQUE = Rotation.from_euler("xyz", (14.0, -9.0, 21.0), degrees=True).as_matrix().ravel().tolist()
# Voxels (D, H, W), spacing (x, y, z) in mm, direction, and the order in which the scanner stored the axes.
SCANS = {
    "axial": ((32, 80, 72), (1.8, 1.8, 3.6), STRAIGHT, "LPS"),
    "oblique": ((20, 96, 88), (1.6, 1.6, 6.9), OBLIQUE, "LPS"),
    "sagittal": ((56, 70, 64), (2.2, 2.2, 2.2), STRAIGHT, "PIR"),
    "anisotropic": ((24, 120, 110), (1.1, 1.1, 5.5), STRAIGHT, "RAS"),
}
REGIONS = [{"name": "whole_tumour", "labels": [1]}]


def ball(mm: np.ndarray) -> np.ndarray:
    return (mm**2).sum(0) < 22.0**2


def sheet(mm: np.ndarray) -> np.ndarray:
    """Half a shell, about 8 mm thick, with a rough surface."""
    rough = gaussian_filter(np.random.default_rng(1).normal(size=mm.shape[1:]), 3)
    return (np.abs(np.sqrt((mm**2).sum(0)) - 22.0) < 4.0 + rough / rough.std()) & (mm[0] > -4.0)


def make_case(scan_name: str, shape_of) -> Volume:
    """A scan with an ellipsoid for a head, and a shape inside it as the mask."""
    size, spacing, direction, orientation = SCANS[scan_name]
    axes = [(np.arange(count) - (count - 1) / 2) * step for count, step in zip(size, spacing[::-1], strict=True)]
    mm = np.stack(np.meshgrid(*axes, indexing="ij"))
    half = 0.4 * np.array(size) * spacing[::-1]
    head = ((mm / half[:, None, None, None]) ** 2).sum(0) < 1.0
    images = []
    for array in (head * np.float32(200.0), shape_of(mm - np.array([7.0, -11.0, 6.0])[:, None, None, None])):
        image = sitk.GetImageFromArray(array.astype(np.float32))
        image.SetSpacing(spacing)
        image.SetOrigin((-31.0, 17.5, 3.25))
        image.SetDirection(direction)
        images.append(sitk.DICOMOrient(image, orientation))
    return Volume((images[0],), sitk.Cast(images[1], sitk.sitkUInt8))


def settings_of(volume: Volume, field_of_view: str, mode: str, config) -> dict:
    """A grid near the scan's resolution."""
    oriented = sitk.DICOMOrient(volume.images[0], "LPS")
    size, spacing = oriented.GetSize()[::-1], oriented.GetSpacing()[::-1]
    grid, voxel_spacing_mm = {
        "fitted": ([round(1.3 * count) for count in size], None),
        "same spacing": ([count - 3 for count in size], list(spacing)),
        "finer spacing": ([round(1.3 * count) for count in size], [0.75 * step for step in spacing]),
    }[mode]
    chosen = {"grid": grid, "field_of_view": field_of_view, "voxel_spacing_mm": voxel_spacing_mm}
    return config["preprocessing"] | chosen


def dice(first: sitk.Image, second: sitk.Image) -> float:
    one, other = (sitk.GetArrayFromImage(image) > 0 for image in (first, second))
    return 2.0 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.parametrize("shape_of", [ball, sheet])
@pytest.mark.parametrize("field_of_view", ["image", "foreground"])
@pytest.mark.parametrize("mode", ["fitted", "same spacing", "finer spacing"])
@pytest.mark.parametrize("scan_name", SCANS)
def test_a_mask_comes_back_as_it_was(tmp_path, config, scan_name, mode, field_of_view, shape_of):
    volume = make_case(scan_name, shape_of)
    _, frame = preprocess_images(volume, settings_of(volume, field_of_view, mode, config))
    (region,) = preprocess_mask(volume.mask, frame, REGIONS)
    # By way of the table: nothing of the scan is at hand.
    path = tmp_path / "frames.tsv"
    write_frames(path, [CaseFrame("sub-01", Geometry.of(frame), Geometry.of(volume.images[0]))])
    restored = read_frames(path)["sub-01"].restore(region.astype(bool))
    for get in ("GetSize", "GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(restored, get)() == getattr(volume.images[0], get)(), get
    assert dice(restored, volume.mask) >= 0.98


def round_trip(volume: Volume, settings: dict) -> float:
    """Dice of a mask and what comes back of it."""
    _, frame = preprocess_images(volume, settings)
    (region,) = preprocess_mask(volume.mask, frame, REGIONS)
    restored = CaseFrame("", Geometry.of(frame), Geometry.of(volume.images[0])).restore(region.astype(bool))
    return dice(restored, volume.mask)


def own_size(volume: Volume, field_of_view: str, factor: float, config) -> dict:
    """A grid of the case's own size, its voxels ``factor`` times as long as the scan's."""
    spacing = [factor * step for step in sitk.DICOMOrient(volume.images[0], "LPS").GetSpacing()[::-1]]
    chosen = {"grid": None, "voxel_spacing_mm": "native" if factor == 1.0 else spacing}
    return config["preprocessing"] | chosen | {"field_of_view": field_of_view}


@pytest.mark.parametrize("shape_of", [ball, sheet])
@pytest.mark.parametrize("field_of_view", ["image", "foreground"])
@pytest.mark.parametrize("scan_name", SCANS)
def test_at_native_spacing_a_mask_comes_back_voxel_by_voxel(config, scan_name, field_of_view, shape_of):
    volume = make_case(scan_name, shape_of)
    assert round_trip(volume, own_size(volume, field_of_view, 1.0, config)) == 1.0


@pytest.mark.parametrize("field_of_view", ["image", "foreground"])
@pytest.mark.parametrize("orientation", ["LPS", "PIR"])
@pytest.mark.parametrize("direction", [STRAIGHT, OBLIQUE], ids=["straight", "oblique"])
def test_at_one_and_a_half_times_the_voxel_a_mask_comes_back(
    config, direction, orientation, field_of_view, monkeypatch
):
    # The ball's radius is 20 voxels: how much is lost depends on the size in voxels.
    monkeypatch.setitem(SCANS, "fine", ((80, 88, 96), (1.1, 1.1, 1.1), direction, orientation))
    volume = make_case("fine", ball)
    assert round_trip(volume, own_size(volume, field_of_view, 1.5, config)) >= 0.97


@pytest.mark.skipif(not BRATS.is_dir(), reason="no real gliomas at ../shared/data/brats")
@pytest.mark.parametrize(("factor", "least"), [(1.0, 0.99), (1.5, 0.97)])
def test_real_tumours_at_full_resolution_come_back_on_average(config, factor, least):
    paths = [path for path in BRATS.glob("*/*seg.nii.gz") if sitk.ReadImage(str(path)).GetSize() == (240, 240, 155)]
    found = []
    for path in paths:
        mask = sitk.Cast(sitk.ReadImage(str(path)) > 0, sitk.sitkUInt8)
        volume = Volume((sitk.ReadImage(str(path).replace("seg", "flair")),), mask)
        found.append(round_trip(volume, own_size(volume, "foreground", factor, config)))
    assert len(found) == 2
    assert np.mean(found) >= least


def test_a_frame_is_read_back_to_the_last_digit(tmp_path):
    volume = make_case("oblique", ball)
    frame = CaseFrame(
        "sub-01",
        Geometry((3, 4, 5), (0.1, 1 / 3, -2e-17), (0.7, 0.1 + 0.2, 3.0), tuple(OBLIQUE)),
        Geometry.of(volume.images[0]),
    )
    write_frames(tmp_path / "frames.tsv", [frame])
    assert read_frames(tmp_path / "frames.tsv") == {"sub-01": frame}
    image = frame.grid.to_image()
    assert Geometry.of(image) == frame.grid
