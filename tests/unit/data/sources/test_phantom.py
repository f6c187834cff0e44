import numpy as np
import pytest
import SimpleITK as sitk
from fedpedbrain.base.cases import Case
from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.formats.volumes import Volume
from fedpedbrain.data.sources.phantom.cases import PhantomSource
from fedpedbrain.data.sources.phantom.tumours import RECIPES

CLASSES = ["normal", *RECIPES]
FIRST, SECOND, *_ = RECIPES
# Coarse slices: a case is drawn in a few hundredths of a second.
SETTINGS = {
    "seed": 3,
    "cases": {"north": 12, "south": 12},
    "normal_fraction": 0.3,
    "class_concentration": 0.5,
    "in_plane_coarsening": 9.0,
}


def make_source(**changes) -> PhantomSource:
    return PhantomSource(["north", "south"], CLASSES, "normal", SETTINGS | changes)


def draw(class_name: str, name: str = "north-001", **changes) -> Volume:
    source = make_source(**changes)
    case = next(case for case in source.find_cases() if case.case == name)
    return source.read_case(Case(**{**vars(case), "class_name": class_name}))


def pixels(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    return sitk.GetArrayFromImage(volume.images[0]), sitk.GetArrayFromImage(volume.mask)


def test_a_case_is_a_function_of_seed_and_name():
    first = pixels(draw(FIRST))
    # Drawn again by another source, after another case.
    other = make_source()
    cases = {case.case: case for case in other.find_cases()}
    other.read_case(cases["south-002"])
    second = pixels(other.read_case(Case(**{**vars(cases["north-001"]), "class_name": FIRST})))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


@pytest.mark.parametrize("changes", [{"seed": 4}, {"name": "north-002"}], ids=["another seed", "another name"])
def test_another_recipe_draws_another_head(changes):
    first, second = pixels(draw(FIRST))[0], pixels(draw(FIRST, **changes))[0]
    assert first.shape != second.shape or (first != second).any()


def test_a_normal_case_has_an_empty_mask():
    assert not pixels(draw("normal"))[1].any()


@pytest.mark.parametrize("class_name", list(RECIPES))
def test_a_tumour_lies_in_the_posterior_fossa(class_name):
    volume = draw(class_name)
    mask = pixels(volume)[1]
    assert set(np.unique(mask)) == {0, 1}
    points = [volume.mask.TransformIndexToPhysicalPoint(index[::-1]) for index in np.argwhere(mask).tolist()]
    x, y, z = np.mean(points, axis=0) * [-1.0, -1.0, 1.0]
    # RAS mm of the template: below the tentorium, behind the middle of the head, near the midline.
    assert abs(x) < 45
    assert -90 < y < -10
    assert -65 < z < 0
    volume_ml = mask.sum() * np.prod(volume.mask.GetSpacing()) / 1000
    assert 5 < volume_ml < 150


def test_image_and_mask_share_the_geometry_that_the_index_states():
    source = make_source()
    case = source.find_cases()[0]
    volume = source.read_case(case)
    image = volume.images[0]
    assert image.GetSize()[::-1] == case.shape
    assert image.GetSpacing()[::-1] == pytest.approx(case.spacing_mm)
    for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(volume.mask, get)() == getattr(image, get)()


@pytest.mark.parametrize("class_name", list(RECIPES))
def test_a_tumour_is_brighter_than_the_head(class_name):
    image, mask = pixels(draw(class_name))
    inside = mask.astype(bool)
    head = image[~inside & (image > np.percentile(image, 50))]
    assert np.median(image[inside]) > 1.2 * np.median(head)


def test_sites_have_the_asked_numbers_of_cases():
    cases = make_source(cases={"north": 3, "south": 5}).find_cases()
    assert [case.case for case in cases] == [f"north-00{n}" for n in (1, 2, 3)] + [f"south-00{n}" for n in range(1, 6)]


def test_adding_cases_leaves_the_earlier_ones_as_they_were():
    before = make_source(cases={"north": 3, "south": 5}).find_cases()
    after = {case.case: case for case in make_source(cases={"north": 30, "south": 6}).find_cases()}
    assert [after[case.case] for case in before] == before


def test_adding_a_site_leaves_the_others_as_they_were():
    settings = SETTINGS | {"cases": {"north": 3, "south": 3, "west": 3}}
    wider = PhantomSource(["west", "south", "north"], CLASSES, "normal", settings).find_cases()
    before = make_source(cases={"north": 3, "south": 3}).find_cases()
    assert [case for case in wider if case.site == "north"] == [case for case in before if case.site == "north"]


def test_the_normal_fraction_holds():
    cases = make_source(cases={"north": 400, "south": 400}).find_cases()
    fraction = np.mean([case.class_name == "normal" for case in cases])
    assert fraction == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, False), (1.0, True)])
def test_nobody_or_everybody_can_be_normal(fraction, expected):
    cases = make_source(normal_fraction=fraction).find_cases()
    assert {case.class_name == "normal" for case in cases} == {expected}


def test_a_cohort_without_a_normal_class_has_tumours_alone():
    source = PhantomSource(["north"], [FIRST, SECOND], None, SETTINGS)
    assert {case.class_name for case in source.find_cases()} <= {FIRST, SECOND}


def test_every_seed_has_its_own_digest():
    first, second = make_source().find_cases(), make_source(seed=4).find_cases()
    assert not {case.sha256 for case in first} & {case.sha256 for case in second}
    assert len({case.sha256 for case in first}) == 24


def test_a_class_that_cannot_be_drawn_is_refused_by_name():
    with pytest.raises(StudyError, match=r"cohort\.classes: the phantom source cannot draw 'glioblastoma'"):
        PhantomSource(["north"], ["normal", "glioblastoma"], "normal", SETTINGS)


def test_a_site_without_a_number_of_cases_is_refused_by_name():
    with pytest.raises(StudyError, match=r"phantom\.cases: no number of cases for site 'west'"):
        PhantomSource(["north", "west"], CLASSES, "normal", SETTINGS)


def test_a_cohort_without_tumour_classes_is_refused_by_name():
    with pytest.raises(StudyError, match=r"cohort\.classes"):
        PhantomSource(["north"], [], None, SETTINGS).find_cases()
