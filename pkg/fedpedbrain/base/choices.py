"""Tables of choices: a word of the config, what is known of it, and where its code lies, imported once it is chosen.

A table is written as ``NAME: Choices[Facts] = Choices({"word": Facts("package.module:name", ...), ...})`` in a
module of facts, which needs the standard library alone. The first argument of the facts says where the code lies. What
a study does not choose is no part of any fingerprint, see ``planning.fingerprint``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol, TypeVar

from fedpedbrain.base.errors import StudyError


@dataclass(frozen=True)
class Option:
    """A setting that belongs to one choice.

    Attributes
    ----------
    default : its value where the config does not name it
    schema : JSON schema of its values
    description : one sentence, with the unit
    """

    default: Any
    schema: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""


class Facts(Protocol):
    """What every row of a table has."""

    implementation: str


F = TypeVar("F", bound=Facts)


def load_object(place: str) -> Any:
    """Import what ``package.module:name`` names."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


class Choices(dict[str, F]):
    """Config words to the facts of what they choose."""

    def load(self, word: str) -> Any:
        """Import what a word chooses: a class or a function.

        Raises
        ------
        StudyError : the table has no such word
        """
        if word not in self:
            raise StudyError(f"unknown choice {word!r}; known are {', '.join(self)}")
        return load_object(self[word].implementation)


def defaults_of(options: Mapping[str, Option]) -> dict[str, Any]:
    """Option to its default."""
    return {name: option.default for name, option in options.items()}


def block_schema(options: Mapping[str, Option], description: str) -> dict[str, Any]:
    """JSON schema of a block that may name these options and no others, each with its default."""
    properties = {
        name: {**option.schema, "default": option.default}
        | ({"description": option.description} if option.description else {})
        for name, option in options.items()
    }
    return {"description": description, "type": "object", "additionalProperties": False, "properties": properties}
