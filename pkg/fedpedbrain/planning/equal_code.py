"""Certificates of code that changed and gives the same results as the code before.

An edit reruns what it reaches, since nobody can tell from a text that its results are the same. Where this was shown,
with the bytes of what was trained before and after, a table beside this module says of the digests of today's code for
which digests of earlier code they stand: fingerprints then count these. ``tests/benchmarks/equal_code.py`` compares two
checkouts, shows it and writes the table. The next edit of a module is without a certificate again.
"""

import csv
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("equal_code.tsv")
COLUMNS = ("digest", "stands_for", "code")
# Several digests are parted by it; none at all stand for code that earlier results were made without.
SEPARATOR = ";"


@cache
def _certificates(path: Path) -> dict[str, tuple[str, ...]]:
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {row["digest"]: tuple(filter(None, row["stands_for"].split(SEPARATOR))) for row in rows}


def counted_digests(digest: str) -> tuple[str, ...]:
    """What a digest of today's code counts as: itself where no certificate says otherwise."""
    return _certificates(TABLE).get(digest, (digest,))
