import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from fedpedbrain.data.grid.dataset import middle_part
from fedpedbrain.data.grid.geometry import (
    cut_to_outline,
    grid_frame,
    inside_frame,
    resample_image,
    resample_region,
    restore_probabilities,
    restore_region,
)
from scipy.spatial.transform import Rotation

ORIENTATIONS = [
    "".join(letters) for order in itertools.permutations(("LR", "PA", "SI")) for letters in itertools.product(*order)
]
TILTED = Rotation.from_euler("xyz", [12.0, -7.0, 20.0], degrees=True).as_matrix().ravel().tolist()


def to_image(array: np.ndarray, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0), direction=None) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(direction)
    return image


def ball(shape: tuple[int, int, int], spacing: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    """A ball around the middle of a volume, bool (D, H, W); ``spacing`` in SimpleITK's order."""
    axes = [(np.arange(size) - (size - 1) / 2) * step for size, step in zip(shape, spacing[::-1], strict=True)]
    return sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")) <= radius_mm**2


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_an_image_of_any_axis_order_and_flip_lands_at_the_same_array_place(orientation):
    array = np.zeros((4, 6, 8), np.float32)
    array[3, 1, 2] = 100.0
    stored = sitk.DICOMOrient(to_image(array, (2.0, 3.0, 5.0), (-9.0, 4.0, 7.0)), orientation)
    found = resample_image(stored, grid_frame(stored, (4, 6, 8), "image"))
    np.testing.assert_allclose(found, array, atol=1e-3)


def test_array_axes_run_from_feet_to_head_front_to_back_and_right_to_left():
    image = to_image(np.zeros((4, 6, 8), np.float32))
    # LPS coordinates: x grows to the left, y to the back, z to the head.
    image[image.TransformPhysicalPointToIndex((7.0, 0.0, 3.0))] = 100.0
    stored = sitk.DICOMOrient(image, "ASR")
    found = resample_image(stored, grid_frame(stored, (4, 6, 8), "image"))
    assert np.unravel_index(found.argmax(), found.shape) == (3, 0, 7)


@pytest.mark.parametrize("direction", [None, TILTED], ids=["straight", "oblique"])
def test_the_frame_divides_the_field_of_view(direction):
    image = to_image(np.zeros((10, 20, 30), np.float32), (1.0, 2.0, 4.0), (5.0, 6.0, 7.0), direction)
    frame = grid_frame(image, (5, 10, 10), "image")
    assert frame.GetSize() == (10, 10, 5)
    assert frame.GetSpacing() == pytest.approx((3.0, 4.0, 8.0))
    for corner in itertools.product((0, 1), repeat=3):
        in_image = [-0.5 + end * size for end, size in zip(corner, image.GetSize(), strict=True)]
        in_frame = [-0.5 + end * size for end, size in zip(corner, frame.GetSize(), strict=True)]
        expected = image.TransformContinuousIndexToPhysicalPoint(in_image)
        assert frame.TransformContinuousIndexToPhysicalPoint(in_frame) == pytest.approx(expected)


@pytest.mark.parametrize("grid", [(2, 4, 4), (6, 8, 10), (12, 20, 20)], ids=["coarser", "equal", "finer"])
@pytest.mark.parametrize("direction", [None, TILTED], ids=["straight", "oblique"])
def test_a_constant_image_stays_constant(grid, direction):
    image = to_image(np.full((6, 8, 10), 7.0, np.float32), (1.3, 0.7, 4.1), (-3.0, 2.0, 9.0), direction)
    found = resample_image(image, grid_frame(image, grid, "image"))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.full(grid, 7.0), rtol=1e-5)


def test_halving_a_ramp_takes_the_means_of_neighbours():
    array = np.broadcast_to(np.arange(16, dtype=np.float32), (2, 2, 16)).copy()
    found = resample_image(to_image(array), grid_frame(to_image(array), (2, 2, 8), "image"))
    # The blur changes a ramp at its ends alone.
    np.testing.assert_allclose(found[0, 0, 2:-2], np.arange(0.5, 16, 2)[2:-2], rtol=1e-4)


