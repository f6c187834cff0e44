"""Cases that are one image: exact copies by their voxels, near ones by how their slices look.

The perceptual hash is the one of the discrete cosine transform in Zauner, "Implementation and benchmarking of
perceptual image hash functions" (2010): a picture of 32 x 32 pixels, its 8 x 8 lowest frequencies without the constant
row and column, one bit each for above their median. It bears other intensities, compression and small shifts, not
mirrors. Scans of an organ are alike, so that a hash alone confuses them; a pair has to correlate, too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.fft import dctn

from fedpedbrain.base.cases import HELD_OUT, SPLITS, UNKNOWN_CLASS, Case, Shard
from fedpedbrain.base.files import write_table
from fedpedbrain.data.grid.dataset import ShardDataset
from fedpedbrain.data.grid.intensity import to_grey_levels

EXACT, NEAR = "exact", "near"
_CASE_COLUMNS = ("case", "patient", "site", "split", "class_name")
PAIR_COLUMNS = (
    "kind",
    "bits",
    "correlation",
    "is_leak",
    "classes_differ",
    *(f"{column}_{side}" for side in ("a", "b") for column in _CASE_COLUMNS),
)
PICTURE_PIXELS = 32
_FREQUENCIES = slice(1, 9)
# Where along D a volume's slices are taken from, as parts of it.
_SLICE_PARTS = (0.3, 0.4, 0.5, 0.6, 0.7)
_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Pair:
    """Two cases that are one image, or look like it.

    Attributes
    ----------
    kind : ``exact`` (an image of one is, voxel by voxel, one of the other) or ``near``
    bits : largest number of bits, of 64, in which the hashes of any two corresponding slices differ
    correlation : of all these slices, each 32 x 32 pixels
    a, b : the cases
    """

    kind: str
    bits: int
    correlation: float
    a: Case
    b: Case

    @property
    def is_leak(self) -> bool:
        """Whether a model learns from, or is chosen by, one of them and is tested on the other."""
        return self.a.split != self.b.split and not {self.a.split, self.b.split} <= set(HELD_OUT)

    @property
    def classes_differ(self) -> bool:
        """Whether both have a class, and not the same."""
        return self.a.class_name != self.b.class_name and UNKNOWN_CLASS not in (self.a.class_name, self.b.class_name)

    def to_row(self) -> dict[str, Any]:
        """The pair as a table row."""
        row = {"kind": self.kind, "bits": self.bits, "correlation": f"{self.correlation:.4f}"}
        row |= {name: "yes" if getattr(self, name) else "no" for name in ("is_leak", "classes_differ")}
        for side, case in (("a", self.a), ("b", self.b)):
            row |= {f"{column}_{side}": getattr(case, column) for column in _CASE_COLUMNS}
        return row


def slice_parts(depth: int) -> list[float]:
    """Where along D, as parts of it, slices of volumes of at least ``depth`` slices are compared.

    Five, or fewer where two of them would be one slice of the shallowest volume.
    """
    return list({_place_of(part, depth): part for part in _SLICE_PARTS}.values())


def _place_of(part: float, depth: int) -> int:
    return min(int(part * depth), depth - 1)


def sample_pictures(image: np.ndarray, parts: Sequence[float]) -> np.ndarray:
    """Small pictures of some slices of a case.

    Parameters
    ----------
    image : preprocessed, in grey levels, uint8 (C, D, H, W)
    parts : where along D, see ``slice_parts``

    Returns
    -------
    float32 (P, 32, 32), every channel's slices in turn
    """
    places = [_place_of(part, image.shape[1]) for part in parts]
    size = (PICTURE_PIXELS, PICTURE_PIXELS)
    pictures = [
        Image.fromarray(channel[place]).resize(size, Image.Resampling.BOX) for channel in image for place in places
    ]
    return np.stack([np.asarray(picture, dtype=np.float32) for picture in pictures])


def perceptual_hashes(pictures: np.ndarray) -> np.ndarray:
    """Hash of each picture.

    Parameters
    ----------
    pictures : float32 (P, 32, 32)

    Returns
    -------
    uint64 (P,)
    """
    spectrum = dctn(pictures, axes=(1, 2), norm="ortho")[:, _FREQUENCIES, _FREQUENCIES].reshape(len(pictures), -1)
    bits = spectrum > np.median(spectrum, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


class Looks:
    """What is compared of every case.

    Parameters
    ----------
    pictures : of every case, float32 (N, P, 32, 32)
    """

    def __init__(self, pictures: np.ndarray) -> None:
        self._hashes = np.stack([perceptual_hashes(case) for case in pictures])
        vectors = pictures.reshape(len(pictures), -1)
        vectors = vectors - vectors.mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        # All pictures of a case as one vector of length 1, all 0 where they are blank.
        self._vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)

    def bits(self, row: int, other: int) -> int:
        """Largest distance of the hashes of any two corresponding pictures."""
        return int(np.bitwise_count(self._hashes[row] ^ self._hashes[other]).max())

    def correlation(self, row: int, other: int) -> float:
        """Correlation of all pictures of two cases."""
        return float(self._vectors[row] @ self._vectors[other])

    def near(self, most_bits: int, least_correlation: float) -> Iterator[tuple[int, int]]:
        """Rows of every two cases that look alike, the earlier one first."""
        for start in range(0, len(self._hashes), _ROWS_AT_ONCE):
            block = self._hashes[start : start + _ROWS_AT_ONCE]
            distances = np.zeros((len(block), len(self._hashes)), dtype=np.uint8)
            for mine, others in zip(block.T, self._hashes.T, strict=True):
                np.maximum(distances, np.bitwise_count(mine[:, None] ^ others[None, :]), out=distances)
            for offset, other in np.argwhere(distances <= most_bits).tolist():
                row = start + offset
                if row < other and self.correlation(row, other) >= least_correlation:
                    yield row, other


def _copied_rows(cases: Sequence[Case]) -> set[tuple[int, int]]:
    """Rows of every two cases that share an image, the earlier one first."""
    rows_of: dict[str, list[int]] = {}
    for row, case in enumerate(cases):
        for digest in set(case.voxel_sha256):
            rows_of.setdefault(digest, []).append(row)
    return {pair for rows in rows_of.values() for pair in combinations(rows, 2)}


def find_pairs(cases: Sequence[Case], pictures: np.ndarray, settings: Mapping[str, Any]) -> list[Pair]:
    """All pairs of cases that are one image or look like it: leaks first, then pairs of two classes, then the closest.

    Parameters
    ----------
    cases : preprocessed, with their splits
    pictures : float32 (N, P, 32, 32), of ``sample_pictures``
    settings : ``near_duplicate_bits`` and ``near_duplicate_correlation`` of the ``audit`` block
    """
    looks, copies = Looks(pictures), _copied_rows(cases)
    near = set(looks.near(settings["near_duplicate_bits"], settings["near_duplicate_correlation"]))
    pairs = [
        Pair(
            EXACT if (row, other) in copies else NEAR,
            looks.bits(row, other),
            looks.correlation(row, other),
            cases[row],
            cases[other],
        )
        for row, other in near | copies
    ]
    return sorted(pairs, key=_order)


def _order(pair: Pair) -> tuple:
    is_tested = not {pair.a.split, pair.b.split}.isdisjoint(HELD_OUT)
    is_harmless = (not pair.is_leak, not pair.classes_differ, not is_tested)
    return (*is_harmless, pair.bits, -pair.correlation, pair.a.case, pair.b.case)


def find_duplicates_files(shards: Sequence[Shard], duplicates_path: str | Path, settings: Mapping[str, Any]) -> None:
    """Compare all cases of all sites with each other and write the pairs, one row each.

    Parameters
    ----------
    shards : one per site
    settings : the ``audit`` block of the config
    """
    dataset = ShardDataset(shards, SPLITS)
    rows = range(len(dataset))
    parts = slice_parts(min(dataset.grid_shape(row)[0] for row in rows))
    pictures = np.stack([sample_pictures(to_grey_levels(dataset.image(row)), parts) for row in rows])
    pairs = find_pairs(dataset.cases, pictures, settings)
    write_table(duplicates_path, PAIR_COLUMNS, (pair.to_row() for pair in pairs))
