"""Numbers, counts and lists in words, the same way everywhere."""

import math
from collections.abc import Sequence

NO_VALUE = "–"


def format_score(value: float, digits: int = 3) -> str:
    """So many digits after the point (a true minus), or a dash."""
    return f"{value:.{digits}f}".replace("-", "\u2212") if math.isfinite(value) else NO_VALUE


def format_change(value: float, digits: int = 3) -> str:
    """So many digits with a sign (a true minus; none for what rounds to 0), or a dash."""
    rounded = round(value, digits) + 0.0
    return f"{'+' if rounded > 0 else ''}{format_score(rounded, digits)}"


def format_bytes(num_bytes: float) -> str:
    """Decimal units, as network links are sold in."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes:.0f} B"


def format_names(names: Sequence[str]) -> str:
    """Names as English writes a list."""
    return ", ".join(names) if len(names) < 2 else f"{', '.join(names[:-1])} and {names[-1]}"


def count_noun(number: int, noun: str) -> str:
    """A number and its noun: ``1 case``, ``2 cases``."""
    return f"{number} {noun if number == 1 else noun + 's'}"
