import json
from dataclasses import replace

import numpy as np
import pytest
from fedpedbrain.base.files import read_table, write_table
from fedpedbrain.data.checks.audit import audit_cohort_files, duplicate_notes, sites_without_validation, small_sites
from fedpedbrain.data.checks.cohort_check import LEFT_OUT_COLUMNS
from fedpedbrain.data.checks.duplicates import PAIR_COLUMNS, Pair
from fedpedbrain.data.shards import OUTLINE_COLUMNS


@pytest.fixture
def cohort(config) -> dict:
    return config["cohort"] | {
        "sites": {"training": ["north"], "external": ["west"]},
        "classes": ["normal", "dipg", "ependymoma"],
        "normal_class": "normal",
        "regions": [{"name": "whole_tumour", "labels": [1]}],
    }


@pytest.fixture
def audit(tmp_path, cohort):
    """Audit shards without validation patients; returns the audit without saying so, and the table's rows.

    No site is small and no class too frequent but where ``settings`` say so.
    """

    def _audit(shards: list, left_out=(), pairs=(), **settings) -> tuple[dict, list[dict[str, str]]]:
        write_table(tmp_path / "left_out.tsv", LEFT_OUT_COLUMNS, left_out)
        write_table(tmp_path / "duplicates.tsv", PAIR_COLUMNS, (pair.to_row() for pair in pairs))
        inputs = (tmp_path / "left_out.tsv", tmp_path / "duplicates.tsv")
        outputs = (tmp_path / "audit.json", tmp_path / "cohort.tsv", [shard.folder / "audit.tsv" for shard in shards])
        settings = {"class_imbalance_ratio": 1000.0, "small_site_patients": 0} | settings
        audit_cohort_files(shards, *inputs, *outputs, cohort, settings)
        found = json.loads((tmp_path / "audit.json").read_text())
        found["notes"] = [note for note in found["notes"] if "no validation patient" not in note]
        return found, read_table(tmp_path / "cohort.tsv")

    return _audit


@pytest.fixture
def shard(tmp_path, write_shard):
    """Write a shard of cases with tumours of the given numbers of voxels, or of one number for each region."""

    def _shard(site: str, cases: list, voxels: list, images=None, outlines=None):
        voxels = np.reshape(voxels, (len(cases), -1))
        masks = np.zeros((*voxels.shape, 4, 8, 8), np.uint8)
        for plane, count in zip(masks.reshape(-1, 256), voxels.flat, strict=True):
            plane[:count] = 1
        shard = write_shard(tmp_path / site, cases, images, masks)
        if outlines is None:
            counts = zip(cases, voxels[:, 0], strict=True)
            outlines = [(case.case, "whole_tumour", count / 2, 0.0) for case, count in counts if count]
        rows = (dict(zip(OUTLINE_COLUMNS, row, strict=True)) for row in outlines)
        write_table(shard.folder / "outlines.tsv", OUTLINE_COLUMNS, rows)
        return shard

    return _shard


def test_a_site_is_counted_and_measured(audit, shard, make_case):
    cases = [
        make_case("a-1", split="train", patient="a"),
        make_case("a-2", split="train", patient="a"),
        make_case("b", split="test", class_name="normal"),
        make_case("c", split="validation"),
    ]
    (site,) = audit([shard("north", cases, [4, 10, 0, 6])])[0]["sites"]
    assert site["site"] == "north"
    assert site["role"] == "training"
    assert (site["num_patients"], site["num_cases"]) == (3, 4)
    assert site["splits"] == {"train": 2, "validation": 1, "test": 1, "external": 0}
    assert site["patients_by_split"] == {"train": 1, "validation": 1, "test": 1, "external": 0}
    spacings_mm = {"scan": list(cases[2].spacing_mm), "grid": list(cases[2].grid_spacing_mm)}
    assert site["held_out_spacing_mm"] == spacings_mm
    assert site["classes"] == {"dipg": 3, "normal": 1}
    assert site["shapes"] == ["4x8x8"]
    assert site["spacings_mm"] == ["5.00x10.00x10.00"]
    assert site["num_empty_masks"] == 1
    # 4, 6 and 10 voxels of 0.5 ml.
    assert site["median_volume_ml"] == {"whole_tumour": 3.0}
    assert site["volume_quartiles_ml"] == {"whole_tumour": [2.5, 3.0, 4.0]}


