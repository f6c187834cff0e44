import re

import numpy as np
import pytest
from fedpedbrain.base.files import write_table
from fedpedbrain.data.checks.audit import audit_cohort_files
from fedpedbrain.data.checks.cohort_check import LEFT_OUT_COLUMNS
from fedpedbrain.data.checks.duplicates import EXACT, NEAR, find_duplicates_files
from fedpedbrain.data.shards import OUTLINE_COLUMNS
from fedpedbrain.reporting.pages.audit_page import MOST_SHOWN_PAIRS, count_pairs, histogram_path, write_audit_page_files
from fedpedbrain.reporting.pictures.quality_pictures import plot_quality_files


@pytest.fixture
def cohort(config) -> dict:
    return config["cohort"] | {
        "sites": {"training": ["north"], "external": ["west"]},
        "classes": ["normal", "dipg"],
        "normal_class": "normal",
        "regions": [{"name": "whole_tumour", "labels": [1]}],
    }


@pytest.fixture
def page(tmp_path, config, cohort, write_shard, make_case):
    """The page of a cohort whose west has a copy of north's first case, by the names of the cases."""

    def _page(names=("a", "b"), images=None) -> str:
        north = [make_case(name, split="train" if number else "test") for number, name in enumerate(names)]
        images = (
            np.random.default_rng(0).integers(0, 256, (len(names), 1, 4, 8, 8), np.uint8) if images is None else images
        )
        shards = [
            write_shard(tmp_path / "north", north, images),
            write_shard(tmp_path / "west", [make_case("copy", "west", "external", "normal")], images[-1:]),
        ]
        for shard in shards:
            write_table(shard.folder / "outlines.tsv", OUTLINE_COLUMNS, [])
        write_table(tmp_path / "left_out.tsv", LEFT_OUT_COLUMNS, [])
        find_duplicates_files(shards, tmp_path / "duplicates.tsv", config["audit"])
        tables = [shard.folder / "audit.tsv" for shard in shards]
        paths = [tmp_path / name for name in ("left_out.tsv", "duplicates.tsv", "audit.json", "cohort.tsv")]
        audit_cohort_files(shards, *paths, tables, cohort, config["audit"])
        picture = tmp_path / "north.png"
        plot_quality_files(shards[0], picture, "north", [])
        inputs = (tmp_path / "audit.json", tmp_path / "duplicates.tsv", shards, [picture], tmp_path / "audit.html")
        write_audit_page_files(*inputs, "A study", cohort, config["audit"])
        return (tmp_path / "audit.html").read_text(encoding="utf-8")

    return _page


def test_the_page_shows_the_cases_as_the_network_sees_them(page):
    assert "Cases of site north as the network sees them" in text_of(page())


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)).split())


def test_a_leak_stands_above_all_else_and_beside_its_pictures(page):
    html = page()
    text = text_of(html)
    assert "Leak: 1 pair of cases looks like one image and stands in different splits" in text
    assert text.index("Leak: 1 pair") < text.index("Notes LEAK: case b")
    (figure,) = re.findall(r'<figure class="leak is-leak">.*?</figure>', html, re.DOTALL)
    assert figure.count("data:image/png;base64,") == 2
    assert "Two classes" in figure
    assert "0 of 64 bits differ, correlation 1.0000" in figure


def test_pairs_are_counted_within_and_across_sites_and_by_kind():
    sites = {"site_a": "north", "is_leak": "no", "classes_differ": "no"}
    pairs = [
        sites | {"site_b": site, "kind": kind} for site, kind in (("north", EXACT), ("west", EXACT), ("west", NEAR))
    ]
    (group,) = count_pairs(pairs).groups
    assert [[cell.text for cell in row] for row in group.rows] == [
        ["within a site", "1", "1", "0", "0"],
        ["across sites", "2", "1", "0", "0"],
    ]


def test_without_duplicates_the_page_says_so(page):
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 4, 8, 8), np.uint8)
    images[-1] = 0
    text = text_of(page(("a", "b", "blank"), images))
    assert "No two cases look like one image." in text
    assert "Leak" not in text


def test_the_page_asks_the_network_for_nothing(page):
    html = page()
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", html)
    assert "http" not in html.replace("http-equiv", "")


def test_names_of_cases_are_text_and_never_markup(page):
    html = page(("a", "<script>alert(1)</script>"))
    assert "<script>alert" not in html
    assert "&lt;script&gt;" in html


def test_pairs_beyond_what_a_reader_looks_through_are_counted(page):
    same = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 1, 4, 8, 8), np.uint8), 11, axis=0)
    html = page([f"n{number}" for number in range(11)], same)
    # 12 cases that are one: 66 pairs.
    assert html.count("<figure class=") == MOST_SHOWN_PAIRS
    assert f"{66 - MOST_SHOWN_PAIRS} more in duplicates.tsv" in text_of(html)


def test_a_histogram_fills_its_box():
    assert histogram_path([0.25, 0.5, 0.25], 30, 8) == "M0,8.0V4.0H10.0V0.0H20.0V4.0H30.0V8.0Z"


def test_a_histogram_of_nothing_is_flat():
    assert histogram_path([0.0, 0.0], 10, 8) == "M0,8.0V8.0H5.0V8.0H10.0V8.0Z"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_bars_anybody_from_the_page(tab, page, tmp_path, scheme):
    page()
    tab.show(scheme=scheme)
    tab.open(tmp_path / "audit.html")
    assert tab.undecoded == []
    assert tab.barriers == []
    assert tab.complaints == []
