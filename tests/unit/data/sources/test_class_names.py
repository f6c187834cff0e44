import pytest
from fedpedbrain.base.errors import CohortError
from fedpedbrain.data.sources.class_names import map_classes

CLASSES = ["normal", "glioma", "DIPG"]


def problems(counts: dict, class_map: dict) -> list[str]:
    with pytest.raises(CohortError) as caught:
        map_classes(counts, CLASSES, class_map, "bids.class_map")
    assert str(caught.value).splitlines() == caught.value.problems
    return caught.value.problems


def test_names_of_classes_stand_for_themselves_and_others_for_what_the_map_says():
    counts = {("glioma", "north"): 3, ("no_tumor", "south"): 2}
    assert map_classes(counts, CLASSES, {"no_tumor": "normal", "unused": "DIPG"}, "key") == {
        "glioma": "glioma",
        "no_tumor": "normal",
    }


def test_a_map_may_give_a_class_another_name():
    assert map_classes({("glioma", "north"): 1}, CLASSES, {"glioma": "DIPG"}, "key") == {"glioma": "DIPG"}


def test_a_name_without_a_class_is_said_with_its_cases_and_the_line_to_add():
    (problem,) = problems({("glioma_tumor", "south"): 5, ("glioma_tumor", "north"): 160}, {})
    assert problem == (
        "class name 'glioma_tumor' (165 case(s): 160 at site north, 5 at site south) is none of cohort.classes "
        "(normal, glioma, DIPG); nearest is 'glioma': if it is meant, add \"glioma_tumor\": glioma to bids.class_map"
    )


def test_upper_and_lower_case_letters_are_near():
    assert 'add "Dipg": DIPG to' in problems({("Dipg", "north"): 1}, {})[0]


def test_a_name_like_none_suggests_none():
    assert "no class has a name like it" in problems({("xyz", "north"): 1}, {})[0]


def test_every_name_is_said_at_once_however_many():
    assert len(problems({(f"x{number}", "north"): 1 for number in range(25)}, {})) == 25
