"""Where files lie, and what a path is."""

import pytest
from fedpedbrain.planning.layout import LAYOUT, LAYOUT_PHASES, find_output, path_of_output

VALUES = {"arm": "fed-avg", "candidate": "soup_1", "network": "unet_3f2a", "imported": "theirs", "seed": 10, "round": 3}
VALUES |= {"site": "north_2", "scan": "scan.nii-004711", "model": "best_a-1", "figure": "cross_sites"}


def values_of(name):
    return {wildcard: VALUES[wildcard] for wildcard in LAYOUT[name].wildcards}


def test_a_path_has_numbers_with_the_digits_that_rules_give_them():
    path = path_of_output("site_update", arm="fedavg", seed=10, round=3, site="north")
    assert path == "models/fedavg/seed-10/round-003/updates/north.pth"
    assert path_of_output("report") == "report.html"


@pytest.mark.parametrize("name", LAYOUT)
def test_the_path_of_a_row_is_of_that_row_and_no_other(name):
    path = path_of_output(name, **values_of(name))
    assert {other: kind.values_in(path) for other, kind in LAYOUT.items() if kind.values_in(path) is not None} == {
        name: values_of(name)
    }
    assert find_output(path) == find_output(f"/data/results/{path}") == (name, values_of(name))


@pytest.mark.parametrize(
    ("path", "name", "values"),
    [
        ("models/initial/unet/seed-0.pth", "initial_model", {"network": "unet", "seed": 0}),
        ("models/initial/seed-0/best.pth", "best_model", {"arm": "initial", "seed": 0}),
        ("models/imported/seed-0.pth", "imported_model", {"imported": "seed-0"}),
        ("models/imported/seed-0/best.pth", "best_model", {"arm": "imported", "seed": 0}),
        ("inference/scan/slices.mp4", "scan_video", {"scan": "scan"}),
        ("inference/scan/slices/mask.nii.gz", "scan_prediction", {"scan": "scan", "model": "slices"}),
        ("figures/quality/quality.png", "quality_picture", {"site": "quality"}),
        ("figures/quality.png", "figure", {"figure": "quality"}),
        ("gallery/cases.tsv", "shown_cases", {}),
    ],
)
def test_paths_that_look_alike_are_told_apart(path, name, values):
    assert find_output(path) == (name, values)


def test_a_folder_of_the_layout_is_itself_and_all_that_it_holds():
    for path in ("videos", "videos/", "results/videos/case.mp4", "videos/a/b"):
        assert find_output(path) == ("videos", {})
    assert find_output("videos.mp4") is None


def test_an_arm_may_be_named_as_the_folder_of_the_results():
    values = {"arm": "results", "seed": 0}
    for path in ("models/results/seed-0/best.pth", "results/models/results/seed-0/best.pth"):
        assert find_output(path) == ("best_model", values)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "results",
        "models/fedavg/seed-0",
        "models/fedavg/seed-00/best.pth",
        "models/fedavg/seed-0/round-3/global.pth",
        "models/fedavg/seed-0/best.pth.old",
        "models/fedavg/seed-0/.unfinished-12.best.pth",
        "elsewhere/models/fedavg/seed-0/best.pth",
    ],
)
def test_other_paths_are_no_files_of_a_study(path):
    assert find_output(path) is None


@pytest.mark.parametrize(
    "values",
    [
        {"arm": "a/b", "seed": 0},
        {"arm": "a", "seed": -1},
        {"arm": "a", "seed": 0, "site": "north"},
        {"arm": "", "seed": 0},
    ],
)
def test_values_that_would_lead_to_another_file_are_refused(values):
    with pytest.raises(ValueError, match="best_model: expected values of arm, seed, found"):
        path_of_output("best_model", **values)


def test_phases_are_those_of_the_rules_in_the_order_of_the_table(repository):
    assert list(dict.fromkeys(kind.phase for kind in LAYOUT.values())) == list(LAYOUT_PHASES)
    assert not [phase for phase in LAYOUT_PHASES if not (repository / "rules" / f"{phase}.smk").is_file()]
