import numpy as np
import pytest
from fedpedbrain.base.cases import read_cases, write_cases
from fedpedbrain.base.errors import CohortError, StudyError
from fedpedbrain.data.shards import preprocess_images
from fedpedbrain.data.sources.copies import describe_copies
from fedpedbrain.data.sources.source import open_source
from fedpedbrain.data.sources.source_files import count_cases, count_left_out, list_source_files, settings_of_site
from PIL import Image

SIZE = (12, 10)


@pytest.fixture
def add(tmp_path):
    """``add("north/Training/glioma_tumor/a.png", seed)``: a picture of noise, 12 rows by 10 columns."""

    def _add(place: str, seed: int):
        path = tmp_path / "pictures" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, SIZE, dtype=np.uint8)).save(path)
        return path

    return _add


@pytest.fixture
def settings(tmp_path, config, add) -> dict:
    """``Study.source_settings`` of two sites with two pictures each."""
    for number, place in enumerate(("north/Training/glioma_tumor/a (1).png", "north/Testing/no_tumor/a (1).jpg")):
        add(place, number)
    for number, place in enumerate(("south/glioma/b.jpeg", "south/normal/b.PNG"), start=5):
        add(place, number)
    cohort = config["cohort"] | {"source": "class_folders", "regions": [], "classes": ["normal", "glioma"]}
    cohort["sites"] = {"training": ["north", "south"], "external": []}
    block = {"class_map": {"glioma_tumor": "glioma", "no_tumor": "normal"}}
    return {
        "cohort": cohort,
        "root": str(tmp_path / "pictures"),
        "sites": ["north", "south"],
        "class_folders": block,
        "formats": config["formats"] | {"picture": {"rotation_degrees": 0, "spacing_mm": [4.0, 0.8, 0.9]}},
    }


def find(settings) -> dict:
    return {case.case: case for case in open_source(settings).find_cases()}


def problems_of(settings) -> list[str]:
    with pytest.raises(CohortError) as caught:
        find(settings)
    return caught.value.problems


def test_every_picture_is_a_case_of_one_slice_and_a_patient_of_its_own(settings):
    cases = find(settings)
    assert {name: (case.patient, case.site, case.class_name) for name, case in cases.items()} == {
        "north-Training-glioma_tumor-a (1)": ("north-Training-glioma_tumor-a (1)", "north", "glioma"),
        "north-Testing-no_tumor-a (1)": ("north-Testing-no_tumor-a (1)", "north", "normal"),
        "south-glioma-b": ("south-glioma-b", "south", "glioma"),
        "south-normal-b": ("south-normal-b", "south", "normal"),
    }
    assert {case.shape for case in cases.values()} == {(1, *SIZE)}
    assert {case.spacing_mm for case in cases.values()} == {(4.0, 0.8, 0.9)}
    # Nobody knows how the pictures lie in the patient.
    assert {(case.orientation, case.mask) for case in cases.values()} == {("", "")}


def test_a_picture_is_read_as_it_is_stored_with_the_nominal_spacing(settings):
    source = open_source(settings)
    case = find(settings)["south-normal-b"]
    volume = source.read_case(case)
    assert volume.mask is None
    assert volume.images[0].GetSpacing() == (0.9, 0.8, 4.0)
    stored = np.asarray(Image.open(case.images[0]), dtype=np.float32)
    images, _ = preprocess_images(
        volume,
        {
            "grid": [1, *SIZE],
            "field_of_view": "image",
            "voxel_spacing_mm": None,
            "intensity": {"name": "reference"},
        },
    )
    np.testing.assert_array_equal(images[0, 0], stored)


def test_the_workflow_watches_and_counts_the_pictures_of_the_studys_sites(settings, add):
    add("elsewhere/glioma/c.png", 9)
    add("south/glioma/.hidden.png", 9)
    listed = list_source_files(settings)
    assert sorted(listed) == sorted(case.images[0] for case in find(settings).values())
    alone = [list_source_files(settings_of_site(settings, site)) for site in ("north", "south")]
    assert [path for paths in alone for path in paths] == listed
    assert count_cases(settings) == {"north": 2, "south": 2}
    assert count_left_out(settings) == {"elsewhere": 1}


