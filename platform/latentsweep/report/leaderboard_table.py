"""The leaderboard of a report: the best configurations as a table, and how it is to be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from latentsweep.metrics import REPORT, Metric, objective_of
from latentsweep.pages.tables import Row, Table
from latentsweep.report.scores import Score, objective, unpaired_words
from latentsweep.search.leaderboard import NUMBER, heading
from latentsweep.search.study import Search

TOP = 25
"""Rows of the leaderboard that are shown; the CSV has all."""

ALIKE = (
    "≈: the difference is within 1.96 of its standard errors, which cover other real subjects and other noise, not "
    "another training seed"
)
PAIRED = " (paired: both have the same subjects and the same noise)"


def leaderboard_table(rows: Sequence[Score], search: Search, page_of: Callable[[int], str]) -> Table:
    """The best configurations: number, scores with intervals, and last the fields, of which there may be many.

    ``page_of`` gives the address of the run of a number; empty where it isn't known.
    """
    fields, metrics = list(search.space.dimensions), dict.fromkeys([objective(search), *REPORT])
    measured = [metric for metric in metrics if any(metric.name in row.metrics for row in rows)]
    shown, guarded = [], any(row.said for row in rows[:TOP])
    for row in rows[:TOP]:
        mark, verdict = ("★", "chosen") if row.chosen else ("≈", "alike") if row.alike else ("", "")
        cells = (
            str(row.trial),
            *([row.said] if guarded else []),
            *(score_text(row, metric) for metric in measured),
            *(text(row.params[name]) for name in fields),
        )
        shown.append(Row("✗" if row.refused else mark, "", cells, (), verdict, page_of(row.trial)))
    first = ("", NUMBER, *(["guards"] if guarded else []))
    headings = (*first, *(metric.label for metric in measured), *map(heading, fields))
    return Table("", caption(rows, search), headings, tuple(shown), notes(rows, search))


def caption(rows: Sequence[Score], search: Search) -> str:
    """What the rows are, and what their marks mean."""
    marks = [
        "★ the chosen configuration",
        *(["≈ not distinguishable from the lowest"] if any(row.alike for row in rows) else []),
        *(["✗ refused by the guards"] if any(row.refused for row in rows) else []),
    ]
    count = f"{min(TOP, len(rows))} of {len(rows)} measured configurations, lowest {objective(search).label} first"
    return f"{count}; 95 % intervals in brackets. {'; '.join(marks)}."


def notes(rows: Sequence[Score], search: Search) -> tuple[str, ...]:
    """How the rows are to be read, a sentence each."""
    minimised = " and ".join(objective_of(name).label for name in search.config.objectives)
    alike = ALIKE + (PAIRED if any(row.paired for row in rows) else "")
    said = [
        alike if any(row.alike for row in rows) else "",
        unpaired_words(rows, objective(search)),
        f"Columns other than {minimised} are exploratory: the search did not minimise them, and a look at many "
        "metrics finds differences by chance",
        "All rows, unrounded, with every metric: report.csv",
    ]
    if any(row.refused for row in rows):
        said.insert(0, "✗: it copies training slices or has collapsed, and can't win, whatever it scores")
    elif any(row.said for row in rows):
        said.insert(0, "The guards' words stand beside a score, and this search did not heed them")
    return tuple(f"{sentence}." for sentence in said if sentence)


def score_text(row: Score, metric: Metric) -> str:
    """A metric of a configuration with its interval, where one was recorded."""
    ends = row.interval(metric.name)
    interval = f" [{metric.format(ends[0])}, {metric.format(ends[1])}]" if ends else ""
    return metric.format(row.metrics.get(metric.name)) + interval


def text(value: Any) -> str:
    """A field's value as it is shown."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
