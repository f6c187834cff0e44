"""Reading scans that were laid out for scores and pictures, as ``ShardDataset`` reads cases on the grid."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from fedpedbrain.base.cases import Case, Shard, read_cases
from fedpedbrain.base.files import read_table
from fedpedbrain.data.grid.dataset import check_digest
from fedpedbrain.data.grid.packed_masks import PackedMasks
from fedpedbrain.data.grid.ragged import RaggedReader

SCAN_IMAGES, SCAN_MASKS, SCAN_TABLE = "scan_images.npy", "scan_masks.npy", "scans.tsv"
# The sizes of a scan's axes from feet to head, front to back and right to left, and digests of what was laid out.
SCAN_COLUMNS = ("case", "shape", "spacing_mm", "num_regions", "image_sha256", "mask_sha256")


class _SiteScans:
    """The scans of one site, by the names of their cases."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rows = read_table(folder / SCAN_TABLE)
        self.rows = {row["case"]: row for row in rows}
        self.row_of = {row["case"]: number for number, row in enumerate(rows)}
        self.shapes = [tuple(map(int, row["shape"].split("x"))) for row in rows]
        self.spacings = [tuple(map(float, row["spacing_mm"].split("x"))) for row in rows]
        self.images = RaggedReader(folder / SCAN_IMAGES, self.shapes)
        regions = [(int(row["num_regions"]),) for row in rows]
        self.masks = PackedMasks(
            folder / SCAN_MASKS, [number + shape for number, shape in zip(regions, self.shapes, strict=True)]
        )


class ScanDataset:
    """The held-out cases of some sites in their scans' own voxels, addressed by one running row.

    Parameters
    ----------
    shards : folder of each site, in which its scans lie beside its shard, and the table of its cases with their splits
    splits : which splits to keep; scans were laid out of held-out cases alone

    Raises
    ------
    StudyError : a scan that is read is not the one that was laid out; its case is named
    """

    def __init__(self, shards: Sequence[Shard], splits: Collection[str]) -> None:
        self.cases: list[Case] = []
        self._places: list[tuple[_SiteScans, int]] = []
        for shard in shards:
            scans = _SiteScans(Path(shard.folder))
            for case in read_cases(shard.cases):
                if case.split in splits:
                    self.cases.append(case)
                    self._places.append((scans, scans.row_of[case.case]))

    def __len__(self) -> int:
        return len(self.cases)

    def image(self, row: int) -> np.ndarray:
        """What is shown of one case: its first channel, uint8 (1, D, H, W)."""
        scans, place = self._places[row]
        image = np.array(scans.images.row(place))
        self._check(row, "image", image, SCAN_IMAGES)
        return image[None]

    def mask(self, row: int) -> np.ndarray:
        """One case's regions as the site outlined them, uint8 (R, D, H, W), 0 or 1."""
        scans, place = self._places[row]
        self._check(row, "mask", scans.masks.packed(place), SCAN_MASKS)
        return scans.masks.row(place)

    def grid_shape(self, row: int) -> tuple[int, ...]:
        """Voxels (D, H, W) of one case's scan."""
        scans, place = self._places[row]
        return scans.shapes[place]

    def spacing_mm(self, row: int) -> tuple[float, ...]:
        """Distance between voxel centres (D, H, W) of one case's scan."""
        scans, place = self._places[row]
        return scans.spacings[place]

    def _check(self, row: int, part: str, array: np.ndarray, file: str) -> None:
        scans, _ = self._places[row]
        case = self.cases[row].case
        path = scans.folder / file
        check_digest(path, case, scans.rows[case][f"{part}_sha256"], array, path)
