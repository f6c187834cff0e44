import matplotlib
import pytest
from fedpedbrain.reporting.figures.style import apply_style, arm_styles, is_dark, readable
from fedpedbrain.study.colours import OKABE_ITO, PALETTE, arm_colours


def test_a_configured_colour_wins():
    assert arm_colours(["one", "two"], {"two": "#123456"})["two"] == "#123456"


def test_other_arms_take_the_next_colour_that_no_arm_has():
    colours = arm_colours(["one", "two", "three"], {"two": OKABE_ITO[0].lower()})
    assert [colours["one"], colours["three"]] == list(OKABE_ITO[1:3])


def test_a_configured_colour_of_another_study_takes_nothing():
    assert arm_colours(["one"], {"absent": OKABE_ITO[0]}) == {"one": OKABE_ITO[0]}


def test_more_arms_than_the_palette_has_take_its_paler_and_darker_colours():
    arms = [f"arm-{number}" for number in range(len(PALETTE))]
    colours = arm_colours(arms, {})
    assert len(set(colours.values())) == len(arms) > 20
    assert colours["arm-8"] == "#80B8D8", "halfway from #0072B2 to white"
    assert [*arm_colours([*arms, "next"], {}).values()][-1] == OKABE_ITO[0]


def test_arms_of_one_colour_still_differ_in_line_or_marker():
    styles = arm_styles([f"arm-{number}" for number in range(40)], {}, {})
    assert len({(style.colour, style.line, style.marker) for style in styles.values()}) == 40


def test_local_arms_come_last_and_thin():
    styles = arm_styles(["local-a", "shared"], {}, {"local-a": "a"})
    assert list(styles) == ["shared", "local-a"]
    assert styles["shared"].line == "-"
    assert styles["local-a"].thin
    assert styles["local-a"].colour == OKABE_ITO[0]


@pytest.mark.parametrize(
    ("name", "words"), [("whole_tumour", "whole tumour"), ("fedavg", "FedAvg"), ("local-b", "local-b")]
)
def test_names_are_readable(name, words):
    assert readable(name) == words


@pytest.mark.parametrize(
    ("colour", "dark"),
    [
        ((0, 0, 0), True),
        ((1, 1, 1), False),
        ((0.45, 0.45, 0.45, 1.0), True),
        ((0.47, 0.47, 0.47), False),
        ((0, 0, 1), True),
        ((0, 1, 0), False),
        ((1, 0, 0), True),
    ],
)
def test_white_stands_out_from_dark_colours(colour, dark):
    assert is_dark(colour) == dark


def test_the_look_ends_with_its_block():
    before = matplotlib.rcParams["axes.grid"]
    with apply_style():
        assert matplotlib.rcParams["axes.grid"]
    assert matplotlib.rcParams["axes.grid"] == before