def test_the_table_counts_cases_and_patients_by_site_class_and_split(audit, shard, make_case):
    north = [make_case("a-1", patient="a"), make_case("a-2", patient="a"), make_case("b", split="test")]
    west = [make_case("e", "west", "external", "")]
    rows = audit([shard("north", north, [1, 1, 1]), shard("west", west, [1])])[1]
    assert [tuple(row.values()) for row in rows] == [
        ("north", "dipg", "test", "1", "1"),
        ("north", "dipg", "train", "2", "1"),
        ("west", "unknown", "external", "1", "1"),
    ]


def test_an_external_site_is_said_to_be_external(audit, shard, make_case):
    (site,) = audit([shard("west", [make_case("e", "west", "external")], [1])])[0]["sites"]
    assert site["role"] == "external"


def notes_of(audit_content: dict) -> list[str]:
    return [note for note in audit_content["notes"] if note.startswith("site ")]


def test_a_sound_case_has_no_note(audit, shard, make_case):
    cases = [make_case("a"), make_case("b", class_name="normal")]
    assert notes_of(audit([shard("north", cases, [5, 0])])[0]) == []


@pytest.mark.parametrize(
    ("class_name", "voxels", "note"),
    [
        ("normal", 3, "site north, case a: is 'normal' but a region is outlined"),
        ("dipg", 0, "site north, case a: 'dipg' without any outlined region"),
        ("", 3, "site north, case a: class unknown, counts for segmentation alone"),
    ],
)
def test_a_case_that_looks_wrong_is_noted(audit, shard, make_case, class_name, voxels, note):
    assert notes_of(audit([shard("north", [make_case("a", class_name=class_name)], [voxels])])[0]) == [note]


def test_a_blank_image_is_noted(audit, shard, make_case):
    blank = np.zeros((1, 1, 4, 8, 8), np.uint8)
    notes = notes_of(audit([shard("north", [make_case("a")], [3], blank)])[0])
    assert notes == ["site north, case a: a channel of the image is blank"]


def test_a_region_that_vanishes_on_the_grid_is_noted_by_its_name(audit, cohort, shard, make_case):
    cohort["regions"].append({"name": "core", "labels": [2]})
    outlines = [("a", "whole_tumour", 3.0, 0.0), ("a", "core", 0.04, 0.0), ("b", "whole_tumour", 3.0, 0.0)]
    written = shard("north", [make_case("a"), make_case("b")], [(6, 0), (6, 0)], outlines=outlines)
    assert notes_of(audit([written])[0]) == [
        "site north, case a: core of 0.04 ml vanishes on the grid: its Dice leaves this case out"
    ]


def test_a_tumour_that_vanishes_is_not_said_to_be_missing(audit, shard, make_case):
    written = shard("north", [make_case("a")], [0], outlines=[("a", "whole_tumour", 0.2, 0.0)])
    (note,) = notes_of(audit([written])[0])
    assert "whole_tumour of 0.2 ml vanishes on the grid" in note


def test_what_the_heads_box_cuts_away_is_noted(audit, shard, make_case):
    written = shard("north", [make_case("a")], [4], outlines=[("a", "whole_tumour", 2.5, 0.5)])
    assert notes_of(audit([written])[0]) == [
        "site north, case a: 0.5 of 2.5 ml of whole_tumour lie outside the grid and are cut away"
    ]


def test_participants_of_other_sites_are_noted_by_site(audit, shard, make_case):
    left_out = [{"site": "North", "num_participants": 12}]
    notes = audit([shard("north", [make_case("a")], [5])], left_out)[0]["notes"]
    assert notes[0] == "left out: 12 participant(s) of site 'North', which is none of cohort.sites"


