import pytest
from fedpedbrain.base.cases import read_cases
from fedpedbrain.base.errors import CohortError
from fedpedbrain.data.index import index_site_files
from fedpedbrain.data.shards import build_shard_files
from fedpedbrain.data.sources.source_files import settings_of_site
from opened_files import counted_opens


@pytest.fixture
def settings(source_settings) -> dict:
    """What decides the cases of the site south of the folder ``bids``."""
    return settings_of_site(source_settings, "south")


def test_the_index_has_the_sites_cases_in_their_order(tmp_path, bids, settings):
    bids.add("sub-00", "south", "dipg")
    index_site_files(settings, tmp_path / "index.tsv")
    found = [(case.site, case.case) for case in read_cases(tmp_path / "index.tsv")]
    assert found == [("south", "sub-00"), ("south", "sub-03"), ("south", "sub-04")]


def test_the_same_site_gives_the_same_bytes_whatever_others_have(tmp_path, bids, settings):
    index_site_files(settings, tmp_path / "first")
    bids.image("sub-01").unlink()
    bids.add("sub-05", "elsewhere", "no class of the study")
    index_site_files(settings, tmp_path / "second")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_a_refused_site_leaves_the_earlier_index(tmp_path, bids, settings):
    index_site_files(settings, tmp_path / "index.tsv")
    before = (tmp_path / "index.tsv").read_bytes()
    bids.image("sub-03").unlink()
    with pytest.raises(CohortError):
        index_site_files(settings, tmp_path / "index.tsv")
    assert (tmp_path / "index.tsv").read_bytes() == before


def test_each_image_is_read_once_for_the_index_and_once_for_the_shard(tmp_path, bids, settings, config):
    paths = [*bids.root.glob("**/*_T2w.nii.gz"), *bids.root.glob("**/*_mask.nii.gz")]
    of_site = [path for path in paths if "sub-03" in path.name or "sub-04" in path.name]
    assert len(of_site) == 4
    with counted_opens(paths) as opened:
        index_site_files(settings, tmp_path / "index.tsv")
    assert opened == dict.fromkeys(of_site, 1)
    names = ("images.npy", "masks.npy", "shard.tsv", "outlines.tsv", "frames.tsv")
    preprocessing = config["preprocessing"] | {"grid": [4, 6, 5], "field_of_view": "image"}
    with counted_opens(paths) as opened:
        build_shard_files(tmp_path / "index.tsv", *(tmp_path / name for name in names), settings, preprocessing)
    assert opened == dict.fromkeys(of_site, 1)
