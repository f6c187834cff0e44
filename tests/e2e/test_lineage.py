"""The history of a finished study's models: recorded with it, and checked without making anything anew."""

import json

import pytest
from workspace import TINY

pytestmark = pytest.mark.slow

ARMS = ("centralized", "local-north", "local-east", "fedavg")
FEDAVG = "results/models/fedavg/seed-0"


def verify(study):
    return study.snakemake("--configfile", TINY, "--cores", "1", "verify_lineage")


def results(study):
    """Bytes and date of every result, logs apart."""
    folder = study.folder / "results"
    paths = [path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).parts[0] != "logs"]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def test_a_study_is_as_recorded_whenever_one_asks_until_a_byte_of_a_model_changes_and_nothing_is_made_anew(study_copy):
    before = results(study_copy)
    for _ in range(2):
        result = verify(study_copy)
        assert result.returncode == 0, result.stdout
        for arm in ARMS:
            assert f"{arm}, seed 0: " in result.stdout
        assert result.stdout.count(" of 2 rounds are as recorded") == len(ARMS)
    assert results(study_copy) == before

    path = study_copy.folder / FEDAVG / "round-001" / "global.pth"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    before = results(study_copy)
    result = verify(study_copy)
    assert result.returncode != 0
    assert f"ERROR: {FEDAVG}/round-001/global.pth: expected SHA-256 " in result.stdout
    assert "Traceback" not in result.stdout
    assert results(study_copy) == before


def test_what_the_message_says_to_delete_is_made_anew(study_copy):
    # Of the middle of two chains: by themselves their absence goes unseen, because later results are there.
    models = study_copy.folder / "results" / "models"
    lost = [models / "fedavg/seed-0/round-001/global.pth", models / "local-north/seed-0/round-001/states/north.pth"]
    before = [path.read_bytes() for path in lost]
    for path in lost:
        path.unlink()
    assert study_copy.planned("--configfile", TINY) == {}
    histories = [f"results/models/{arm}/seed-0/lineage.json" for arm in ("fedavg", "local-north")]
    for path in histories:
        (study_copy.folder / path).unlink()
    result = study_copy.snakemake("--configfile", TINY, "--cores", "2", "--", *histories)
    assert result.returncode == 0, result.stdout
    assert [path.read_bytes() for path in lost] == before
    assert verify(study_copy).returncode == 0


def test_the_history_leads_from_the_best_model_to_the_common_start(finished_study):
    for arm in ARMS:
        content = json.loads((finished_study.folder / f"results/models/{arm}/seed-0/lineage.json").read_text())
        files = {entry["sha256"]: entry for entry in content["files"] if entry["kind"] in ("initial", "global")}
        entry = files[content["files"][-1]["sha256"]]
        while entry["kind"] == "global":
            entry = files[entry["parent_sha256"]]
        assert entry["name"] == "../../initial/unet/seed-0.pth"
