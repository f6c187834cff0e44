"""Converting DICOM by its target: a data set that is gone is made again, what went wrong leaves the last table."""

import shutil

import pytest
from dicom_files import sample_image, write_series
from workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def convert(workspace):
    folders = ["dicom_root=dicom", "bids_root=bids", "conversion={site: north, key_file: key.tsv}"]
    return workspace.snakemake("--cores", "1", "convert_to_bids", "--config", *folders)


@pytest.mark.slow
def test_a_data_set_that_is_gone_is_made_again_and_a_failure_leaves_the_table(workspace):
    table, description = (
        workspace.folder / path for path in ("results/conversion/series.tsv", "bids/dataset_description.json")
    )
    paths = write_series(workspace.folder / "dicom" / "a;1", sample_image())
    assert convert(workspace).returncode == 0
    shutil.rmtree(workspace.folder / "bids")
    assert convert(workspace).returncode == 0
    assert list((workspace.folder / "bids").glob("sub-001/**/*.nii.gz"))
    before = table.read_bytes(), description.read_bytes()
    paths[0].write_bytes(b"")
    result = convert(workspace)
    assert result.returncode != 0
    assert "ERROR: " in result.stdout
    assert "Traceback" not in result.stdout
    assert (table.read_bytes(), description.read_bytes()) == before
