import pytest
from fedpedbrain.base.errors import StudyError
from fedpedbrain.jobs.leftover_jobs import refuse_leftover_jobs

RUN_ID = "8e3a6c1e-7f0b-4d55-9a43-0c4f5a1d2b3c"


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """``squeue(text, status)``: what SLURM answers when it is asked for this user's jobs."""

    def _answer(text: str, status: int = 0) -> None:
        program = tmp_path / "bin" / "squeue"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{text}END\nexit {status}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent))

    return _answer


def test_jobs_of_an_earlier_run_of_the_folder_are_refused_with_the_command_that_ends_them(tmp_path, squeue):
    (tmp_path / "study a").mkdir()
    (tmp_path / "link").symlink_to("study a")
    squeue(f"71 {RUN_ID} {tmp_path}/study a\n72 {RUN_ID} {tmp_path}/link\n73 {RUN_ID} {tmp_path}/other\n")
    with pytest.raises(StudyError, match=r"^2 SLURM job\(s\) of an earlier run .*: scancel 71 72$"):
        refuse_leftover_jobs(tmp_path / "study a")


@pytest.mark.parametrize(("text", "status"), [("", 0), ("71 bash {folder}\n", 0), (f"71 {RUN_ID} {{folder}}\n", 1)])
def test_no_job_another_kind_of_job_and_no_answer_refuse_nothing(tmp_path, squeue, text, status):
    squeue(text.format(folder=tmp_path), status)
    refuse_leftover_jobs(tmp_path)


def test_where_there_is_no_slurm_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    refuse_leftover_jobs(tmp_path)
