import re

import pytest
from fedpedbrain.base.errors import StudyError
from fedpedbrain.study.scan_request import ScanRequest


def request(scan=None, inbox=None, model=None):
    return ScanRequest(scan and str(scan), inbox and str(inbox), model)


def test_a_scan_of_several_channels_is_several_paths():
    scans = request("/in/sub-9_T1w.nii.gz,/in/sub-9_T2w.nii.gz").scans
    ((name, paths),) = scans.items()
    assert paths == ["/in/sub-9_T1w.nii.gz", "/in/sub-9_T2w.nii.gz"]
    assert re.fullmatch("sub-9_T1w-[0-9a-f]{6}", name)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.2.840.113.1.nii.gz", "1.2.840.999.nii.gz"),
        ("p1/T2w.nii.gz", "p2/T2w.nii.gz"),
        ("T2w.nii.gz", "T2w.nii"),
        ("T1w.nii.gz,T2w.nii.gz", "T1w.nii.gz,FLAIR.nii.gz"),
    ],
)
def test_two_scans_have_two_names(one, other):
    assert list(request(one).scans) != list(request(other).scans)


@pytest.mark.parametrize(
    ("scan", "name"),
    [
        ("1.2.840.nii.gz", "1.2.840"),
        ("a.b.nii", "a.b"),
        ("brain.npy", "brain"),
        ("series", "series"),
        ("a {b} ä", "a_b_"),
    ],
)
def test_a_scan_keeps_what_of_its_name_can_stand_in_a_rule(scan, name):
    (found,) = request(scan).scans
    assert found.rsplit("-", 1)[0] == name


def test_without_a_scan_and_a_model_nothing_is_asked_for():
    assert request().scans == request().models == {}
    for incomplete in ({}, {"scan": "/in/a.nii"}, {"inbox": "/in"}, {"model": "/in/best.pth"}):
        assert not request(**incomplete).is_complete
    assert request("/in/a.nii", model="/in/best.pth").is_complete
    assert request(inbox="/in", model="/in/best.pth").is_complete


def test_scan_and_model_are_found_from_where_the_user_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = request("scan.nii.gz", model="results/best.pth")
    assert list(asked.scans.values()) == [[str(tmp_path / "scan.nii.gz")]]
    assert asked.models == {"best": str(tmp_path / "results" / "best.pth")}


# Inbox.


@pytest.fixture
def inbox(tmp_path):
    folder = tmp_path / "inbox"
    (folder / "series" / "deep").mkdir(parents=True)
    for name in ("series/1.dcm", "series/deep/2.dcm", "series/.DS_Store", "a.nii.gz", "a.json", "b.npy", ".hidden.nii"):
        (folder / name).touch()
    return folder


def test_every_file_and_folder_of_an_inbox_is_a_scan_but_what_converters_put_beside(inbox):
    paths = list(request(inbox=inbox).scans.values())
    assert paths == [[str(inbox / name)] for name in ("a.nii.gz", "b.npy", "series")]


def test_a_scan_beside_an_inbox_is_predicted_too(inbox):
    assert len(request("/in/c.nii.gz", inbox).scans) == 4


def test_a_folder_stands_for_all_files_in_it(inbox):
    asked = request(inbox=inbox)
    series = next(name for name in asked.scans if name.startswith("series-"))
    assert asked.files_of(series, "results") == [str(inbox / "series" / name) for name in ("1.dcm", "deep/2.dcm")]
    single = next(name for name in asked.scans if name.startswith("a-"))
    assert asked.files_of(single, "results") == [str(inbox / "a.nii.gz")]


DICOM = bytes(128) + b"DICM"


def test_a_dicom_file_stands_for_all_dicom_files_of_its_folder(tmp_path):
    for name in ("series/1", "series/2", "series/deep/3", "series/notes.pdf", "4"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"notes" if path.suffix else DICOM)
    asked = request(tmp_path / "series" / "2")
    (name,) = asked.scans
    assert asked.files_of(name, "results") == [str(tmp_path / "series" / part) for part in ("1", "2", "deep/3")]


def test_results_beside_a_scan_are_no_part_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    for path in ("1", "2", "results/segmentation.dcm"):
        (tmp_path / path).write_bytes(DICOM)
    for scan in ("1", "."):
        asked = request(scan)
        assert asked.files_of(next(iter(asked.scans)), "results") == [str(tmp_path / name) for name in "12"]