def test_thin_stripes_average_out_rather_than_alias():
    array = np.zeros((2, 2, 64), np.float32)
    array[..., ::2] = 100.0
    found = resample_image(to_image(array), grid_frame(to_image(array), (2, 2, 8), "image"))
    np.testing.assert_allclose(found[0, 0, 1:-1], 50.0, atol=5.0)


def test_a_region_covers_the_voxels_that_it_fills_by_half():
    array = np.zeros((2, 4, 8), np.uint8)
    array[:, :, 4:] = 1
    found = resample_region(to_image(array), grid_frame(to_image(array), (2, 2, 4), "image"))
    assert found.dtype == bool
    np.testing.assert_array_equal(found, np.broadcast_to([False, False, True, True], (2, 2, 4)))


@pytest.mark.parametrize("direction", [None, TILTED], ids=["straight", "oblique"])
@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR", "SLA"])
@pytest.mark.parametrize("grid", [(12, 24, 24), (24, 48, 48)], ids=["coarser", "finer"])
def test_a_region_survives_the_way_to_the_grid_and_back(direction, orientation, grid):
    spacing = (2.0, 2.0, 4.0)
    truth = to_image(ball((18, 36, 36), spacing, 18.0).astype(np.uint8), spacing, (-30.0, 11.0, 5.0), direction)
    scan = sitk.DICOMOrient(truth, orientation)
    frame = grid_frame(scan, grid, "image")
    restored = restore_region(resample_region(scan, frame), frame, scan)
    for found, expected in (
        (restored.GetSize(), scan.GetSize()),
        (restored.GetSpacing(), scan.GetSpacing()),
        (restored.GetOrigin(), scan.GetOrigin()),
        (restored.GetDirection(), scan.GetDirection()),
    ):
        assert found == expected
    assert restored.GetPixelID() == sitk.sitkUInt8
    labels = sitk.GetArrayFromImage(restored)
    assert set(np.unique(labels)) == {0, 1}
    assert dice(labels > 0, sitk.GetArrayFromImage(scan) > 0) >= 0.9


def test_a_region_that_fills_the_grid_fills_the_scan():
    scan = to_image(np.zeros((5, 7, 9), np.float32), (1.1, 1.3, 3.0), (1.0, 2.0, 3.0), TILTED)
    frame = grid_frame(scan, (3, 4, 4), "image")
    assert sitk.GetArrayFromImage(restore_region(np.ones((3, 4, 4), bool), frame, scan)).all()


def test_no_region_stays_no_region():
    scan = to_image(np.zeros((5, 7, 9), np.float32), (1.1, 1.3, 3.0))
    frame = grid_frame(scan, (3, 4, 4), "image")
    assert not sitk.GetArrayFromImage(restore_region(np.zeros((3, 4, 4), bool), frame, scan)).any()


def test_the_head_box_leaves_air_out_and_maps_back():
    array = np.zeros((10, 20, 20), np.float32)
    array[2:8, 5:17, 3:15] = 100.0
    scan = to_image(array)
    frame = grid_frame(scan, (6, 12, 12), "foreground")
    assert frame.GetSpacing() == pytest.approx(scan.GetSpacing())
    assert resample_image(scan, frame).min() == pytest.approx(100.0, rel=1e-4)
    restored = restore_region(np.ones((6, 12, 12), bool), frame, scan)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(restored), array > 0)


