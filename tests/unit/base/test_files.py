import csv
import errno
import json
import os
import stat
import sys
from pathlib import Path

import pytest
from fedpedbrain.base.errors import StudyError
from fedpedbrain.base.files import (
    check_sha256,
    files_below,
    read_table,
    remove_unfinished,
    replacing,
    sha256_of_file,
    write_json,
    write_table,
)


def test_a_finished_write_replaces_the_file(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def fail_half_way(path: Path, error: BaseException) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise error


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["failing", "interrupted"])
def test_a_write_that_does_not_end_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "result.txt"
    path.write_text("old")
    with pytest.raises(type(error)):
        fail_half_way(path, error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_cannot_say_what_it_holds_of_a_folder_is_written_to_all_the_same(tmp_path, monkeypatch):
    def fail_for_folders(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fail_for_folders)
    with replacing(tmp_path / "result.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "result.txt").read_text() == "new"


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the name of an open file")
def test_the_disk_holds_a_file_before_it_gets_its_name_and_then_the_name(tmp_path, monkeypatch):
    path, held = tmp_path / "result.txt", []
    monkeypatch.setattr(os, "fsync", lambda file: held.append((os.readlink(f"/proc/self/fd/{file}"), path.exists())))
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert held == [(str(temporary), False), (str(tmp_path), True)]


def test_what_a_killed_writer_left_is_deleted_and_nothing_else(tmp_path):
    path = tmp_path / "models" / "global.pth"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        left = temporary.with_name(temporary.name.replace(str(os.getpid()), "1"))
    # The second is a name that rsync gives to a file that it has not finished.
    kept = [path, tmp_path / ".1.2.840.dcm.Ab12Cd", tmp_path / "unfinished-2.txt"]
    for file in [left, *kept[1:]]:
        file.write_text("half")
    remove_unfinished(tmp_path)
    assert sorted(files_below(tmp_path)) == sorted(kept)


def test_missing_folders_are_made(tmp_path):
    with replacing(tmp_path / "a" / "b" / "c.txt") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "x"


@pytest.mark.parametrize("name", ["mask.nii.gz", "images.npy", "film.mp4"])
def test_the_temporary_name_keeps_what_writers_tell_the_format_by(tmp_path, name):
    with replacing(tmp_path / name) as temporary:
        temporary.touch()
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(name[name.index(".") :])


def test_sha256_is_that_of_the_bytes(tmp_path):
    path = tmp_path / "abc.bin"
    path.write_bytes(b"abc")
    # FIPS 180-2, example B.1.
    assert sha256_of_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_files_digest_is_checked_under_the_name_that_the_user_knows(tmp_path):
    (tmp_path / "temporary").write_bytes(b"weights")
    sha256 = sha256_of_file(tmp_path / "temporary")
    check_sha256(tmp_path / "temporary", None, "weights.pth")
    check_sha256(tmp_path / "temporary", sha256.upper(), "weights.pth")
    with pytest.raises(StudyError, match=rf"^weights\.pth: expected SHA-256 {'0' * 64}, found {sha256}"):
        check_sha256(tmp_path / "temporary", "0" * 64, "weights.pth")


def test_a_table_is_tab_separated_with_one_header(tmp_path):
    path = tmp_path / "table.tsv"
    write_table(path, ["case", "dice"], [{"case": "a", "dice": 0.5}, {"case": "b", "dice": 1}])
    assert path.read_bytes() == b"case\tdice\na\t0.5\nb\t1\n"
    assert read_table(path) == [{"case": "a", "dice": "0.5"}, {"case": "b", "dice": "1"}]


def test_floats_keep_every_digit(tmp_path):
    path = tmp_path / "table.tsv"
    write_table(path, ["value"], [{"value": 0.1 + 0.2}])
    assert float(read_table(path)[0]["value"]) == 0.1 + 0.2


def test_cells_may_hold_tabs_quotes_and_letters_beyond_ascii(tmp_path):
    path = tmp_path / "table.tsv"
    cell = 'Hôpital "Süd"\tBlock 2'
    write_table(path, ["site"], [{"site": cell}])
    assert read_table(path) == [{"site": cell}]


def test_quotation_marks_frame_cells_only_where_they_are_said_to(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text('case\tremark\na\t"big\nb\tsmall"\n')
    assert read_table(path) == [{"case": "a", "remark": "big\nb\tsmall"}]
    expected = [{"case": "a", "remark": '"big'}, {"case": "b", "remark": 'small"'}]
    assert read_table(path, csv.QUOTE_NONE) == expected


def test_plain_values_are_json_with_a_line_a_value(tmp_path):
    path = tmp_path / "values.json"
    write_json(path, {"dice": [0.5, None], "site": "Süd"})
    assert json.loads(path.read_text()) == {"dice": [0.5, None], "site": "Süd"}
    assert path.read_text().splitlines()[1:3] == [' "dice": [', "  0.5,"]
    assert path.read_text().endswith("}\n")


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_what_json_cannot_hold_is_refused_by_its_place_and_leaves_the_old_file(tmp_path, number):
    path = tmp_path / "values.json"
    write_json(path, {"round": 1})
    with pytest.raises(StudyError, match=rf"values\.json: cases\.1\.loss is {number}, expected a finite number"):
        write_json(path, {"round": 2, "cases": [{"loss": 0.1}, {"loss": float(number)}]})
    assert json.loads(path.read_text()) == {"round": 1}


def test_a_table_whose_rows_fail_leaves_the_old_one(tmp_path):
    path = tmp_path / "table.tsv"
    write_table(path, ["value"], [{"value": 1}])

    def rows():
        yield {"value": 2}
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_table(path, ["value"], rows())
    assert read_table(path) == [{"value": "1"}]


def test_a_column_that_was_not_declared_is_refused(tmp_path):
    with pytest.raises(ValueError, match="dise"):
        write_table(tmp_path / "table.tsv", ["dice"], [{"dise": 1}])
    assert not (tmp_path / "table.tsv").exists()


def test_a_folder_that_cannot_be_read_is_refused_by_name(tmp_path, monkeypatch):
    """A stand-in for the kernel's refusal, which an administrator never meets."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "file").touch()
    (tmp_path / "shut").mkdir()
    scandir = os.scandir

    def _scandir(folder):
        if str(folder) == str(tmp_path / "shut"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", _scandir)
    with pytest.raises(StudyError, match=r"shut: a folder that cannot be read \(Permission denied\)"):
        list(files_below(tmp_path))
