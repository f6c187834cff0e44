"""HTML pages that hold everything they show: templates, and files as addresses."""

import base64
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from fedpedbrain.base.words import with_article
from fedpedbrain.reporting.figures.style import readable, sentence_case
from fedpedbrain.reporting.numbers import format_names

_MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".mp4": "video/mp4"}

# Beside the report's videos, so that the whole stays small enough for a mail; base64 adds a third.
_MOST_PICTURE_BYTES = 4_000_000


def data_uri(path: str | Path) -> str:
    """A file's bytes as a ``data:`` address."""
    path = Path(path)
    return f"data:{_MEDIA_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def load_pictures(paths: Sequence[str | Path]) -> list[dict[str, str]]:
    """Pictures of sites with their bytes as ``data:`` addresses; "" for those that would make the page too large."""
    entries, total = [], 0
    for path in map(Path, paths):
        fits = total + path.stat().st_size <= _MOST_PICTURE_BYTES
        total += path.stat().st_size if fits else 0
        entries.append({"site": path.stem, "uri": data_uri(path) if fits else ""})
    return entries


def template_text(name: str) -> str:
    """The text of a template or a style sheet."""
    return (resources.files("fedpedbrain.reporting.pages") / "templates" / name).read_text(encoding="utf-8")


def page_environment() -> jinja2.Environment:
    """What renders the templates: all that is not marked as safe is escaped, and a name without a value is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(template_text),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals["script"] = Markup(template_text("page.js"))
    environment.filters |= {"readable": readable, "sentence_case": sentence_case, "names": format_names}
    environment.filters |= {"with_article": with_article}
    return environment
