"""Seeds of jobs: a job's random numbers depend on what it does, never on when or where it runs."""

import hashlib


def derive_seed(*parts: str | int) -> int:
    """Return a 63-bit seed that is a pure function of ``parts``, for example (base seed, purpose, round, site)."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
