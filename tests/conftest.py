"""What many tests start from, all of it tiny: the default config, volumes, a BIDS folder, shards and a network."""

import copy
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from fedpedbrain.base.cases import Case, Shard, write_cases
from fedpedbrain.base.files import write_table
from fedpedbrain.data.grid.dataset import digest_on_grid
from fedpedbrain.data.grid.frame_table import CaseFrame, Geometry, write_frames
from fedpedbrain.data.grid.ragged import RaggedWriter
from journalled_disk import JournalledDisk

ROOT = Path(__file__).resolve().parents[1]
GRID = (4, 8, 8)


# Fixtures that take long to make: what uses one runs in one process.
SHARED_FIXTURES = ("finished_study", "export")


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many runs ``tests/e2e/test_kills.py`` ends."""
    parser.addoption("--kills", type=int, default=0, help="runs that are killed and resumed")
    parser.addoption("--power-cuts", type=int, default=0, help="runs that a power cut ends, resumed")


def pytest_configure(config: pytest.Config) -> None:
    """Tests run on as many processes as there are cores, so each computes on one."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


# Before the processes share them out by these marks.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares a fixture; what takes longest comes first, so that no core waits for a last one."""
    for item in items:
        for name in set(SHARED_FIXTURES) & set(item.fixturenames):
            item.add_marker(pytest.mark.xdist_group(name))
    items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in ("long", "slow")])


@pytest.fixture
def repository() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture
def make_disk(tmp_path):
    """``make_disk(size)``: the empty folder of a disk so large, as tmpfs(5) writes sizes."""
    folder = tmp_path / "disk"

    def _make(size: str) -> Path:
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting a small disk (tmpfs) is not allowed here: it needs root")
        return folder

    yield _make
    if folder.is_mount():
        # What a failure shows may still hold a file open.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def journalled_disk(tmp_path):
    """A disk whose power can be cut."""
    if os.geteuid() or not shutil.which("mkfs.ext4"):
        pytest.skip("making a disk in a file needs root and mkfs.ext4")
    disk = JournalledDisk(tmp_path / "disk.img", tmp_path / "journalled")
    try:
        disk.mount()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"mounting a disk in a file is not allowed here: {error.stderr}")
    yield disk
    # What a failure shows may still hold a file open.
    subprocess.run(["umount", "--lazy", str(disk.folder)], check=True)
    disk.image.unlink()


@pytest.fixture(scope="session")
def default_config() -> dict:
    """The default config, read once, for ``config``."""
    return yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def config(default_config) -> dict:
    """The default config, fresh for every test."""
    return copy.deepcopy(default_config)


@pytest.fixture
def schema_path() -> Path:
    """The schema of the config."""
    return ROOT / "rules" / "schemas" / "config.schema.yaml"


def _write_volume(path: Path, array: np.ndarray, spacing=(2.0, 2.0, 4.0), origin=(0.0, 0.0, 0.0)) -> Path:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def write_volume():
    """``write_volume(path, array (D, H, W), spacing and origin in SimpleITK's order)``."""
    return _write_volume


class BidsFolder:
    """A BIDS data set that grows case by case: volumes (4, 6, 5) with a bright 2 x 2 x 2 tumour in noise."""

    shape = (4, 6, 5)

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: dict[str, dict[str, str]] = {}

    def image(self, subject: str, session: str = "", suffix: str = "T2w") -> Path:
        """Where an image is."""
        return self.root / subject / session / "anat" / f"{'_'.join(filter(None, [subject, session]))}_{suffix}.nii.gz"

    def mask(self, subject: str, session: str = "") -> Path:
        """Where a mask is."""
        name = f"{'_'.join(filter(None, [subject, session]))}_mask.nii.gz"
        return self.root / "derivatives" / "masks" / subject / session / "anat" / name

    def add(self, subject: str, site: str, diagnosis: str, session: str = "", suffixes=("T2w",)) -> None:
        """Add a case and write participants.tsv anew."""
        mask = np.zeros(self.shape, np.uint8)
        mask[1:3, 2:4, 1:3] = 1
        noise = np.random.default_rng(len(self.rows)).integers(100, 300, self.shape, dtype=np.int16)
        for number, suffix in enumerate(suffixes, start=1):
            _write_volume(self.image(subject, session, suffix), noise * np.int16(number) + mask * np.int16(500))
        _write_volume(self.mask(subject, session), mask)
        self.rows[subject] = {"participant_id": subject, "site": site, "diagnosis": diagnosis}
        self.write_participants()

    def write_participants(self, columns=("participant_id", "site", "diagnosis")) -> None:
        """Write participants.tsv with these columns."""
        rows = [{column: row[column] for column in columns} for row in self.rows.values()]
        write_table(self.root / "participants.tsv", columns, rows)