def test_a_blank_image_keeps_its_whole_field_of_view():
    scan = to_image(np.zeros((4, 6, 8), np.float32))
    assert grid_frame(scan, (4, 6, 8), "foreground").GetOrigin() == pytest.approx(scan.GetOrigin())


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR", "SLA"])
def test_the_head_box_is_the_same_in_every_orientation(orientation):
    array = np.zeros((10, 20, 20), np.float32)
    array[1:9, 4:16, 7:17] = np.arange(400.0, 1400.0, 100.0)
    scan = sitk.DICOMOrient(to_image(array, (1.0, 2.0, 3.0), (5.0, -6.0, 7.0), TILTED), orientation)
    found = resample_image(scan, grid_frame(scan, (8, 12, 10), "foreground"))
    np.testing.assert_allclose(found, array[1:9, 4:16, 7:17], rtol=1e-3)


def test_a_few_bright_voxels_in_the_air_are_not_the_head():
    array = np.zeros((10, 20, 20), np.float32)
    array[2:8, 5:17, 3:15] = 100.0
    array[0, 0, :3] = 100.0
    scan = to_image(array)
    assert grid_frame(scan, (6, 12, 12), "foreground").GetOrigin() == pytest.approx((3.0, 5.0, 2.0))


def test_a_head_in_negative_air_is_found():
    array = np.full((10, 20, 20), -1000.0, np.float32)
    array[2:8, 5:17, 3:15] = 40.0
    frame = grid_frame(to_image(array), (6, 12, 12), "foreground")
    assert frame.GetOrigin() == pytest.approx((3.0, 5.0, 2.0))
    assert frame.GetSpacing() == pytest.approx((1.0, 1.0, 1.0))


def test_a_head_that_fills_the_image_keeps_all_of_it():
    scan = to_image(np.full((4, 6, 8), 50.0, np.float32))
    assert grid_frame(scan, (4, 6, 8), "foreground").GetOrigin() == grid_frame(scan, (4, 6, 8), "image").GetOrigin()


# Grids of a given spacing.


def headed(shape=(10, 20, 20), spacing=(1.0, 2.0, 4.0), direction=None) -> sitk.Image:
    """A scan whose head lies in the voxels 2 to 7, 5 to 16 and 3 to 14."""
    array = np.zeros(shape, np.float32)
    array[2:8, 5:17, 3:15] = np.arange(100.0, 112.0)
    return to_image(array, spacing, (5.0, -6.0, 7.0), direction)


def centre_of(frame: sitk.Image) -> tuple[float, ...]:
    return frame.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in frame.GetSize()])


@pytest.mark.parametrize("direction", [None, TILTED], ids=["straight", "oblique"])
@pytest.mark.parametrize("grid", [(4, 8, 8), (6, 12, 12), (8, 16, 14)], ids=["smaller", "equal", "larger"])
def test_a_grid_of_given_spacing_lies_over_the_middle_of_the_head(grid, direction):
    scan = headed(direction=direction)
    frame = grid_frame(scan, grid, "foreground", (4.0, 2.0, 1.0))
    assert frame.GetSpacing() == (1.0, 2.0, 4.0)
    assert frame.GetSize() == grid[::-1]
    assert centre_of(frame) == pytest.approx(scan.TransformContinuousIndexToPhysicalPoint((8.5, 10.5, 4.5)))


def test_a_grid_of_the_scans_own_spacing_holds_its_voxels_as_they_are():
    scan = headed(direction=TILTED)
    # 5 and 11 voxels cannot lie over the middle of 6 and 12 without cutting through voxels.
    found = resample_image(scan, grid_frame(scan, (5, 11, 11), "foreground", (4.0, 2.0, 1.0)))
    assert set(np.unique(found.round(3))) <= set(range(100, 112))


def test_what_a_grid_of_given_spacing_has_beyond_the_scan_is_air():
    scan = headed() - 1000.0
    found = resample_image(scan, grid_frame(scan, (12, 24, 24), "image", (4.0, 2.0, 1.0)))
    assert set(found[0].ravel()) == set(found[..., -1].ravel()) == {-1000.0}
    assert found.max() > -900.0


