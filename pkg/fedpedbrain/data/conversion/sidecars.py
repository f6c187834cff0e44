"""How a series was acquired, in the words of BIDS and without anything that identifies a patient."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from pydicom.dataset import Dataset


def _joined(value: Any) -> str:
    return value if isinstance(value, str) else "_".join(map(str, value))


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _seconds(milliseconds: Any) -> float:
    return _number(milliseconds) / 1000.0


# From the BIDS name to the DICOM keywords that may hold it and what makes a BIDS value of it (seconds, degrees, mm, T).
_FIELDS: dict[str, tuple[tuple[str, ...], Callable[[Any], Any]]] = {
    "Modality": (("Modality",), str),
    "Manufacturer": (("Manufacturer",), str),
    "ManufacturersModelName": (("ManufacturerModelName",), str),
    "MagneticFieldStrength": (("MagneticFieldStrength",), _number),
    "MRAcquisitionType": (("MRAcquisitionType",), str),
    "ScanningSequence": (("ScanningSequence",), _joined),
    "SequenceVariant": (("SequenceVariant",), _joined),
    "EchoTime": (("EchoTime", "EffectiveEchoTime"), _seconds),
    "RepetitionTime": (("RepetitionTime",), _seconds),
    "InversionTime": (("InversionTime",), _seconds),
    "FlipAngle": (("FlipAngle",), _number),
    "EchoTrainLength": (("EchoTrainLength",), int),
    "PixelBandwidth": (("PixelBandwidth",), _number),
    "SliceThickness": (("SliceThickness",), _number),
}
SIDECAR_TAGS = tuple(keyword for keywords, _ in _FIELDS.values() for keyword in keywords)
_SHOWN = ("ScanningSequence", "SequenceVariant", "MRAcquisitionType", "EchoTime", "RepetitionTime", "InversionTime")


def _places(header: Dataset) -> Iterator[Dataset]:
    """The header and, of an enhanced file, the shared functional groups and those of its first frame."""
    yield header
    for sequence in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for groups in (header.get(sequence) or [])[:1]:
            yield from (element.value[0] for element in groups if element.VR == "SQ" and element.value)


def sidecar_of(header: Dataset) -> dict[str, Any]:
    """Acquisition parameters of a series by their BIDS names; what the header does not hold is left out."""
    found = {}
    for name, (keywords, convert) in _FIELDS.items():
        values = (place.get(keyword) for place in _places(header) for keyword in keywords)
        value = next((value for value in values if value not in (None, "")), None)
        try:
            if value is not None:
                found[name] = convert(value)
        except (TypeError, ValueError):
            # A header's slip is no reason to leave its image out.
            continue
    return found


def describe_sequence(header: Dataset) -> str:
    """What tells a series' kind without its free texts, which may name a patient."""
    sidecar = sidecar_of(header)
    return ", ".join(f"{name} {sidecar[name]}" for name in _SHOWN if name in sidecar) or "no parameters"
