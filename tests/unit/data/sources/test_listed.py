"""A cohort that a table lists, in every form; the simulated cohort written out and read back."""

import csv
from dataclasses import replace
from pathlib import Path

import dicom_files
import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from cohort_files import WRITERS
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import write_table
from fedpedbrain.data.shards import preprocess_images, preprocess_mask
from fedpedbrain.data.sources.source import open_source
from fedpedbrain.data.sources.source_files import (
    count_cases,
    count_left_out,
    digest_of_rows,
    list_source_files,
    settings_of_site,
)
from fedpedbrain.evaluation.dice import dice_coefficient
from fedpedbrain.study.study import load_study
from opened_files import counted_opens

REPOSITORY = Path(__file__).resolve().parents[4]
NUM_CASES = {"north": 3, "west": 3}
COLUMNS = ("case", "patient", "site", "class", "image", "mask")


def settings_of(config: dict, schema_path: Path, source: str, root: Path | None = None, **blocks) -> dict:
    config["cohort"] |= {"source": source, "sites": {"training": ["north"], "external": ["west"]}}
    config["cohort_root"] = None if root is None else str(root)
    config["phantom"] |= {"cases": NUM_CASES, "normal_fraction": 0.3}
    for key, block in blocks.items():
        config[key] = config[key] | block
    return load_study(config, schema_path).source_settings


