import pytest
from scored_cases import Scored


def of_sites(**dice: float) -> list[Scored]:
    """Three cases of each site, all with the site's Dice."""
    return [
        Scored(f"{site}-{n}", value, site=site, split="external" if site == "west" else "test")
        for site, value in dice.items()
        for n in range(3)
    ]


def test_the_gap_is_from_the_worst_to_the_best_training_site(compare):
    tables = compare({"centralized": of_sites(north=0.8, south=0.5, west=0.1)})
    row = tables.one("sites", metric="dice")
    assert [row[key] for key in ("worst_site", "worst", "best_site", "best", "gap")] == [
        *("south", "0.5", "north", "0.8", "0.3"),
    ]


def test_the_worst_site_has_the_largest_error(compare):
    cases = of_sites(north=0.8, south=0.5)
    for case in cases:
        case.others = {"hd95_mm": (30.0 if case.site == "south" else 3.0, "")}
    row = compare({"centralized": cases}).one("sites", metric="hd95_mm")
    assert (row["better"], row["worst_site"], row["best_site"], row["gap"]) == ("lower", "south", "north", "27")


def test_a_site_of_two_patients_is_neither_worst_nor_best(compare):
    cases = [*of_sites(north=0.8, south=0.5), Scored("e", 0.0, site="east"), Scored("f", 0.0, site="east")]
    row = compare({"centralized": cases}, sites=["north", "south", "east"]).one("sites", metric="dice")
    assert (row["worst_site"], row["num_sites"], row["num_too_small"]) == ("south", "2", "1")


def test_a_site_gains_what_an_arm_has_over_its_own_local_arm_there(compare):
    trained_on = {"local-north": ["north"], "local-south": ["south"], "others": ["south", "west"]}
    arms = {
        "centralized": of_sites(north=0.8, south=0.5),
        "local-north": of_sites(north=0.7, south=0.1),
        "local-south": of_sites(north=0.0, south=0.6),
        "others": of_sites(north=0.9, south=0.9),
    }
    tables = compare(arms, trained_on=trained_on)
    gains = {(row["arm"], row["site"]): float(row["gain"]) for row in tables.gains if row["metric"] == "dice"}
    # The arm that did not learn from the north is no way for the north to join.
    assert gains == pytest.approx(
        {("centralized", "north"): 0.1, ("centralized", "south"): -0.1, ("others", "south"): 0.3}
    )


def test_every_arm_at_every_site_says_what_it_was_trained_on(compare):
    trained_on = {
        "centralized": ["east", "north", "south"],
        "local-north": ["north"],
        "loo-north": ["east", "south"],
    }
    tables = compare(
        {arm: of_sites(north=0.8, south=0.5, west=0.2) for arm in trained_on},
        sites=["north", "south", "east", "west"],
        trained_on=trained_on,
    )
    rows = {(row["arm"], row["tested_on"]): row for row in tables.cross_sites if row["metric"] == "dice"}
    assert rows["local-north", "south"]["kind"] == "one site"
    assert rows["local-north", "south"]["is_own_site"] == "0"
    assert rows["local-north", "north"]["is_own_site"] == "1"
    left_out = rows["loo-north", "north"]
    assert (left_out["kind"], left_out["trained_on"], left_out["is_own_site"]) == ("all but one", "east;south", "0")
    assert rows["centralized", "west"]["split"] == "external"
    assert rows["centralized", "west"]["kind"] == "all sites"
    assert rows["centralized", "west"]["value"] == "0.2"