def test_a_class_that_a_split_lacks_is_noted(audit, shard, make_case):
    cases = [make_case("a"), make_case("b", split="test"), make_case("c", split="validation", class_name="normal")]
    notes = audit([shard("north", cases, [1, 1, 0])])[0]["notes"]
    assert "class normal: no train case at any site" in notes
    assert "class dipg: no validation case at any site" in notes
    assert "class ependymoma: no test case at any site" in notes
    assert "class dipg: no train case at any site" not in notes


def test_a_site_without_a_class_that_others_train_on_has_one_line(audit, cohort, shard, make_case):
    cohort["sites"] = {"training": ["north", "south"], "external": []}
    north = [make_case("a", "north"), make_case("b", "north", "test", class_name="normal")]
    south = [make_case("c", "south", class_name="normal")]
    notes = audit([shard("north", north, [1, 0]), shard("south", south, [0])])[0]["notes"]
    told = "an arm that trains on this site alone cannot learn it"
    assert f"site north: no training case of normal; {told}" in notes
    assert f"site south: no training case of dipg; {told}" in notes
    assert sum(told in note for note in notes) == 2, "nobody trains on ependymoma, which has a note of its own"


def test_a_cohort_without_regions_has_no_empty_masks(audit, cohort, make_case, shard):
    cohort["regions"] = []
    content, _ = audit([shard("north", [make_case("a")], np.zeros((1, 0), int), outlines=[])])
    assert notes_of(content) == []
    assert content["sites"][0]["num_empty_masks"] == 0
    assert content["sites"][0]["median_volume_ml"] == {}


def test_a_cohort_without_classes_notes_no_unknown_class(audit, cohort, shard, make_case):
    cohort |= {"classes": [], "normal_class": None}
    content, rows = audit([shard("north", [make_case("a", class_name="")], [3])])
    assert content["notes"] == []
    assert rows[0]["class"] == "unknown"


def test_a_training_site_without_validation_patients_is_noted():
    sites = [
        {"site": "north", "role": "training", "splits": {"validation": 1}},
        {"site": "south", "role": "training", "splits": {"validation": 0}},
        {"site": "west", "role": "external", "splits": {"validation": 0}},
    ]
    (note,) = sites_without_validation(sites)
    assert note == "site south: no validation patient; an arm that trains on this site alone takes its last round"


def test_orientations_are_counted_and_the_most_frequent_stands_first(audit, shard, make_case):
    lying = ["axial LPS", "coronal LSA", "axial LPS", ""]
    cases = [replace(make_case(f"c{n}"), orientation=words) for n, words in enumerate(lying)]
    (site,) = audit([shard("north", cases, [1] * 4)])[0]["sites"]
    assert list(site["orientations"].items()) == [("axial LPS", 2), ("coronal LSA", 1), ("", 1)]


def test_blank_slices_and_intensities_are_counted(audit, shard, make_case):
    images = np.zeros((2, 1, 4, 8, 8), np.uint8)
    images[0] = 1
    # Two of four slices show something, half of it as bright as can be.
    images[1, 0, 2:, :4] = 255
    written = shard("north", [make_case("a"), make_case("b")], [1, 1], images)
    (site,) = audit([written])[0]["sites"]
    assert [row["num_blank_slices"] for row in read_table(written.folder / "audit.tsv")] == ["0", "2"]
    assert site["num_cases_with_blank_slices"] == 1
    # 256 voxels of the first case, 64 of the second.
    assert site["intensity_parts"] == [0.8, *[0.0] * 30, 0.2]


def test_every_case_has_a_row_with_its_volumes_and_problems(audit, shard, make_case):
    cases = [make_case("a", split="test"), make_case("b", class_name="normal")]
    written = shard("north", cases, [6, 2], outlines=[("a", "whole_tumour", 3.5, 0.5), ("b", "whole_tumour", 1.0, 0.0)])
    (site,) = audit([written])[0]["sites"]
    first, second = read_table(written.folder / "audit.tsv")
    assert (first["case"], first["class"], first["split"], first["shape"]) == ("a", "dipg", "test", "4x8x8")
    assert (first["whole_tumour_ml"], first["whole_tumour_cut_ml"]) == ("3", "0.5")
    assert first["problems"] == "0.5 of 3.5 ml of whole_tumour lie outside the grid and are cut away"
    assert second["problems"] == "is 'normal' but a region is outlined"
    assert site["num_cut_cases"] == 1


