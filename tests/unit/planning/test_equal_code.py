"""Certificates of code that changed without changing any result."""

import csv
from pathlib import Path

import pytest
from fedpedbrain.planning import equal_code, fingerprint
from fedpedbrain.planning.equal_code import TABLE, counted_digests


@pytest.fixture
def certify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a table of certificates in place of the package's."""

    def write(rows: dict[str, tuple[str, ...]]) -> None:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.tsv"
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n")
            writer.writerow(equal_code.COLUMNS)
            writer.writerows([digest, equal_code.SEPARATOR.join(old), "a module"] for digest, old in rows.items())
        monkeypatch.setattr(equal_code, "TABLE", path)

    return write


def test_without_a_certificate_a_digest_counts_as_itself(certify) -> None:
    certify({"new": ("old",)})
    assert counted_digests("another") == ("another",)


def test_a_certified_digest_counts_as_those_that_it_stands_for(certify) -> None:
    certify({"new": ("old", "older"), "added": ()})
    assert counted_digests("new") == ("old", "older")
    assert counted_digests("added") == ()


def test_certified_code_has_the_fingerprint_of_the_code_before(tmp_path: Path, certify, monkeypatch) -> None:
    def script_of(version: str, modules: dict[str, str]) -> Path:
        root = tmp_path / version / "toy"
        root.mkdir(parents=True)
        for name, source in ({"__init__.py": ""} | modules).items():
            (root / name).write_text(source)
        monkeypatch.setattr(fingerprint, "PACKAGE_ROOT", root)
        script = root.with_name("script.py")
        script.write_text("from toy.step import run\n\nrun()\n")
        return script

    monkeypatch.setattr(fingerprint, "PACKAGE", "toy")
    old = "def run():\n    return 2 + 2\n"
    new = "from toy.numbers import FOUR\n\n\ndef run():\n    return FOUR\n"
    before = fingerprint.code_fingerprint(str(script_of("a", {"step.py": old})))
    certify({})
    changed = fingerprint.code_fingerprint(str(script_of("b", {"step.py": new, "numbers.py": "FOUR = 4\n"})))
    digest_of = fingerprint.digest_of_source
    certify({digest_of(new): (digest_of(old),), digest_of("FOUR = 4\n"): ()})
    certified = fingerprint.code_fingerprint(str(script_of("c", {"step.py": new, "numbers.py": "FOUR = 4\n"})))
    assert changed != before
    assert certified == before


def test_every_certificate_is_of_code_that_is_there() -> None:
    """A certificate of code that has changed since says nothing, and hides that it does."""
    if not TABLE.is_file():
        pytest.skip("no code is certified")
    root = fingerprint.PACKAGE_ROOT
    digests = set()
    for path in root.rglob("*.py"):
        module = fingerprint._read_module(path)
        digests |= {module.digest} | {row[0] for rows in module.tables.values() for row in rows.values()}
    digests |= {fingerprint._read_module(path).digest for path in (root.parents[1] / "workflow_scripts").glob("*.py")}
    with open(TABLE, encoding="utf-8", newline="") as file:
        stale = [row["code"] for row in csv.DictReader(file, delimiter="\t") if row["digest"] not in digests]
    assert not stale, f"{TABLE.name}: delete the rows of {stale}"