@pytest.mark.parametrize("spacing", [(4.0, 2.0, 1.0), (3.1, 1.7, 0.9)])
@pytest.mark.parametrize("grid", [(3, 5, 4), (6, 12, 12), (9, 30, 30)])
def test_the_whole_frame_holds_the_head_and_the_grid_is_its_middle(grid, spacing):
    scan = headed(direction=TILTED)
    frame, whole = (grid_frame(scan, grid, "foreground", spacing, whole) for whole in (False, True))
    assert (sitk.GetArrayFromImage(inside_frame(whole, scan))[2:8, 5:17, 3:15] == 1).all()
    middle = middle_part(whole.GetSize()[::-1], grid)
    first = whole.TransformIndexToPhysicalPoint([part.start for part in middle[::-1]])
    assert first == pytest.approx(frame.GetOrigin())
    assert whole.GetSpacing() == frame.GetSpacing()
    # No more than it takes: with two voxels less along any axis some of the head would be outside.
    box = np.array([6 * 4.0, 12 * 2.0, 12 * 1.0])
    grown = np.array(whole.GetSize()[::-1]) > grid
    assert (np.array(whole.GetSize()[::-1]) * spacing - box < 2 * np.array(spacing) + (4.0, 2.0, 1.0))[grown].all()


def test_a_grid_that_divides_the_field_of_view_is_the_whole_of_it():
    scan = headed()
    frame, whole = (grid_frame(scan, (3, 6, 6), "foreground", whole=whole) for whole in (False, True))
    assert (whole.GetSize(), whole.GetOrigin()) == (frame.GetSize(), frame.GetOrigin())


def test_only_the_outlined_part_of_a_mask_is_looked_at():
    labels = np.zeros((6, 8, 10), np.uint8)
    labels[2:4, 3, 5:9] = 3
    part = cut_to_outline(to_image(labels, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)), (2, 1, 0))
    assert part.GetSize() == (7, 3, 2)
    # Voxel (3, 2, 2): two before the outline along the first axis, one along the second, none along the third.
    assert part.GetOrigin() == (7.0, 9.0, 12.0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(part), labels[2:4, 2:5, 3:10])
    assert cut_to_outline(to_image(np.zeros((2, 2, 2), np.uint8))) is None


@pytest.mark.parametrize("grid", [(3, 5, 6), (12, 20, 24)], ids=["coarser", "finer"])
@pytest.mark.parametrize("direction", [None, TILTED], ids=["straight", "oblique"])
def test_a_region_is_sampled_as_the_image_of_it_would_be(grid, direction):
    labels = np.zeros((9, 20, 24), np.uint8)
    labels[3:8, 9:20, 0:7] = np.random.default_rng(0).random((5, 11, 7)) < 0.8
    region = to_image(labels, (1.1, 1.3, 2.9), (3.0, 2.0, 1.0), direction)
    frame = grid_frame(region, grid, "image")
    found = resample_region(region, frame)
    np.testing.assert_array_equal(found, resample_image(sitk.Cast(region, sitk.sitkFloat32), frame) >= 0.5)
    assert found.any()


@pytest.mark.parametrize("direction", [None, TILTED])
def test_an_image_on_the_grid_itself_is_taken_as_it_is_and_as_resampling_would_give_it(direction):
    values = np.random.default_rng(0).integers(0, 200, (5, 7, 6)).astype(np.uint8)
    image = to_image(values, spacing=(0.9, 0.9, 2.5), origin=(-70.0, 30.0, 11.0), direction=direction)
    frame = grid_frame(image, values.shape, "image")
    resampled = sitk.GetArrayFromImage(sitk.Resample(sitk.Cast(image, sitk.sitkFloat32), frame, sitk.Transform()))
    taken = resample_image(image, frame)
    assert taken.dtype == np.float32
    assert np.array_equal(taken, values)
    np.testing.assert_allclose(resampled, taken, atol=1e-3)
    assert np.array_equal(resample_region(sitk.Cast(image > 99, sitk.sitkUInt8), frame), values > 99)