@pytest.fixture
def bids(tmp_path) -> BidsFolder:
    """Two sites of two participants each."""
    folder = BidsFolder(tmp_path / "bids")
    folder.add("sub-01", "north", "dipg")
    folder.add("sub-02", "north", "normal")
    folder.add("sub-03", "south", "dipg")
    folder.add("sub-04", "south", "normal")
    return folder


@pytest.fixture
def source_settings(bids, config) -> dict:
    """``Study.source_settings`` of a study on the folder ``bids``."""
    cohort = config["cohort"] | {
        "source": "bids",
        "sites": {"training": ["north", "south"], "external": []},
        "classes": ["normal", "dipg"],
    }
    return {"cohort": cohort, "root": str(bids.root), "sites": ["north", "south"], "bids": config["bids"]}


def _make_case(case: str, site="north", split="train", class_name="dipg", patient="") -> Case:
    # One voxel of the grid is 0.5 ml.
    return Case(
        case,
        patient or case,
        site,
        class_name,
        (),
        "",
        GRID,
        (5.0, 10.0, 10.0),
        f"sha-of-{case}",
        split,
        (5.0, 10.0, 10.0),
    )


@pytest.fixture
def make_case():
    """``make_case(name, site, split, class_name, patient)``: a case of GRID voxels, 0.5 ml each."""
    return _make_case


def _write_rows(path: Path, arrays) -> None:
    """One array, or, of a list of arrays of different sizes, one axis."""
    if isinstance(arrays, np.ndarray):
        np.save(path, arrays)
        return
    with RaggedWriter(path, arrays[0].dtype) as writer:
        for array in arrays:
            writer.append(array)


def _frame_of(case: Case) -> CaseFrame:
    """A grid that is the scan."""
    scan = Geometry(
        case.grid_shape[::-1], (0.0, 0.0, 0.0), case.grid_spacing_mm[::-1], tuple(np.eye(3).ravel().tolist())
    )
    return CaseFrame(case.case, scan, scan)


def _write_shard(folder: Path, cases: list[Case], images=None, masks=None) -> Shard:
    if images is None:
        images = np.random.default_rng(len(cases)).integers(0, 256, (len(cases), 1, *GRID), dtype=np.uint8)
    if masks is None:
        masks = (images >= 128).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    _write_rows(folder / "images.npy", images)
    _write_rows(folder / "masks.npy", masks)
    rows = [
        replace(case, grid_shape=image.shape[1:], grid_sha256=(digest_on_grid(image), digest_on_grid(mask)))
        for case, image, mask in zip(cases, images, masks, strict=True)
    ]
    write_cases(folder / "cases.tsv", rows)
    write_frames(folder / "frames.tsv", map(_frame_of, rows))
    return Shard(folder, folder / "cases.tsv")


@pytest.fixture
def write_shard():
    """``write_shard(folder, cases, images, masks)``; without arrays, noise whose bright half is the region.

    Frames say that each grid is its scan.

    Lists of arrays are cases of their own size.
    """
    return _write_shard


@pytest.fixture
def spec() -> dict:
    """``ModelSpec`` of a network of two stages."""
    return {
        "name": "unet",
        "options": {"channels": [4, 6], "strides": [[1, 2, 2], [2, 2, 2]], "pooled_grid": [1, 2, 2], "dropout": 0.0},
        "channels": ["T2w"],
        "regions": ["whole_tumour"],
        "classes": ["normal", "dipg"],
        "preprocessing": {
            "grid": list(GRID),
            "field_of_view": "image",
            "intensity": {"lower_percentile": 1.0, "upper_percentile": 99.5},
        },
    }


@pytest.fixture
def write_constant_model(spec):
    """``write_constant_model(path, regions, class_name)``: a network that sees these everywhere, whatever the image."""
    import torch
    from fedpedbrain.base.lineage import Lineage
    from fedpedbrain.models.files import ModelFile, ModelSpec, save_model_file

    def _write(path: Path, regions=(), class_name="", round_number=1) -> Path:
        model = ModelSpec(**spec).build()
        for parameter in model.parameters():
            parameter.data.zero_()
        if spec["regions"]:
            sure = [9.0 if name in regions else -9.0 for name in spec["regions"]]
            model.segmentation_head.bias.data.copy_(torch.tensor(sure))
        if spec["classes"]:
            model.classifier[-1].bias.data.copy_(torch.tensor([float(name == class_name) for name in spec["classes"]]))
        lineage = Lineage("global", "fedavg", 0, round_number, "", 4, 8, "digest", "parent")
        save_model_file(path, ModelFile(ModelSpec(**spec), lineage, model.state_dict()))
        return path

    return _write
