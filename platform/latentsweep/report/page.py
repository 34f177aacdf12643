"""The report's files: one HTML page that needs nothing else, the same as Markdown, and all rows as CSV."""

from __future__ import annotations

import functools
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

from latentsweep.report.content import Content, Findings, gather
from latentsweep.report.scores import as_csv
from latentsweep.storage.home import Home

FOLDER = "report"
PACKAGE = "latentsweep.report"
HTML, MARKDOWN, TABLE = "report.html", "report.md", "report.csv"


def write_report(home: Home, sweep: str, *, findings: Findings = ()) -> list[Path]:
    """Writes ``report.html``, ``report.md`` and ``report.csv`` into the sweep's folder and returns their paths.

    ``sweep`` is the name of a folder of ``home.sweeps``; ``findings`` are the lints to show, or a function that finds
    them. Raises :class:`~trainables.errors.DataError` for an unknown sweep and
    :class:`~trainables.errors.StoreError` where the folder can't be written.
    """
    content = gather(home, sweep, findings)
    folder = home.writable(home.sweeps / content.sweep / FOLDER)
    texts = {
        HTML: as_html(content),
        MARKDOWN: as_markdown(content),
        TABLE: as_csv(content.scores, content.fields),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def as_html(content: Content) -> str:
    """The page; opens from disk and loads nothing."""
    return environment().get_template("page.html.j2").render(c=content)


def as_markdown(content: Content) -> str:
    """The same without charts and pictures."""
    return environment().get_template("page.md.j2").render(c=content)


@functools.cache
def environment(package: str = PACKAGE) -> Environment:
    """The templates in a package and, for them to extend, those beside this module, and how they show numbers."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader(each, ".") for each in dict.fromkeys((package, PACKAGE))]),
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    made.filters |= {"duration": duration, "percent": percent, "cell": cell}
    return made


def duration(seconds: float) -> str:
    """Wall time in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def percent(share: float) -> str:
    """A share in per cent."""
    return f"{share:.0%}"


def cell(value: object) -> str:
    """Text that may stand in a Markdown table."""
    return str(value).replace("|", "\\|").replace("\n", " ")
