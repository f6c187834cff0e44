import json
from pathlib import Path

from fedpedbrain.planning.records import (
    UNKNOWN,
    FileRecord,
    complete_records,
    files_without_record,
    keep_records,
    read_records,
    record_name,
    recorded_path,
)

MODEL = "results/models/fedavg/global.pth"
STATE = "results/models/fedavg/state.pth"


def make(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("content")


def record(kept, path, content='{"params": ["1"]}', part="metadata"):
    file = kept / part / record_name(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


def test_records_lie_with_the_results_and_outlive_their_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    engine, kept = tmp_path / ".engine", tmp_path / "results/records"
    make(engine, "metadata/old")
    keep_records(engine, kept)
    (engine / "metadata/new").write_text("later")
    assert {path.name for path in (kept / "metadata").iterdir()} == {"old", "new"}
    for part in ("metadata", "incomplete"):
        (engine / part).unlink()
    keep_records(engine, kept)
    assert (engine / "metadata/new").read_text() == "later"
    assert (engine / "incomplete").is_dir()


def test_of_two_records_that_which_was_written_without_the_link_counts(tmp_path):
    engine, kept = tmp_path / ".engine", tmp_path / "records"
    make(kept, "metadata/model")
    (engine / "metadata").mkdir(parents=True)
    (engine / "metadata/model").write_text("made since")
    keep_records(engine, kept)
    assert (kept / "metadata/model").read_text() == "made since"


def test_names_of_records_are_those_of_snakemake(tmp_path):
    from snakemake.persistence.file import FilePersistence

    for path in (MODEL, "results/" + 300 * "long/"):
        persistence = object.__new__(FilePersistence)
        persistence._max_len = 255
        assert str(tmp_path / record_name(path)) == persistence._record_path(str(tmp_path), path)


def test_a_name_leads_back_to_the_path():
    for path in (MODEL, "results/predictions/süd/masks.npy", "results/" + 300 * "long/"):
        assert recorded_path(record_name(path)) == path


def test_records_tell_the_log_and_the_inputs_of_a_file_except_where_they_are_torn(tmp_path):
    long = "results/" + 300 * "long/" + "table.tsv"
    made = json.dumps({"log": ["results/logs/train.log"], "input": ["results/start.pth", "results/cases.tsv"]})
    record(tmp_path, MODEL, made)
    record(tmp_path, long, '{"log": ["results/logs/table.log"], "input": []}')
    # Of an earlier version, lost, cut short by a power cut and not there at all.
    record(tmp_path, STATE, '{"params": ["1"]}')
    complete_records(["results/lost"], tmp_path)
    record(tmp_path, "results/torn", made[:-4])
    record(tmp_path, "results/empty", "")
    assert set(read_records(tmp_path)) == {
        FileRecord(MODEL, "results/logs/train.log", ("results/start.pth", "results/cases.tsv")),
        FileRecord(long, "results/logs/table.log", ()),
    }
    assert list(read_records(tmp_path / "nothing")) == []


def test_a_file_has_a_record_of_its_own_or_lies_in_a_folder_that_has(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results, kept = Path("results"), tmp_path / "results/records"
    keep_records(tmp_path / ".engine", kept)
    make(tmp_path, MODEL, STATE, "results/exports/runs/a/1", "results/logs/any.log", "results/report.html")
    record(kept, MODEL)
    record(kept, "results/exports/runs")
    record(kept, STATE, part="incomplete", content="{}")
    assert files_without_record(results, kept) == ["results/report.html"]
    # What a power cut leaves.
    record(kept, MODEL, content="")
    assert files_without_record(results, kept) == [MODEL, "results/report.html"]


def test_a_lost_record_is_that_of_the_same_jobs_other_output_or_calls_for_the_job(tmp_path):
    record(tmp_path, MODEL)
    lost = record(tmp_path, STATE, content="")
    complete_records([MODEL, STATE], tmp_path)
    assert json.loads(lost.read_text()) == {"params": ["1"]}
    complete_records(["table", "gone"], tmp_path)
    for path in ("table", "gone"):
        assert json.loads((tmp_path / "metadata" / record_name(path)).read_text())["params"] == [UNKNOWN]


def test_a_running_job_writes_its_records_itself(tmp_path):
    record(tmp_path, STATE, part="incomplete", content="{}")
    complete_records([MODEL, STATE], tmp_path)
    assert not (tmp_path / "metadata").exists()
