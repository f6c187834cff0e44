"""What the report says of arms, updates, participation, privacy and cost."""

import math

import pandas as pd
import pytest
from fedpedbrain.evaluation.tables import read_results
from fedpedbrain.reporting.figures.comparison_figures import draw_comparison
from fedpedbrain.reporting.figures.convergence_figure import draw_convergence
from fedpedbrain.reporting.figures.style import arm_styles
from fedpedbrain.reporting.results import Results
from fedpedbrain.reporting.tables.site_updates import (
    Update,
    find_marks,
    load_updates,
    participation_table,
    updates_part,
)
from fedpedbrain.reporting.tables.tables import Upload, cost_table, privacy_table
from fedpedbrain.reporting.words import answers, headlines
from fedpedbrain.reporting.words.arms_in_words import (
    PERSONAL_NOTE,
    arm_table,
    arms_of_other_recipes,
    describe_arms,
    describe_recipes,
    how_it_trains,
    rounds_in_words,
    weight_in_words,
    who_trains,
)
from fedpedbrain.study.colours import arm_colours
from fedpedbrain.study.strategy_facts import STRATEGIES
from study_arms import arm

SITES = {"a": ["a"], "b": ["b"]}
STUDY = {"training_sites": ["a", "b", "c"]}


def updates(*rows):
    """Updates of one arm; rows of round, site, length and cosine, None for a missing site."""
    known = [(number, site, math.nan if norm is None else norm, cosine) for number, site, norm, cosine in rows]
    return [Update("one", 0, number, site, math.isnan(norm), 0.5, norm, cosine) for number, site, norm, cosine in known]


def marked(*rows):
    return [(mark.update.site, mark.update.round, mark.reason) for mark in find_marks(updates(*rows))]


def words_of(**block):
    return how_it_trains(arm("one", SITES, **block))


def test_every_strategy_has_words_that_name_its_options():
    for name, facts in STRATEGIES.items():
        words = words_of(strategy={"name": name, **dict.fromkeys(facts.options, 0.123)})
        assert words.count("0.123") == len(facts.options), words


def test_an_arm_of_another_recipe_says_what_differs_and_its_differences_are_marked():
    own = {"network": {"name": "i3d_unet"}, "training": {"optimizer": {"learning_rate": 0.1}}}
    assert "A recipe of its own: training.optimizer.learning_rate 0.1, network.name i3d_unet" in words_of(**own)
    arms = [arm("pooled-arm", {"pooled": ["a", "b"]}), arm("one", SITES, **own), arm("two", SITES)]
    study = {"arms": arms, "reference_arm": "pooled-arm"}
    assert arms_of_other_recipes(study) == ["one"]
    assert describe_recipes(study).startswith("Across recipes: training or network of one differ from those of")
    assert describe_recipes({"arms": arms[::2], "reference_arm": "pooled-arm"}) == ""


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (
            {"strategy": {"name": "fedprox", "mu": 0.5}},
            "each site pulled to the round's start (mu 0.5)",
        ),
        ({"batch_norm": "frozen"}, "Statistics of batch normalisation stay as they were at the start."),
        (
            {"exchange": {"dtype": "int8", "content": "difference"}},
            "differences to the round's start in 8 bits",
        ),
        ({"exchange": {"dtype": "bfloat16", "error_feedback": True}}, "(bfloat16), adding what rounding took"),
        (
            {"privacy": {"clip_norm": 2.0, "noise_multiplier": 0.5}},
            "a length of 2. The server adds noise",
        ),
        ({"privacy": {"secure_sum": True}}, "Secure sum: updates are masked"),
        ({"privacy": {"example_level": {"noise_multiplier": 0.7}}}, "DP-SGD: the gradient of every case"),
        ({"participation": {"fraction": 0.5}}, "In each round 50 % of the sites, drawn at random."),
        ({"participation": {"absent": {"b": [2, 3]}}}, "Absent: b in rounds 2 and 3."),
        ({"participation": {"allow_missing_sites": True}}, "A round goes on without a site whose training fails."),
        (
            {"phases": [{"sites": ["a"], "rounds": 2}, {"learning_rate": 0.01}]},
            "Rounds 1 and 2: a. From round 3 on: all",
        ),
        (
            {"phases": [{"rounds": 1}, {"start": "best"}]},
            "all sites, going on from the best round before.",
        ),
        ({"strategy": {"name": "ditto"}}, PERSONAL_NOTE),
        ({"batch_norm": "local"}, PERSONAL_NOTE),
    ],
    ids=str,
)
def test_what_an_arm_does_is_said(block, words):
    assert words in words_of(**block)
    assert words not in words_of()


def test_plain_federated_averaging_needs_few_words():
    assert words_of() == "FedAvg: the weighted mean of the sites' weights."