def test_a_grid_half_a_voxel_away_is_resampled():
    values = np.zeros((4, 4, 4), np.uint8)
    values[2, 2, 2] = 100
    image = to_image(values)
    frame = grid_frame(image, values.shape, "image")
    frame.SetOrigin(frame.TransformContinuousIndexToPhysicalPoint((0.5, 0.0, 0.0)))
    assert resample_image(image, frame)[2, 2, 1:3].tolist() == [50.0, 50.0]


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR"])
def test_without_a_grid_native_voxels_are_cut_out_of_the_scan(orientation):
    array = np.random.default_rng(0).uniform(0.0, 2.0, (12, 20, 16)).astype(np.float32)
    array[3:9, 4:18, 2:11] += 100.0
    scan = to_image(array, (0.7, 0.9, 3.1), (-31.0, 17.5, 3.25), TILTED)
    stored = sitk.DICOMOrient(scan, orientation)
    frame = grid_frame(stored, None, "foreground", "native")
    np.testing.assert_array_equal(resample_image(stored, frame), array[3:9, 4:18, 2:11])
    region = sitk.Cast(stored > 50.0, sitk.sitkUInt8)
    assert resample_region(region, frame).all()
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(restore_region(np.ones((6, 14, 9), bool), frame, stored)),
        sitk.GetArrayFromImage(region),
    )


def test_a_fixed_grid_of_native_voxels_is_cut_and_filled_up_with_air():
    array = np.random.default_rng(0).uniform(10.0, 20.0, (6, 8, 5)).astype(np.float32)
    found = resample_image(to_image(array), grid_frame(to_image(array), (8, 4, 5), "image", "native"))
    expected = np.zeros((8, 4, 5), np.float32)
    expected[1:7] = array[:, 2:6]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("spacing", "size"),
    [
        ((2.0, 2.0, 2.0), (3, 4, 3)),
        # A spacing written with fewer digits than the scan's needs no voxel more.
        ((0.9999, 0.9999, 0.9999), (6, 8, 5)),
        ((50.0, 50.0, 50.0), (1, 1, 1)),
    ],
)
def test_without_a_grid_the_fewest_voxels_hold_the_field_of_view(spacing, size):
    frame = grid_frame(to_image(np.ones((6, 8, 5), np.float32)), None, "image", spacing)
    assert frame.GetSize()[::-1] == size
    # The field of view, from -0.5 to 7.5 along H, lies in the middle.
    first, last = frame.GetOrigin()[1], frame.TransformIndexToPhysicalPoint([edge - 1 for edge in frame.GetSize()])[1]
    assert first + last == pytest.approx(7.0)


def test_a_frame_beside_the_image_holds_nothing_of_it():
    image = to_image(np.ones((4, 4, 4), np.float32))
    frame = grid_frame(image, None, "image", "native")
    for shift in (-9.0, 9.0):
        frame.SetOrigin((shift, 0.0, 0.0))
        assert not resample_image(image, frame).any()


def test_probabilities_are_interpolated_between_the_grids_voxels_and_are_0_beyond():
    scan = sitk.Image(8, 4, 4, sitk.sitkUInt8)
    frame = sitk.Image(2, 4, 4, sitk.sitkUInt8)
    # Two voxels along x, each two of the scan's long, over the scan's voxels 2 to 5.
    frame.SetSpacing((2.0, 1.0, 1.0))
    frame.SetOrigin((2.5, 0.0, 0.0))
    probabilities = np.zeros((4, 4, 2), np.float32)
    probabilities[..., 1] = 1.0
    found = sitk.GetArrayFromImage(restore_probabilities(probabilities, frame, scan))
    np.testing.assert_allclose(found[1, 2], [0.0, 0.0, 0.0, 0.25, 0.75, 1.0, 0.0, 0.0], atol=1e-6)
