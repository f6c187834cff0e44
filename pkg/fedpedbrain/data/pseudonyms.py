"""Names for patients that say nothing about them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from fedpedbrain.errors import StudyError
from fedpedbrain.files import read_table, write_table

KEY_COLUMNS = ("participant_id", "patient_id")


def name_patients(
    patients: Sequence[str], key_path: Path | None, digest: str, earlier_digest: str | None
) -> dict[str, str]:
    """Give patients names ``sub-001``, ``sub-002``, ...: new ones in the order of the SHA-256 of their identifiers.

    Parameters
    ----------
    patients : their identifiers
    key_path : table of names and identifiers, kept by the user; who is in it keeps the name, new ones are added
    digest, earlier_digest : of all patients and studies now, and when names were last given

    Raises
    ------
    StudyError : other patients or studies than last time, and no key that says who had which name
    """
    names = _read_key(key_path)
    if earlier_digest not in (None, digest) and not names:
        raise StudyError(
            "bids_root: holds names of other patients or studies than dicom_root has now, and no key says whose; name "
            "the key in conversion.key_file from the first conversion on, or convert into an empty folder"
        )
    used = max((int(name.removeprefix("sub-")) for name in names.values()), default=0)
    new = sorted(set(patients) - set(names), key=lambda patient: hashlib.sha256(patient.encode()).digest())
    names |= {patient: f"sub-{number:03d}" for number, patient in enumerate(new, start=used + 1)}
    if key_path is not None and new:
        write_table(key_path, KEY_COLUMNS, (dict(zip(KEY_COLUMNS, (names[who], who), strict=True)) for who in names))
        key_path.chmod(0o600)
    return names


def _read_key(path: Path | None) -> dict[str, str]:
    if path is None or not path.is_file():
        return {}
    try:
        names = {row["patient_id"]: row["participant_id"] for row in read_table(path)}
        if all(name.removeprefix("sub-").isdecimal() for name in names.values()):
            return names
    except (KeyError, UnicodeDecodeError, AttributeError):
        pass
    raise StudyError(f"{path}: not a key that an earlier conversion wrote; correct conversion.key_file")