def test_who_trains_tells_arms_without_a_site_and_controls_apart():
    assert who_trains(arm("one", SITES), STUDY) == "Federated without c: a and b train apart"
    assert who_trains(arm("one", SITES), {"training_sites": ["a", "b"]}) == "Federated: a and b train apart"
    shared = arm("one", {"a": ["a", "b"], "b": ["a", "b"]}, control=True)
    assert who_trains(shared, STUDY).startswith("Control: the cases of a and b shared out at random")
    assert who_trains(arm("one", {"pooled": ["a", "b"]}), STUDY) == "Pooled: the images of a and b in one place"


def test_noise_of_an_arm_without_exchange_is_said():
    alone = {"batch_norm": "frozen", "privacy": {"example_level": {"noise_multiplier": 0.7}}}
    found = how_it_trains(arm("one", {"pooled": ["a", "b"]}, **alone))
    assert found.startswith("No exchange. Statistics of batch normalisation stay as they were at the start. DP-SGD: ")
    assert how_it_trains(arm("one", {"pooled": ["a", "b"]})) == "No exchange."


def test_strategies_with_weights_of_their_own_do_not_claim_the_arms():
    assert weight_in_words(arm("one", SITES)) == "by its number of training cases"
    assert weight_in_words(arm("one", SITES, strategy={"name": "median"})) == "all alike"
    assert weight_in_words(arm("one", SITES, strategy={"name": "cyclic"})) == "nothing is averaged"


def test_arms_of_one_kind_share_a_sentence():
    listed = [arm("fedavg", SITES), arm("prox", SITES, strategy={"name": "fedprox"})]
    listed.append(arm("mixed", {"a": ["a", "b"], "b": ["a", "b"]}, control=True))
    text = describe_arms({"arms": listed, "candidates": [], "training_sites": ["a", "b"]}, ["fedavg", "prox", "mixed"])
    assert text.startswith("FedAvg and prox (FedProx) learn at every site by itself and share weights, not images;")
    assert "mixed learns in the same way, but from cases shared out at random among the sites: a control." in text
    assert "Fedavg-c (without b) learns at every site but one" in describe_arms(
        {"arms": [arm("fedavg-c", {"a": ["a"], "d": ["d"]})], "candidates": [], "training_sites": ["a", "b", "d"]},
        ["fedavg-c"],
    )


@pytest.mark.parametrize(
    ("numbers", "words"), [([2], "round 2"), ([3, 2], "rounds 2 and 3"), ([1, 2, 3, 7], "rounds 1 to 3 and 7")]
)
def test_rounds_in_words(numbers, words):
    assert rounds_in_words(numbers) == words


def test_an_update_that_points_away_stands_out():
    assert marked((1, "a", 1.0, 0.5), (1, "b", 1.0, 0.1), (1, "c", 1.0, -0.1)) == [
        ("c", 1, "points away from the others")
    ]


def test_an_update_much_longer_than_the_others_of_its_round_stands_out():
    rows = [(1, "a", 1.0, 0.5), (1, "b", 2.0, 0.5), (1, "c", 4.6, 0.5), (2, "c", 9.0, 0.5), (2, "a", 3.0, 0.5)]
    # 4.6 is more than three times 1.5; 9 is just three times 3.
    assert marked(*rows) == [("c", 1, "3.07 times as long as their median")]


def test_a_missing_site_neither_stands_out_nor_counts():
    assert marked((1, "a", 1.0, 0.5), (1, "b", None, math.nan), (1, "c", 3.0, 0.5)) == []


def test_alone_in_a_round_nothing_stands_out():
    assert marked((1, "a", 5.0, math.nan)) == []


def test_the_table_of_updates_names_the_rounds_of_extremes_and_marks():
    part = updates_part(
        updates((1, "a", 1.0, 0.5), (1, "b", 1.0, 0.4), (2, "a", 2.0, -0.25), (2, "b", 1.0, 0.4)), False
    )
    (group,) = part.table.groups
    row = [cell.text for cell in group.rows[0]]
    assert row == ["a", "0.50", "1.5", "2 (round 2)", "0.12", "\u22120.25 (round 2)", "round 2"]
    assert part.marked == ["one: a in round 2 (points away from the others)"]
    assert (part.num_updates, part.num_marked) == (4, 1)
    assert updates_part([], False) is None


def test_rounds_in_which_every_site_points_away_are_said_once():
    rows = [(number, site, 1.0, -0.2) for number in (1, 2) for site in "ab"]
    rows += [(3, "a", 1.0, -0.2), (3, "b", 1.0, 0.2), (4, "a", None, math.nan), (4, "b", None, math.nan)]
    part = updates_part(updates(*rows), False)
    assert part.disagreement == ["one: in rounds 1 and 2 all sites disagree, so that none of them is the odd one"]


def table_texts(table):
    return [[cell.text for cell in row] for group in table.groups for row in group.rows]


