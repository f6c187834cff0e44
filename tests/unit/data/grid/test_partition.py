from collections import Counter

import pytest
from fedpedbrain.data.grid.partition import rows_of_part

SIZES = {"north": 40, "east": 20, "south": 5}


@pytest.fixture
def cases(make_case):
    """65 patients of three sites; every second one has two cases."""
    return [
        make_case(f"{site}-{number}-{visit}", site, patient=f"{site}-{number}")
        for site, count in SIZES.items()
        for number in range(count)
        for visit in range(1 + number % 2)
    ]


def parts_of(cases, seed=0, sites=tuple(SIZES)):
    return {site: rows_of_part(cases, sites, site, seed) for site in sites}


def patients_of(cases, rows):
    return {cases[row].patient for row in rows}


def test_the_parts_are_disjoint_and_complete(cases):
    rows = [row for part in parts_of(cases).values() for row in part]
    assert sorted(rows) == list(range(len(cases)))


def test_rows_are_ascending(cases):
    assert all(part == sorted(part) for part in parts_of(cases).values())


def test_every_site_gets_as_many_patients_as_it_has(cases):
    assert {site: len(patients_of(cases, part)) for site, part in parts_of(cases).items()} == SIZES


def test_all_cases_of_a_patient_go_to_one_site(cases):
    owners = Counter(patient for part in parts_of(cases).values() for patient in patients_of(cases, part))
    assert set(owners.values()) == {1}
    assert len(owners) < len(cases)


@pytest.mark.parametrize("seed", range(5))
def test_every_part_is_a_mix_of_the_sites(cases, seed):
    for site, part in parts_of(cases, seed).items():
        homes = Counter(case.site for case in {cases[row].patient: cases[row] for row in part}.values())
        # At random 8 of 13 patients of each part are north's, 4 are east's.
        if site != "south":
            assert homes["north"] == pytest.approx(SIZES[site] * 8 / 13, abs=8)
            assert homes["east"] == pytest.approx(SIZES[site] * 4 / 13, abs=8)
        assert set(homes) != {site}


def test_another_seed_draws_other_parts_and_the_same_seed_the_same(cases):
    assert parts_of(cases, 0) == parts_of(cases, 0)
    assert parts_of(cases, 0) != parts_of(cases, 1)


def test_the_order_of_cases_and_sites_does_not_matter(cases):
    turned = cases[::-1]
    for site, part in parts_of(cases).items():
        assert patients_of(turned, rows_of_part(turned, list(SIZES)[::-1], site, 0)) == patients_of(cases, part)


def test_one_site_alone_keeps_its_cases(cases):
    alone = [case for case in cases if case.site == "east"]
    assert rows_of_part(alone, ["east"], "east", 0) == list(range(len(alone)))
