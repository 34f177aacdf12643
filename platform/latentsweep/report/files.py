"""The report's files: one HTML page that needs nothing else, the same as Markdown, and all rows as CSV."""

from __future__ import annotations

from pathlib import Path

from latentsweep.pages.templates import environment, write_texts
from latentsweep.report import repetition, summary
from latentsweep.report.content import Findings, PageOf, gather, nowhere
from latentsweep.report.importance import DASHBOARD, NOISE_FLOOR
from latentsweep.report.scores import as_csv
from latentsweep.storage.home import Home

FOLDER = "report"


def write_report(
    home: Home,
    sweep: str,
    *,
    findings: Findings = (),
    to: Path | None = None,
    recorded: bool = True,
    page_of: PageOf = nowhere,
) -> list[Path]:
    """Writes ``report.html``, ``report.md`` and ``report.csv`` and returns their paths.

    They go to the folder ``to``, by default to one in the sweep's.

    ``sweep`` is the name of a folder of ``home.sweeps``; ``findings`` are the lints to show, or a function that finds
    them. ``recorded`` says whether the page points at MLflow, and ``page_of`` where there the run of a
    key has its page.

    Raises :class:`~trainables.errors.DataError` for an unknown sweep and
    :class:`~trainables.errors.StoreError` where the folder can't be written.
    """
    content = gather(home, sweep, findings, recorded=recorded, page_of=page_of)
    given = {
        "c": content,
        "repetition": repetition,
        "failures": summary.failures(content.source),
        "noise_floor": NOISE_FLOOR,
        "dashboard_differs": DASHBOARD,
    }
    page, markdown = (
        environment("latentsweep.report").get_template(f"page.{kind}.j2").render(given) for kind in ("html", "md")
    )
    table = as_csv(content.scores, list(content.fields))
    folder = home.writable(to or home.sweeps / content.sweep / FOLDER, "--to")
    return write_texts(folder, {"report.html": page, "report.md": markdown, "report.csv": table})