def write_listing(root: Path, rows: list[dict[str, str]], name: str = "cases.tsv") -> None:
    with open(root / name, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def row_of(case, image: Path, mask: Path | None, root: Path) -> dict[str, str]:
    paths = {"image": str(image.relative_to(root)), "mask": str(mask.relative_to(root)) if mask else "n/a"}
    return {"case": case.case, "patient": case.patient, "site": case.site, "class": case.class_name, **paths}


@pytest.fixture(scope="module")
def simulated():
    """Cases of the simulated cohort and their volumes, of which some have no tumour."""
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    source = open_source(settings_of(config, REPOSITORY / "rules/schemas/config.schema.yaml", "phantom"))
    cases = source.find_cases()
    assert {case.class_name == "normal" for case in cases} == {True, False}
    return [(case, source.read_case(case)) for case in cases]


@pytest.mark.parametrize("form", WRITERS)
def test_the_simulated_cohort_comes_back_from_every_form(form, simulated, tmp_path, schema_path, config):
    rows = []
    for case, volume in simulated:
        image, mask = WRITERS[form](tmp_path / case.case, volume.images[0], volume.mask)
        rows.append(row_of(case, image, mask, tmp_path))
    write_listing(tmp_path, rows)
    source = open_source(settings_of(config, schema_path, "listed", tmp_path))
    assert_same_cohort(source, simulated, config)


def test_the_simulated_cohort_comes_back_from_a_bids_folder(simulated, tmp_path, schema_path, config):
    rows = []
    for case, volume in simulated:
        subject = "sub-" + case.case.replace("-", "")
        image, mask = WRITERS["nifti"](tmp_path / "written" / case.case, volume.images[0], volume.mask)
        for path, place in (
            (image, f"{subject}/anat/{subject}_T2w.nii.gz"),
            (mask, f"derivatives/masks/{subject}/anat/{subject}_mask.nii.gz"),
        ):
            (tmp_path / place).parent.mkdir(parents=True)
            path.rename(tmp_path / place)
        rows.append({"participant_id": subject, "site": case.site, "diagnosis": case.class_name})
    write_table(tmp_path / "participants.tsv", ("participant_id", "site", "diagnosis"), rows)
    source = open_source(settings_of(config, schema_path, "bids", tmp_path))
    named = [
        (replace(case, case=row["participant_id"]), volume) for (case, volume), row in zip(simulated, rows, strict=True)
    ]
    assert_same_cohort(source, named, config)


def assert_same_cohort(source, simulated, config) -> None:
    """The source has these cases, and their images and masks on the grid, the right way up and round."""
    preprocessing, regions = config["preprocessing"] | {"grid": [24, 48, 48]}, config["cohort"]["regions"]
    for (case, volume), found in zip(simulated, source.find_cases(), strict=True):
        assert (found.case, found.site, found.class_name) == (case.case, case.site, case.class_name)
        images, frame = preprocess_images(volume, preprocessing)
        again = source.read_case(found)
        images_again, frame_again = preprocess_images(again, preprocessing)
        truth, back = (preprocess_mask(item.mask, at, regions) for item, at in ((volume, frame), (again, frame_again)))
        assert dice_coefficient(back, truth) >= 0.99
        difference = np.abs(images_again.astype(float) - images).mean()
        for axis in (1, 2, 3):
            mirrored = np.abs(np.flip(images_again, axis).astype(float) - images).mean()
            assert difference < mirrored / 4, (case.case, axis)


def test_a_listed_nifti_file_is_read_once_for_index_and_for_shard(simulated, tmp_path, schema_path, config):
    rows, paths = [], []
    for case, volume in simulated[:2]:
        image, mask = WRITERS["nifti"](tmp_path / case.case, volume.images[0], volume.mask)
        rows.append(row_of(case, image, mask, tmp_path))
        paths += [image, mask]
    write_listing(tmp_path, rows)
    settings = settings_of(config, schema_path, "listed", tmp_path)
    source = open_source(settings | {"sites": sorted({row["site"] for row in rows})})
    with counted_opens(paths) as opened:
        cases = source.find_cases()
    assert opened == dict.fromkeys(paths, 1)
    with counted_opens(paths) as opened:
        for case in cases:
            source.read_case(case)
    assert opened == dict.fromkeys(paths, 1)


@pytest.fixture
def cohort(tmp_path, config, schema_path):
    """Four listed cases a site, NPY; gives the folder, the rows and what opens the source."""
    rng, rows = np.random.default_rng(0), []
    for number in range(8):
        folder = tmp_path / f"case{number}"
        mask = np.zeros((6, 5, 4), np.uint8)
        mask[2:4, 2:4, 1:3] = 1
        folder.mkdir()
        np.save(folder / "image.npy", rng.integers(1, 200, (6, 5, 4)).astype(np.uint8))
        np.save(folder / "mask.npy", mask)
        names = {"case": f"c{number}", "patient": f"p{number}", "site": "north" if number < 4 else "west"}
        paths = {"image": f"case{number}/image.npy", "mask": f"case{number}/mask.npy"}
        rows.append({**names, "class": "DIPG", **paths})

    class Cohort:
        folder = tmp_path

        def settings(self, **listed) -> dict:
            write_listing(tmp_path, rows)
            return settings_of(config, schema_path, "listed", tmp_path, listed=listed)

        def open(self, **listed):
            return open_source(self.settings(**listed))

    cohort = Cohort()
    cohort.rows = rows
    return cohort


def test_every_row_of_the_studys_sites_is_a_case(cohort):
    cohort.rows[7]["site"] = "elsewhere"
    assert [case.case for case in cohort.open().find_cases()] == ["c0", "c1", "c2", "c3", "c4", "c5", "c6"]
    assert count_left_out(cohort.settings()) == {"elsewhere": 1}
    assert count_cases(cohort.settings()) == {"north": 4, "west": 3}


def test_the_workflow_watches_every_file_of_a_site_and_its_rows(cohort):
    north, west = (settings_of_site(cohort.settings(), site) for site in ("north", "west"))
    paths = [str(cohort.folder / f"case{number}" / name) for number in range(4) for name in ("image.npy", "mask.npy")]
    assert list_source_files(north) == paths
    before = digest_of_rows(north), digest_of_rows(west)
    cohort.rows[0] |= {"class": "normal"}
    cohort.rows.reverse()
    cohort.settings()
    assert digest_of_rows(north) != before[0]
    assert digest_of_rows(west) == before[1]


def test_a_site_has_the_cases_that_it_has_among_others(cohort):
    alone = [open_source(settings_of_site(cohort.settings(), site)).find_cases() for site in ("north", "west")]
    assert [case for cases in alone for case in cases] == cohort.open().find_cases()


def test_what_is_assumed_of_a_form_is_part_of_a_cases_digest(cohort, config, schema_path):
    before = cohort.open().find_cases()[0].sha256
    config["formats"]["npy"]["spacing_mm"] = [4.0, 1.0, 1.0]
    assert cohort.open().find_cases()[0].sha256 != before


def test_a_class_may_be_unknown(cohort):
    cohort.rows[0]["class"] = "n/a"
    assert cohort.open().find_cases()[0].class_name == ""


def test_a_normal_case_needs_no_mask(cohort):
    cohort.rows[0] |= {"class": "normal", "mask": "n/a"}
    case = cohort.open().find_cases()[0]
    assert (case.class_name, case.mask) == ("normal", "")


@pytest.mark.parametrize("class_name", ["DIPG", "n/a"])
def test_a_case_that_may_carry_a_tumour_needs_a_mask(cohort, class_name):
    cohort.rows[0] |= {"class": class_name, "mask": "n/a"}
    with pytest.raises(StudyError, match="site north, case c0: no mask, which would count as an empty one; name one"):
        cohort.open().find_cases()


def test_a_form_without_geometry_states_no_orientation(cohort):
    assert cohort.open().find_cases()[0].orientation == ""


def link_outside(cohort):
    outside = cohort.folder.parent / f"{cohort.folder.name}-outside.npy"
    outside.write_bytes((cohort.folder / "case0/image.npy").read_bytes())
    (cohort.folder / "case0/image.npy").unlink()
    (cohort.folder / "case0/image.npy").symlink_to(outside)


def shift_mask(cohort):
    volume = sitk.GetImageFromArray(np.load(cohort.folder / "case0/image.npy").transpose(2, 0, 1))
    sitk.WriteImage(volume, str(cohort.folder / "case0/image.nii.gz"))
    mask = sitk.GetImageFromArray(np.load(cohort.folder / "case0/mask.npy").transpose(2, 0, 1))
    mask.SetOrigin((1.0, 0.0, 0.0))
    sitk.WriteImage(mask, str(cohort.folder / "case0/mask.nii.gz"))
    cohort.rows[0] |= {"image": "case0/image.nii.gz", "mask": "case0/mask.nii.gz"}


def relabel(cohort):
    np.save(cohort.folder / "case0/mask.npy", np.full((6, 5, 4), 7, np.uint8))


WRONG_CASES = {
    "a mask label that no region has": (relabel, "mask label 7 belongs to no region"),
    "a mask one voxel off": (shift_mask, "origin, spacing or direction differ from image.nii.gz"),
    "a link out of the folder": (link_outside, "a link that leads out of"),
    "a path out of the folder": (lambda c: c.rows[0].update(image="../x.npy"), "a link that leads out of"),
    "a class outside the study's": (lambda c: c.rows[0].update({"class": "DIPGG"}), "class name 'DIPGG' (1 case(s)"),
    "a site without a case": (lambda c: [row.update(site="west") for row in c.rows], "no case of site 'north'"),
}


@pytest.mark.parametrize("name", WRONG_CASES)
def test_a_wrong_case_is_refused_by_site_and_name(cohort, name):
    spoil, message = WRONG_CASES[name]
    spoil(cohort)
    with pytest.raises(StudyError) as caught:
        cohort.open().find_cases()
    assert message in str(caught.value)


def test_of_a_dicom_file_that_a_table_names_the_whole_series_is_watched(cohort):
    files = dicom_files.write_series(cohort.folder / "series", dicom_files.sample_image(size=(4, 5, 6)))
    cohort.rows[0]["image"] = str(files[2].relative_to(cohort.folder))
    assert {str(file) for file in files} < set(list_source_files(cohort.settings()))


WRONG_TABLES = {
    "no table": (lambda text: None, "cases.tsv: missing"),
    "not UTF-8": (lambda text: text.replace("c0", "\xe9").encode("latin-1"), "not UTF-8 text"),
    "no column of sites": (lambda text: text.replace("site", "clinic", 1).encode(), "expected a column 'site'"),
    "a short row": (lambda text: (text + "c9\tp9\n").encode(), "line 10 has fewer cells"),
    "a case without a patient": (lambda text: text.replace("\tp0\t", "\t\t").encode(), "line 2 has no patient"),
    "a file that is not there": (
        lambda text: text.replace("case0/image", "case0/gone").encode(),
        "not there (1 in all)",
    ),
}


@pytest.mark.parametrize("name", WRONG_TABLES)
def test_a_wrong_table_is_refused_while_the_graph_is_built(cohort, name):
    spoil, message = WRONG_TABLES[name]
    settings, table = cohort.settings(), cohort.folder / "cases.tsv"
    content = spoil(table.read_text())
    table.unlink() if content is None else table.write_bytes(content)
    with pytest.raises(StudyError) as caught:
        list_source_files(settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cell_that_leads_out_of_the_folder_is_refused_before_anything_there_is_looked_at(cohort, monkeypatch):
    looks = "fedpedbrain.data.sources.listed.files.files_of_image"
    monkeypatch.setattr(looks, lambda path: pytest.fail(f"looked at {path}"))
    cohort.rows[0]["image"] = ".."
    with pytest.raises(StudyError, match="leads out of"):
        list_source_files(cohort.settings())


def test_a_link_inside_an_images_folder_is_refused(cohort):
    outside = cohort.folder.parent / f"{cohort.folder.name}-slice.png"
    outside.write_bytes(b"")
    folder = cohort.folder / "slices"
    folder.mkdir()
    (folder / "slice_00.png").symlink_to(outside)
    cohort.rows[0]["image"] = "slices"
    with pytest.raises(StudyError, match=r"slice_00\.png: a link that leads out of"):
        list_source_files(cohort.settings())