def test_a_site_has_the_cases_that_it_has_among_others(settings):
    alone = [find(settings_of_site(settings, site)) for site in ("north", "south")]
    assert alone[0] | alone[1] == find(settings)


def test_the_digest_of_a_case_changes_with_its_picture_and_its_class(settings, add):
    before = {name: case.sha256 for name, case in find(settings).items()}
    add("south/normal/b.PNG", 77)
    settings["class_folders"]["class_map"] |= {"glioma": "normal"}
    after = {name: case.sha256 for name, case in find(settings).items()}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"south-normal-b", "south-glioma-b"}


def test_copies_at_one_site_are_one_patient(settings, add):
    add("south/glioma/copy.png", 6)
    add("south/normal/copy.png", 6)
    settings["class_folders"]["class_map"] |= {"glioma": "normal"}
    cases = find(settings)
    assert cases["south-normal-copy"].patient == cases["south-glioma-copy"].patient


def test_one_picture_under_two_classes_is_refused(settings, add):
    add("south/glioma/copy.png", 20)
    add("south/normal/copy.png", 20)
    (problem,) = problems_of(settings)
    assert "normal/copy.png: is 'normal', but" in problem
    assert problem.endswith("is 'glioma'; remove the one that is wrong")


def test_one_picture_at_two_sites_is_a_copy(settings, add):
    add("north/Testing/no_tumor/c.png", 20)
    add("south/normal/c.png", 20)
    (problem,) = describe_copies(open_source(settings).find_cases())
    assert "one of case north-Testing-no_tumor-c of another patient" in problem


def test_class_folders_without_a_class_are_all_said_with_their_number_of_pictures(settings, add):
    settings["class_folders"]["class_map"] = {}
    add("south/pituitary/x.png", 30)
    problems = problems_of(settings)
    assert len(problems) == 3
    assert problems[0].startswith("class name 'glioma_tumor' (1 case(s): 1 at site north)")
    assert problems[0].endswith('add "glioma_tumor": glioma to class_folders.class_map')


def test_a_picture_in_no_class_folder_is_refused(settings, add):
    path = add("south/x.png", 30)
    (problem,) = problems_of(settings)
    assert problem.startswith(f"{path}: stands in no class folder")


def test_two_pictures_of_one_case_name_are_refused(settings, add):
    add("south/normal/b.jpg", 30)
    (problem,) = problems_of(settings)
    assert "has the case name south-normal-b of" in problem


def test_a_site_without_pictures_is_refused(settings):
    (problem,) = problems_of(settings | {"sites": ["north", "south", "east"]})
    assert "no picture of site 'east'" in problem


def test_a_picture_that_is_none_is_refused_by_name(settings, tmp_path):
    path = tmp_path / "pictures" / "south" / "normal" / "b.PNG"
    path.write_bytes(path.read_bytes()[:60])
    (problem,) = problems_of(settings)
    assert problem.startswith(f"site south: {path}: ")


def test_a_link_that_leads_out_of_the_cohort_is_refused(settings, add, tmp_path):
    outside = add("../outside.png", 40)
    link = tmp_path / "pictures" / "south" / "normal" / "link.png"
    link.symlink_to(outside)
    (problem,) = problems_of(settings)
    assert problem.startswith(f"site south: {link}: a link that leads out of")


@pytest.mark.parametrize("name", ["a{b}.png", "a;b.png"])
def test_a_name_that_the_workflow_cannot_hold_is_refused(settings, add, name):
    add(f"south/normal/{name}", 30)
    with pytest.raises(StudyError, match="may hold none of"):
        list_source_files(settings)


def test_a_folder_that_is_not_given_or_not_there_is_refused(settings, tmp_path):
    with pytest.raises(StudyError, match="add --config cohort_root=PATH"):
        list_source_files(settings | {"root": None})
    with pytest.raises(StudyError, match="no folder at"):
        list_source_files(settings | {"root": str(tmp_path / "nowhere")})


def test_the_index_of_pictures_reads_back(settings, tmp_path):
    write_cases(tmp_path / "index.tsv", find(settings).values())
    assert {case.case: case for case in read_cases(tmp_path / "index.tsv")} == find(settings)
