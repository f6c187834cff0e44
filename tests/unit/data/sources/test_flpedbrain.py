"""The published FLPedBrain files as a cohort: which file and which row a case is, and what is refused."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from fedpedbrain.base.errors import CohortError, StudyError
from fedpedbrain.data.sources.flpedbrain.fetching import fetch_site_files
from fedpedbrain.data.sources.source import open_source
from fedpedbrain.data.sources.source_files import count_cases, list_source_files, settings_of_site
from fedpedbrain.study.strategy_facts import merged_block
from fedpedbrain.study.study import load_study
from flpedbrain_files import SHARED_NORMALS, make_cases, published_files, site_file, write_dict
from hub_server import Hub

SITES = {"AA": ([1, 2, 3, 4], [1, 2, 3, 4]), "BB": ([4, 4, 2, 1, 1, 1, 1, 1], [3, 3, 3, 2])}


@pytest.fixture
def folder(tmp_path):
    """Two sites and the shared normal cases."""
    root = tmp_path / "published"
    root.mkdir()
    for name, content in published_files(SITES).items():
        (root / name).write_bytes(content)
    return root


@pytest.fixture
def settings(config, folder):
    """Argument of ``open_source`` for the folder."""
    cohort = config["cohort"] | {"source": "flpedbrain", "sites": {"training": ["AA"], "external": ["BB"]}}
    block = config["flpedbrain"] | {"voxel_spacing_mm": [4.0, 2.0, 1.0], "orientation": "PLS"}
    settings = {"cohort": cohort, "root": str(folder), "sites": ["AA", "BB"], "sites_before": []}
    return settings | {"flpedbrain": block, "receipts": []}


def cases_of(settings, **changes):
    settings["flpedbrain"] |= changes
    return open_source(settings).find_cases()


def assert_refused(settings, *words, **changes):
    """Refused with lines that have these words, and no other lines."""
    with pytest.raises(StudyError) as refusal:
        cases_of(settings, **changes)
    lines = str(refusal.value).splitlines()
    assert len(lines) == len(words)
    for line, word in zip(lines, words, strict=True):
        assert word in line


# Cases.


def test_every_row_of_both_parts_is_a_case_with_its_class(settings):
    cases = cases_of(settings, normal_fraction=0)
    assert [case.case for case in cases[:8]] == [
        f"AA-{part}-{row:04d}" for part in ("train", "val") for row in range(4)
    ]
    assert [case.class_name for case in cases[:4]] == ["ependymoma", "DIPG", "medulloblastoma", "pilocytic_astrocytoma"]
    assert [case.site for case in cases] == ["AA"] * 8 + ["BB"] * 12
    assert all(case.patient == case.case for case in cases)
    assert len({case.sha256 for case in cases}) == len(cases)
    assert (cases[0].shape, cases[0].spacing_mm) == ((16, 32, 24), (4.0, 2.0, 1.0))


def test_a_case_is_its_row_whichever_part_is_read(settings):
    both = cases_of(settings, normal_fraction=0)
    assert cases_of(settings, site_parts={"AA": ["val"]}) == both[4:]


def test_voxels_are_those_of_the_row_in_the_stated_geometry(settings):
    source = open_source(settings)
    images, masks, _ = make_cases(SITES["AA"][1], seed=1)
    case = next(case for case in source.find_cases() if case.case == "AA-val-0002")
    volume = source.read_case(case)
    assert np.array_equal(sitk.GetArrayFromImage(volume.images[0]), images[2].transpose(2, 0, 1))
    assert np.array_equal(sitk.GetArrayFromImage(volume.mask), masks[2].transpose(2, 0, 1))
    assert volume.images[0].GetSpacing() == (1.0, 2.0, 4.0)
    assert case.orientation == "", "the config's word for right and left is no knowledge of them"


@pytest.mark.parametrize("orientation", ["PLS", "ALS", "LPS", "SRA"])
def test_an_orientation_says_where_the_stored_axes_lead(settings, orientation):
    settings["flpedbrain"]["orientation"] = orientation
    source = open_source(settings)
    case = source.find_cases()[0]
    image = sitk.DICOMOrient(source.read_case(case).images[0], "LPS")
    stored = make_cases(SITES["AA"][0], seed=0)[0][0]
    letters = {letter: axis for axis, letter in enumerate(orientation)}
    expected = stored.transpose([letters.get(one, letters.get(other)) for one, other in ("SI", "PA", "LR")])
    flips = tuple(axis for axis, letter in enumerate("IAR") if letter in letters)
    assert np.array_equal(sitk.GetArrayFromImage(image), np.flip(expected, flips))


def test_images_alone_are_read_where_no_region_is_asked_for(settings):
    settings["cohort"]["regions"] = []
    source = open_source(settings)
    case = source.find_cases()[0]
    assert case.mask == ""
    assert source.read_case(case).mask is None


def test_classes_are_unknown_where_none_is_asked_for(settings):
    settings["cohort"] |= {"classes": [], "normal_class": None}
    assert {case.class_name for case in cases_of(settings, normal_fraction=0)} == {""}


def test_the_digest_is_of_image_mask_and_label(settings, folder):
    path = folder / "AA_data_uint8_train.npy"
    before = [case.sha256 for case in cases_of(settings, normal_fraction=0)[:4]]
    images, masks, labels = make_cases(SITES["AA"][0], seed=0)
    images[0, 0, 0, 0] += 1
    masks[1, 0, 0, 0] = 1
    labels[2] = 1
    path.write_bytes(write_dict({"xs_uint8": images, "ys_uint8": masks, "label_classes": labels}))
    after = [case.sha256 for case in cases_of(settings, normal_fraction=0)[:4]]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, False, False, True]


def test_one_image_twice_at_a_site_is_one_patient(settings, folder):
    images, masks, labels = make_cases([1, 2, 3], seed=0)
    images[2], images[1] = images[0], 0
    content = {"xs_uint8": images, "ys_uint8": masks, "label_classes": labels}
    (folder / "AA_data_uint8_train.npy").write_bytes(write_dict(content))
    cases = {case.case: case.patient for case in cases_of(settings)}
    assert cases["AA-train-0002"] == "AA-train-0000"
    # Blank ones are all alike.
    assert cases["AA-train-0001"] == "AA-train-0001"


def test_cases_are_left_out_by_their_name(settings):
    everyone = cases_of(settings)
    assert cases_of(settings, left_out_cases=["AA-train-0001"]) == [*everyone[:1], *everyone[2:]]
    assert_refused(settings, "there is no case 'AA-train-0009'", left_out_cases=["AA-train-0009"])


# Normal cases.


def normals_of(cases, site):
    return [case for case in cases if case.site == site and case.class_name == "normal"]


def test_normal_cases_are_a_fraction_of_the_tumour_cases_of_a_part(settings):
    cases = cases_of(settings, normal_fraction=0.3)
    # 0.3 x 4 = 1.2, 0.3 x 8 = 2.4
    counts = {site: [f"{site}-normal-{part}" for part in ("train", "val")] for site in SITES}
    found = {site: [case.case[:-5] for case in normals_of(cases, site)] for site in SITES}
    assert found["AA"] == counts["AA"]
    assert found["BB"] == [counts["BB"][0], *counts["BB"]]


def test_no_two_sites_get_the_same_shared_normal_case(settings):
    cases = cases_of(settings, normal_fraction=0.6)
    places = [case.images[0] for site in SITES for case in normals_of(cases, site)]
    assert len(places) == 2 + 2 + 5 + 2
    assert len(set(places)) == len(places)


def test_the_draw_is_of_the_seed_and_leaves_earlier_sites_theirs(settings):
    first = [case.images for case in normals_of(cases_of(settings, normal_fraction=0.5), "AA")]
    assert [case.images for case in normals_of(cases_of(settings), "AA")] == first
    settings["sites"] = ["AA"]
    assert [case.images for case in cases_of(settings) if case.class_name == "normal"] == first
    others = [
        [case.images for case in cases_of(settings, seed=seed) if case.class_name == "normal"] for seed in range(5)
    ]
    assert any(other != first for other in others)


def test_a_site_has_the_cases_that_it_has_among_others(settings):
    together = cases_of(settings, normal_fraction=0.6)
    alone = [open_source(settings_of_site(settings, site)).find_cases() for site in SITES]
    assert [case for cases in alone for case in cases] == together


def test_a_site_knows_of_others_the_normal_cases_that_are_dealt_out_before_its_own(settings):
    names = {"AA_data_uint8_val.npy": "1" * 64, "BB_data_uint8_val.npy": "2" * 64}
    left_out = {"left_out_cases": ["AA-train-0001", "BB-val-0002"], "site_parts": {"BB": ["val"]}, "sha256": names}
    settings["flpedbrain"] |= left_out
    first, second = (settings_of_site(settings, site) for site in SITES)
    assert (first["sites"], first["sites_before"]) == (["AA"], [])
    assert (second["sites"], second["sites_before"]) == (["BB"], ["AA"])
    own = {"left_out_cases": ["AA-train-0001"], "site_parts": {}, "sha256": {"AA_data_uint8_val.npy": "1" * 64}}
    assert first["flpedbrain"] == settings["flpedbrain"] | own
    assert second["flpedbrain"] == settings["flpedbrain"] | {"left_out_cases": ["BB-val-0002"]}
    # Another site at the end is none of their business.
    assert settings_of_site(settings | {"sites": ["AA", "BB", "CC"]}, "BB") == second
    for alone in ({"normals": "site"}, {"normal_fraction": 0}):
        assert settings_of_site(settings | {"flpedbrain": settings["flpedbrain"] | alone}, "BB")["sites_before"] == []


def test_what_is_wrong_with_an_earlier_site_is_said_of_that_site_alone(settings):
    # BB wants 10 of 8 shared ones, of which AA takes 5.
    settings["flpedbrain"] |= {"normal_fraction": 1.2, "parts": ["train"]}
    assert_refused(settings | {"sites": ["BB"]}, "site BB: ")
    cases = cases_of(settings | {"sites": ["AA"], "sites_before": ["BB"]})
    assert len(normals_of(cases, "AA")) == 5


def test_a_sites_own_normal_cases_come_before_the_shared_ones(settings, folder):
    (folder / "AA_normals_uint8_train.npy").write_bytes(site_file([0] * 5, seed=77))
    names = {
        mode: [case.images[0].split("#")[0] for case in normals_of(cases_of(settings, normals=mode), "AA")]
        for mode in ("auto", "shared")
    }
    assert names["auto"] == ["AA_normals_uint8_train.npy", SHARED_NORMALS["val"]]
    assert names["shared"] == [SHARED_NORMALS["train"], SHARED_NORMALS["val"]]
    assert_refused(settings, "no file AA_normals_uint8_val.npy with normal cases of site AA", normals="site")


def test_of_a_sites_own_normal_cases_all_are_taken_where_they_are_too_few(settings, folder, caplog):
    (folder / "AA_normals_uint8_train.npy").write_bytes(site_file([0], seed=77))
    with caplog.at_level("WARNING", logger="fedpedbrain"):
        names = [case.case for case in normals_of(cases_of(settings, normal_fraction=0.5), "AA")]
    assert names[0] == "AA-normal-train-0000"
    assert [name[:13] for name in names[1:]] == ["AA-normal-val"] * 2
    assert "AA_normals_uint8_train.npy: 2 normal cases wanted, all 1 taken" in caplog.text


def test_too_few_shared_normal_cases_are_refused_with_the_numbers(settings):
    # 8 shared ones: AA takes 4, BB wants 8.
    words = "4 normal cases are left, 8 are wanted for 8 tumour cases; lower flpedbrain.normal_fraction"
    assert_refused(settings, f"site BB: {SHARED_NORMALS['train']}: {words}", normal_fraction=1.0)


# Files.


def test_only_the_files_that_the_sites_need_are_watched(settings, folder):
    (folder / "CC_data_uint8_train.npy").write_bytes(b"of another site")
    assert {path.rsplit("/", 1)[1] for path in list_source_files(settings)} == set(published_files(SITES))
    settings["flpedbrain"]["normal_fraction"] = 0
    assert not [path for path in list_source_files(settings) if "normals" in path]


@pytest.mark.parametrize("name", ["AA_data_uint8_val.npy", "BB_data_uint8_train.npy", SHARED_NORMALS["val"]])
def test_a_missing_file_is_named(settings, folder, name):
    (folder / name).unlink()
    with pytest.raises(StudyError, match=rf"^{folder}: no file .*{re.escape(name)}"):
        list_source_files(settings)


def test_a_folder_that_is_not_there_is_named(settings):
    with pytest.raises(StudyError, match=r"^cohort_root: no folder at /nowhere"):
        list_source_files(settings | {"root": "/nowhere"})


def test_a_hub_without_a_revision_is_refused_and_cases_are_not_counted(settings):
    with pytest.raises(StudyError, match=r"^flpedbrain\.revision: which commit of edhlee/FLPedBrain-processed"):
        list_source_files(settings | {"root": None})
    with pytest.raises(StudyError, match="name the sites"):
        count_cases(settings)


def test_a_file_with_another_digest_than_the_config_names_is_refused(settings, folder):
    digest = hashlib.sha256((folder / "AA_data_uint8_val.npy").read_bytes()).hexdigest()
    cases_of(settings, sha256={"AA_data_uint8_val.npy": digest})
    assert_refused(settings, "AA_data_uint8_train.npy: expected SHA-256", sha256={"AA_data_uint8_train.npy": digest})


IMAGES, MASKS, LABELS = make_cases([1, 2, 3, 4], seed=0)
GOOD = {"xs_uint8": IMAGES, "ys_uint8": MASKS, "label_classes": LABELS}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"xs_uint8": IMAGES.astype(np.float32)}, "expected xs_uint8 as uint8 (N, H, W, D), found float32"),
        ({"xs_uint8": IMAGES[0]}, "expected xs_uint8 as uint8 (N, H, W, D), found uint8 (32, 24, 16)"),
        ({"ys_uint8": MASKS[:, :-1]}, "expected ys_uint8 of the shape (4, 32, 24, 16)"),
        ({"ys_uint8": MASKS * 0.5}, "in whole numbers from 0 on, found float64"),
        ({"label_classes": LABELS[:3]}, "expected label_classes as 4 integers, found int64 (3,)"),
        ({"label_classes": np.eye(4)}, "expected label_classes as 4 integers, found float64 (4, 4)"),
        ({"label_classes": ["a", "b", "c", "d"]}, "expected label_classes as 4 integers"),
        ({"label_classes": np.array([1, 2, 3, 5])}, "row 3 has label 5, flpedbrain.label_names has names for 0 to 4"),
        ({"label_classes": np.array([1, 2, 3, -1])}, "row 3 has label -1"),
        ({"ys_uint8": MASKS * np.uint8(3)}, "row 0: mask label 3 belongs to no region"),
    ],
)
def test_a_file_that_is_none_of_cases_is_refused(settings, folder, changes, words):
    (folder / "AA_data_uint8_train.npy").write_bytes(write_dict(GOOD | changes))
    with pytest.raises(CohortError) as refusal:
        cases_of(settings)
    assert words in str(refusal.value)
    assert all(line.startswith("site AA: ") for line in str(refusal.value).splitlines())


def test_other_keys_are_refused_with_those_that_are_known(settings, folder):
    (folder / "AA_data_uint8_train.npy").write_bytes(write_dict({"images": IMAGES}))
    words = "expected the keys xs_uint8, ys_uint8, label_classes or train_x, train_seg, train_y or val_x"
    assert_refused(settings, f"{words}, val_seg, val_y, found images")


def test_a_class_that_the_study_does_not_have_is_refused(settings):
    settings["cohort"]["classes"] = ["normal", "DIPG", "ependymoma", "medulloblastoma"]
    with pytest.raises(CohortError, match="row 3 is 'pilocytic_astrocytoma', which is none of"):
        cases_of(settings)


def test_labels_may_be_a_list(settings, folder):
    (folder / "AA_data_uint8_train.npy").write_bytes(write_dict(GOOD | {"label_classes": LABELS.tolist()}))
    assert [case.class_name for case in cases_of(settings)[:2]] == ["ependymoma", "DIPG"]


# From a hub.

REPOSITORY = "datasets/clinic/flpedbrain"


@pytest.fixture
def hub(use_hub, settings):
    """A gated data set with the files of both sites and a site more; the settings fetch from there."""
    hub = Hub()
    for name, content in published_files(SITES | {"CC": ([1], [1])}).items():
        hub.store(REPOSITORY, name, content, revision="v1")
    hub.gated.add(REPOSITORY)
    settings["flpedbrain"] |= {"repository": "clinic/flpedbrain", "revision": "v1"}
    with hub.serve() as url:
        use_hub(hub, url)
        yield hub


@pytest.fixture
def token(hub, monkeypatch):
    """The token that opens the data set."""
    monkeypatch.setenv("HF_TOKEN", hub.token)


def fetch(settings, tmp_path, site="AA"):
    path = tmp_path / f"{site}.json"
    fetch_site_files(site, settings["flpedbrain"], path)
    return path


def fetched(hub):
    return {path.rsplit("/", 1)[1] for method, path in hub.requests if method == "GET"}


def test_fetched_files_give_the_cases_of_a_folder_of_them(hub, token, settings, tmp_path):
    expected = cases_of(settings)
    receipts = [str(fetch(settings, tmp_path, site)) for site in SITES]
    assert cases_of(settings | {"root": None, "receipts": receipts}) == expected
    assert fetched(hub) == set(published_files(SITES))


def test_of_two_files_of_normal_cases_the_preferred_one_is_fetched(hub, token, settings, tmp_path):
    hub.store(REPOSITORY, "AA_normals_uint8_train.npy", site_file([0] * 5, seed=77), revision="v1")
    fetch(settings, tmp_path)
    own = {"AA_data_uint8_train.npy", "AA_data_uint8_val.npy", "AA_normals_uint8_train.npy"}
    assert fetched(hub) == {*own, SHARED_NORMALS["val"]}


def test_a_receipt_says_what_was_fetched(hub, token, settings, tmp_path):
    settings["flpedbrain"]["normal_fraction"] = 0
    receipt = json.loads(fetch(settings, tmp_path).read_text())
    content = published_files(SITES)["AA_data_uint8_val.npy"]
    entry = receipt["files"]["AA_data_uint8_val.npy"]
    assert receipt["repository"] == "hf://datasets/clinic/flpedbrain@v1"
    assert (entry["size"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert Path(entry["path"]).read_bytes() == content


def assert_not_fetched(settings, tmp_path, words):
    with pytest.raises(StudyError) as refusal:
        fetch(settings, tmp_path)
    assert words in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1
    assert not (tmp_path / "AA.json").exists()


def test_without_a_token_the_terms_are_named(hub, settings, tmp_path):
    assert_not_fetched(settings, tmp_path, "access is gated; accept its terms on the hub and set HF_TOKEN")


def test_a_revision_that_is_not_there_is_named(hub, token, settings, tmp_path):
    settings["flpedbrain"]["revision"] = "v2"
    assert_not_fetched(settings, tmp_path, "hf://datasets/clinic/flpedbrain@v2: the repository has no revision 'v2'")


def test_a_file_that_the_hub_does_not_have_is_named(hub, token, settings, tmp_path):
    del hub.files[REPOSITORY, "v1", "AA_data_uint8_val.npy"]
    assert_not_fetched(settings, tmp_path, "hf://datasets/clinic/flpedbrain@v1: no file AA_data_uint8_val.npy")
    assert fetched(hub) == set()


def test_another_content_than_the_hub_says_is_refused(hub, token, settings, tmp_path):
    hub.store(REPOSITORY, "AA_data_uint8_val.npy", b"another", revision="v1", sha256="0" * 64)
    assert_not_fetched(settings, tmp_path, f"AA_data_uint8_val.npy: expected SHA-256 {'0' * 64}, found")


def test_the_digest_of_the_config_counts_more_than_the_hubs(hub, token, settings, tmp_path):
    name = "AA_data_uint8_val.npy"
    digest = hashlib.sha256(published_files(SITES)[name]).hexdigest()
    hub.stored[REPOSITORY, "v1", name] = "0" * 64
    settings["flpedbrain"]["sha256"] = {name: digest}
    fetch(settings, tmp_path)
    settings["flpedbrain"]["sha256"] = {name: "1" * 64}
    (tmp_path / "AA.json").unlink()
    assert_not_fetched(settings, tmp_path, f"{name}: expected SHA-256 {'1' * 64}, found {digest}")


def test_files_that_are_gone_from_the_cache_are_named_with_their_receipt(hub, token, settings, tmp_path):
    receipt = fetch(settings, tmp_path)
    path = json.loads(receipt.read_text())["files"]["AA_data_uint8_val.npy"]["path"]
    Path(path).unlink()
    with pytest.raises(StudyError, match=rf"^{path}: gone.*{receipt}; delete that receipt and run again"):
        open_source(settings | {"root": None, "sites": ["AA"], "receipts": [str(receipt)]})


# The published study.


@pytest.fixture
def load_published(config, schema_path, repository):
    """``load_published(flpedbrain=..., cohort=...)``: the study of ``studies/flpedbrain.yaml`` with changed blocks."""

    def _load(**changes):
        overlay = yaml.safe_load((repository / "studies" / "flpedbrain.yaml").read_text())
        merged = merged_block(merged_block(config, {key: overlay[key] for key in overlay if key != "arms"}), changes)
        return load_study(merged | {"arms": overlay["arms"]}, schema_path)

    return _load


def test_the_published_study_trains_two_sites_first_and_then_all_sixteen(load_published):
    study = load_published()
    assert (len(study.training_sites), study.external_sites, study.num_rounds) == (16, ["TK", "AU"], 125)
    assert study.fetched_sites == study.sites
    for name in ("fedavg", "fedprox"):
        arm = study.arms[name]
        assert arm.sites_in_round(0, 25) == ["SE", "ST"]
        assert arm.sites_in_round(0, 26) == sorted(study.training_sites)
        assert [phase.learning_rate for phase in arm.phases] == [1e-4, 1e-5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flpedbrain": {"revision": "main"}}, "expected a commit or a tag of the data set; a branch would move"),
        ({"flpedbrain": {"orientation": "PPS"}}, "expected three letters, one each of R or L"),
        ({"flpedbrain": {"site_parts": {"XX": ["val"]}}}, "flpedbrain.site_parts: 'XX' is none of cohort.sites"),
        (
            {"flpedbrain": {"left_out_cases": ["XX-val-0001"]}},
            "flpedbrain.left_out_cases: 'XX-val-0001' is of none of cohort.sites",
        ),
        (
            {"flpedbrain": {"label_names": ["healthy", "DIPG"]}},
            "flpedbrain.normal_fraction: normal cases are asked",
        ),
        ({"cohort": {"channels": ["T1w", "T2w"]}}, "cohort.channels: the flpedbrain source has one channel, found 2"),
    ],
)
def test_a_block_that_contradicts_itself_is_refused(load_published, changes, message):
    with pytest.raises(StudyError) as refusal:
        load_published(**changes)
    assert message in str(refusal.value)