def test_unequal_classes_are_noted_with_their_ratio(audit, shard, make_case):
    cases = [make_case(f"d{n}") for n in range(6)] + [make_case("n", class_name="normal")]
    cases += [make_case(f"t{n}", split="test", class_name="normal") for n in range(9)]
    written = shard("north", cases, [1] * 6 + [0] * 10)
    expected = (
        "site north: classes are unequal, 6 training cases of dipg to 1 of normal (6.0 to 1); "
        "see training.loss.balance_classes"
    )
    assert expected in audit([written], class_imbalance_ratio=6.0)[0]["notes"]
    assert not [note for note in audit([written], class_imbalance_ratio=6.1)[0]["notes"] if "unequal" in note]


def test_small_sites_are_noted_whether_they_train_or_not():
    sites = [{"site": "north", "num_patients": 10}, {"site": "west", "num_patients": 9}]
    (note,) = small_sites(sites, 10)
    assert note.startswith("site west: 9 patients, fewer than 10")


def test_leaks_are_named_first_and_all_pairs_are_counted(audit, shard, make_case):
    train, test = make_case("a"), make_case("b", split="test", class_name="normal")
    pairs = [Pair("near", 4, 0.987, train, test), Pair("exact", 0, 1.0, train, make_case("c"))]
    notes = audit([shard("north", [train, test], [1, 0])], pairs=pairs)[0]["notes"]
    assert notes[:3] == [
        "LEAK: case a (site north, train, dipg) looks like case b (site north, test, normal): 4 of 64 bits differ, "
        "correlation 0.9870",
        "one image, two classes: case a (site north, train, dipg) looks like case b (site north, test, normal): "
        "4 of 64 bits differ, correlation 0.9870",
        "2 pairs of cases look like one image (1 are exact copies), 0 of them across sites, 1 of them across splits; "
        "see duplicates.tsv",
    ]


def test_many_leaks_are_counted_after_the_first_three(make_case):
    pair = Pair("exact", 0, 1.0, make_case("a"), make_case("b", "west", "external")).to_row()
    notes = duplicate_notes([pair] * 8)
    assert set(notes[:3]) == {
        "LEAK: case a (site north, train, dipg) is, voxel by voxel, case b (site west, external, dipg)"
    }
    assert notes[3] == "LEAK: 5 more pairs across splits; see duplicates.tsv"
    assert len(notes) == 5


def test_without_pairs_nothing_is_said_of_duplicates():
    assert duplicate_notes([]) == []


def test_cases_of_their_own_size_are_measured_on_their_own_grid(audit, tmp_path, make_case, write_shard):
    images = [np.random.default_rng(0).normal(size=(1, *size)).astype(np.float16) for size in ((3, 5, 6), (4, 8, 7))]
    # A slice of air, which is the lowest value there is.
    images[1][:, 2] = -9.0
    masks = [np.zeros((1, *image.shape[1:]), np.uint8) for image in images]
    masks[0][:, 1, :2, :2] = masks[1][:, 1, :2, :2] = 1
    # Voxels of 1 and of 0.5 ml.
    cases = [replace(make_case("a"), grid_spacing_mm=(10.0, 10.0, 10.0)), make_case("b")]
    shard = write_shard(tmp_path / "north", cases, images, masks)
    outlines = [("a", "whole_tumour", 4.0, 0.0), ("b", "whole_tumour", 2.0, 0.0)]
    rows = (dict(zip(OUTLINE_COLUMNS, row, strict=True)) for row in outlines)
    write_table(shard.folder / "outlines.tsv", OUTLINE_COLUMNS, rows)
    (site,) = audit([shard])[0]["sites"]
    assert site["volume_quartiles_ml"] == {"whole_tumour": [2.5, 3.0, 3.5]}
    assert site["num_cases_with_blank_slices"] == 1
    assert sum(site["intensity_parts"]) == pytest.approx(1.0, abs=1e-4)