@pytest.mark.parametrize("broken", ["an empty file", "a dangling link"])
def test_what_cannot_be_read_is_left_to_the_scans_own_job(tmp_path, broken):
    (tmp_path / "1").write_bytes(DICOM)
    if broken == "an empty file":
        (tmp_path / "2").touch()
    else:
        (tmp_path / "2").symlink_to(tmp_path / "gone")
    asked = request(tmp_path / "1")
    (name,) = asked.scans
    assert asked.files_of(name, "results") == [str(tmp_path / "1")]


@pytest.mark.parametrize("start", [DICOM, b"\x08\x00\x05\x00"], ids=["with a preamble", "without one"])
def test_loose_dicom_files_in_an_inbox_are_refused_by_name(inbox, start):
    for number in range(5):
        (inbox / f"IM{number}").write_bytes(start)
    with pytest.raises(StudyError, match=r"inbox: .*/IM0 is a DICOM file beside the scans \(5 in all\); put the files"):
        request(inbox=inbox).check_files()


def test_dicom_files_in_folders_of_an_inbox_are_scans(inbox):
    (inbox / "series" / "1.dcm").write_bytes(DICOM)
    request(inbox=inbox).check_files()


def test_a_name_that_a_rule_would_take_for_a_wildcard_is_no_input_but_is_predicted(inbox):
    (inbox / "a {odd} name.nii.gz").touch()
    asked = request(inbox=inbox)
    odd = next(name for name in asked.scans if name.startswith("a_odd_name-"))
    assert asked.scans[odd] == [str(inbox / "a {odd} name.nii.gz")]
    assert asked.files_of(odd, "results") == []


def test_a_scan_keeps_its_name_whatever_else_comes_into_the_inbox(inbox):
    before = list(request(inbox=inbox).scans)
    (inbox / "0.nii.gz").touch()
    assert set(before) < set(request(inbox=inbox).scans)


# Models.


def test_models_are_named_by_the_user_or_by_the_parts_in_which_their_paths_differ():
    paths = [f"/r/models/{arm}/seed-0/best.pth" for arm in ("centralized", "fedavg")]
    assert request(model=",".join(paths)).models == dict(zip(("centralized", "fedavg"), paths, strict=True))
    named = request(model=f"mine={paths[0]},{paths[1]}").models
    assert named == {"mine": paths[0], "fedavg": paths[1]}


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/r/best.pth"], ["best"]),
        (["/r/model.v2.pth"], ["model_v2"]),
        (["/r/a.pth", "/r/b.pth"], ["a", "b"]),
        (["/r/a/seed-0/best.pth", "/r/b/seed-1/best.pth"], ["a-seed-0", "b-seed-1"]),
        (["/r/best.pth", "/r/a/best.pth"], ["best", "a"]),
        (["/r/x=1/best.pth"], ["best"]),
    ],
)
def test_names_from_paths(paths, names):
    assert request(model=",".join(paths)).models == dict(zip(names, paths, strict=True))


def test_two_models_of_one_name_are_refused():
    with pytest.raises(StudyError, match="model: two models have the name 'a'; name them: model=first=PATH"):
        _ = request(model="a=/r/x.pth,a=/r/y.pth").models


@pytest.mark.parametrize("model", ["seed-0/best.pth", "seed-0/round-003/global.pth", "seed-0/personal/north.pth"])
@pytest.mark.parametrize(("file", "find"), [("intensities.json", "intensities_of"), ("filters.json", "filters_of")])
def test_what_belongs_to_a_model_stands_beside_it_or_above(tmp_path, model, file, find):
    asked = request(model=f"m={tmp_path / model}")
    assert getattr(asked, find)("m") is None
    (tmp_path / "seed-0").mkdir()
    (tmp_path / "seed-0" / file).touch()
    assert getattr(asked, find)("m") == str(tmp_path / "seed-0" / file)


# What is not there.


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"scan": "{0}/none.nii.gz"}, r"scan: no file or folder .*/none\.nii\.gz; correct the path"),
        ({"inbox": "{0}/none"}, r"inbox: no folder .*/none; correct the path"),
        ({"inbox": "{0}"}, r"inbox: no scan in .*; put files or folders there"),
        ({"model": "a={0}/none.pth"}, r"model: no file .*/none\.pth; correct the path"),
        ({"model": "{0}"}, r"model: no file .*; correct the path"),
    ],
)
def test_what_is_not_there_is_refused_by_key_and_path(tmp_path, asked, match):
    filled = {key: value.format(tmp_path) for key, value in asked.items()}
    with pytest.raises(StudyError, match=match):
        request(**filled).check_files()