def test_who_took_no_part_is_named_with_site_rounds_and_reason():
    one = arm("one", SITES, participation={"absent": {"b": [2, 3]}, "allow_missing_sites": True})
    study = {"arms": [one], "seeds": [0], "num_rounds": 3}
    table = participation_table(study, updates((1, "a", None, math.nan), (1, "b", 1.0, math.nan)), {"one": "#000000"})
    assert table.columns == ["Arm", "Site", "Absent", "Training failed"]
    assert table_texts(table) == [["one", "a", "", "round 1"], ["one", "b", "rounds 2 and 3", ""]]


def test_sites_that_were_not_drawn_are_named():
    study = {"arms": [arm("one", SITES, participation={"fraction": 0.5})], "seeds": [0], "num_rounds": 3}
    table = participation_table(study, [], {"one": "#000000"})
    assert table.columns == ["Arm", "Site", "Not drawn"]


def test_nothing_is_said_where_everybody_always_took_part():
    assert participation_table({"arms": [arm("one", SITES)], "seeds": [0], "num_rounds": 3}, [], {}) is None


def account(epsilon, seed=0):
    level = {
        "neighbours": "one case",
        "epsilon": epsilon,
        "clip_norm": 1.0,
        "noise_multiplier": 0.5,
        "warnings": ["few"],
    }
    return {"arm": "one", "seed": seed, "delta": 1e-5, "site_level": None, "example_level": level}


def test_privacy_gives_the_weakest_seed():
    (row,) = table_texts(privacy_table([account(2.0), account(3.5, seed=1)], {"one": "#000000"}))
    assert row == ["one", "One case", "3.5", "1e-05", "1", "0.5", "Few."]
    assert privacy_table([], {}) is None


def test_an_updates_size_is_over_the_updates_that_were_sent():
    study = {"arms": [arm("one", SITES)], "config": {"training": {"epochs_per_round": 2}}}
    selection = {"arm": "one", "model_bytes": 10, "lineage": {"num_cases": 1, "num_steps": 1}}
    uploads = {"one": [Upload(200, 2), Upload(100, 1)]}
    (row,) = cost_table(study, [selection], uploads, {"one": "#000000"}).groups[0].rows
    assert row[1].detail == "2 passes over each"
    assert [row[4].text, row[5].text, row[5].detail] == ["100 B", "300 B", "3 updates, 2 rounds"]
    (row,) = cost_table(study, [selection], {"one": [Upload(0, 0)]}, {"one": "#000000"}).groups[0].rows
    assert row[4].text == "–"


@pytest.fixture
def many(write_study):
    first = write_study().study["arms"][:3]
    return write_study(arms=(*first, *(arm(f"arm-{number}", SITES) for number in range(6))))


def test_many_arms_are_counted_instead_of_told_one_by_one(many):
    results = Results.from_files(many.tables)
    (headline,) = headlines.headlines(results, many.study)
    assert headline.opening == "6 arms against pooled-arm."
    assert headline.verdicts[0].reading == "inferior, worse by more than the margin of 0.05 for all"
    text = answers.find_all(results, many.study)[0].text
    assert "The 6 other arms go from 0.001 (arm-5) to 0.501 (arm-0)." in text
    assert "6 federated arms are ahead of a site's own local arm at 0 of 12 comparisons" in (
        answers.find_gains(results, many.study).text
    )
    assert "The 6 other arms go from" in answers.find_external(results, many.study).text


def test_every_arm_of_many_is_named_beside_its_points(many):
    figure = draw_comparison(
        read_results(many.tables["summary"]), arm_styles(many.arms, {}, many.local_sites), many.local_sites, "tumour"
    )
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert set(labels) == set(many.arms)
    assert not figure.legends
    assert "x, external, never trained on, n = 12" in [text.get_text() for text in figure.axes[0].texts]


def test_many_arms_have_a_panel_each(many):
    history = pd.concat(map(read_results, many.inputs.histories))
    figure = draw_convergence(history, arm_styles(many.arms, {}, many.local_sites), many.arms, "tumour")
    titles = [f"{axes.get_title()}{axes.get_title(loc='left')}" for axes in figure.axes if axes.get_visible()]
    assert sorted(titles) == sorted(many.arms), "local arms too"


def test_inspections_are_read_as_they_were_written(write_study):
    synthetic = write_study(sent={"fedavg": [(1, "a", 0.5, ""), (1, "b", None, "")]})
    first, second = load_updates(synthetic.inputs.inspections)
    assert (first.site, first.norm, first.is_missing, second.is_missing) == ("a", 0.5, False, True)
    assert math.isnan(first.cosine)


def test_the_table_of_arms_has_a_row_an_arm(write_study):
    study = write_study().study
    table = arm_table(study, arm_colours([item["name"] for item in study["arms"]], {}))
    assert [row[0].text for row in table.groups[0].rows] == ["pooled-arm", "local-a", "local-b", "FedAvg"]
