"""Images that carry no geometry of their own: the config's word for where their voxels lie."""

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk


def image_of_array(array: np.ndarray, spacing_mm: Sequence[float]) -> sitk.Image:
    """An image whose axes are the patient's.

    Parameters
    ----------
    array : (D, H, W): feet to head, front to back, the patient's right to left
    spacing_mm : distance between voxel centres (D, H, W)

    Returns
    -------
    LPS, the first voxel at 0
    """
    # SimpleITK has no half precision and no truth values, and wants the machine's own byte order.
    dtype = {"e": np.dtype(np.float32), "?": np.dtype(np.uint8)}.get(array.dtype.char, array.dtype.newbyteorder("="))
    image = sitk.GetImageFromArray(np.ascontiguousarray(array, dtype=dtype))
    image.SetSpacing([float(size) for size in spacing_mm[::-1]])
    return image
