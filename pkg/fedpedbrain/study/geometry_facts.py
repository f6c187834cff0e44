"""The geometries in which held-out cases are scored and shown; each is a row here and its code."""

from dataclasses import dataclass

from fedpedbrain.base.choices import Choices


@dataclass(frozen=True)
class GeometryFacts:
    """What is known of a geometry.

    Attributes
    ----------
    implementation : class, called without arguments. ``open(shards)`` gives the held-out cases with images and true
        regions in this geometry; its methods bring what was predicted on the grid there and on to the scan
    """

    implementation: str


GEOMETRIES: Choices[GeometryFacts] = Choices(
    {
        "scan": GeometryFacts("fedpedbrain.evaluation.scan_geometry:ScanGeometry"),
        "grid": GeometryFacts("fedpedbrain.evaluation.grid_geometry:GridGeometry"),
    }
)
BOTH = "both"


def geometries_of(word: str) -> list[str]:
    """The geometries that a word of ``evaluation.geometry`` asks for; that of the main scores comes first."""
    return ["scan", "grid"] if word == BOTH else [word]
