"""Where one grid lies in a larger one; apart from the geometry, so that predicting a shard loads no image library."""

from collections.abc import Sequence


def middle_part(size: Sequence[int], part: Sequence[int]) -> tuple[slice, ...]:
    """Where the middle ``part`` voxels of ``size`` lie along each axis."""
    starts = ((outer - inner) // 2 for outer, inner in zip(size, part, strict=True))
    return tuple(slice(start, start + inner) for start, inner in zip(starts, part, strict=True))
