import numpy as np
import pytest
import SimpleITK as sitk
from fedpedbrain.data.grid.orientation import describe_orientation, tilt_degrees

THICK = (1.0, 1.0, 5.0)
AS_THE_BODY = np.eye(3)


def image(direction=AS_THE_BODY, spacing=THICK) -> sitk.Image:
    volume = sitk.Image(4, 4, 4, sitk.sitkUInt8)
    volume.SetDirection(np.asarray(direction, float).ravel().tolist())
    volume.SetSpacing(spacing)
    return volume


def columns(*axes) -> np.ndarray:
    return np.array(axes, float).T


def turned(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    return np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])


@pytest.mark.parametrize(
    ("direction", "words"),
    [
        (AS_THE_BODY, "axial LPS"),
        (columns((-1, 0, 0), (0, -1, 0), (0, 0, 1)), "axial RAS"),
        (columns((1, 0, 0), (0, 0, -1), (0, 1, 0)), "coronal LIP"),
        (columns((0, 1, 0), (0, 0, -1), (-1, 0, 0)), "sagittal PIR"),
        (turned(4.0), "axial LPS"),
        (turned(20.0), "oblique axial LPS"),
    ],
)
def test_the_plane_is_that_of_the_slices(direction, words):
    assert describe_orientation(image(direction)) == words


def test_slices_are_stacked_along_the_thickest_axis_whichever_it_is():
    assert describe_orientation(image(spacing=(5.0, 1.0, 1.0))) == "sagittal LPS"
    assert describe_orientation(image(spacing=(1.0, 5.0, 1.0))) == "coronal LPS"


def test_voxels_alike_on_all_sides_are_stacked_along_the_third_axis():
    assert describe_orientation(image(spacing=(1.0, 1.02, 1.0))) == "axial LPS"


@pytest.mark.parametrize("degrees", [0.0, 8.0, 30.0, 44.0])
def test_tilt_is_the_angle_to_the_nearest_axis(degrees):
    assert tilt_degrees(image(turned(degrees))) == pytest.approx(degrees, abs=1e-6)
    assert tilt_degrees(image(turned(degrees + 90.0))) == pytest.approx(degrees, abs=1e-6)
