"""The templates that pages extend, the filters that they use, and how a page's files are written."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

from latentsweep.lints import Finding
from latentsweep.pages.numbers import duration
from latentsweep.pages.tables import Table, cell
from trainables.loop.files import write_whole

PACKAGE = "latentsweep.pages"
_FENCE = re.compile(r"(^```[a-z]*$.*?^```$)", re.MULTILINE | re.DOTALL)
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_LINK = re.compile(r"\]\((?![\w-]+\.png\))")


class Tile(NamedTuple):
    """One number that a reader looks for first."""

    label: str
    value: str
    note: str


def warnings_first(findings: Iterable[Finding]) -> list[Finding]:
    """Lints in the order in which a page shows them."""
    return sorted(findings, key=lambda each: each.severity != "warning")


@functools.cache
def environment(package: str) -> Environment:
    """The templates of a package, and those beside this module for them to extend."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader(each, ".") for each in (package, PACKAGE)]),
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    made.filters |= {"duration": duration, "cell": cell}
    made.globals["table_of"] = Table.of
    return made


def write_texts(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Writes files by their names into a folder that is there; returns their paths, raises :class:`OSError`.

    Markdown is written without the HTML and the links that a name or an error's text may hold.
    """
    for name, text in texts.items():
        write_whole(folder / name, inert(text) if name.endswith(".md") else text)
    return [folder / name for name in texts]


def inert(markdown: str) -> str:
    """Markdown in which no text is HTML, and nothing links but to a picture beside it; blocks of code stay."""
    parts = _FENCE.split(markdown)  # text, block of code, text, …
    parts[::2] = (_TAG.sub("&lt;", _LINK.sub(r"]\\(", part)) for part in parts[::2])
    return "".join(parts)
