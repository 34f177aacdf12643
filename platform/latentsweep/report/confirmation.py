"""The confirmation of a sweep as a report shows it: a table, and how it is to be read."""

from __future__ import annotations

from latentsweep.metrics import Metric
from latentsweep.pages.tables import Row, Table
from latentsweep.search.confirmation_table import end
from latentsweep.search.confirmed import Confirmation
from latentsweep.search.leaderboard import NUMBER

CAPTION = (
    "The best configurations, trained again with seeds that the search never used. They rank by the mean of all "
    "their scores, the search's own among them; of three or more the worst is left out. The mean shown is of the "
    "fresh seeds alone. ★ the chosen configuration."
)


def confirmed_table(found: Confirmation, metric: Metric) -> Table:
    """A row for each configuration, best first."""
    rows = []
    for row in found.rows:
        chosen = row is found.best
        ends = zip(found.seeds, row.scores, strict=True)
        scores = (end(row, seed) if score is None else metric.format(score) for seed, score in ends)
        told = (found.ranks_by(row), row.selection, found.mean(row))
        cells = (str(row.trial), *map(metric.format, told), *scores)
        rows.append(Row("★" if chosen else "", "", cells, (), "chosen" if chosen else ""))
    headings = ("", NUMBER, "ranked by", "in the search", "mean", *(f"seed {seed}" for seed in found.seeds))
    return Table("", f"{metric.label}. {CAPTION}", headings, tuple(rows))
