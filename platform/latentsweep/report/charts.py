"""The charts of a report; the best configuration is a vermilion star or line."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from latentsweep.metrics import METRICS, Metric
from latentsweep.pages.charts import Chart, chart, panels, plain
from latentsweep.report.importance import Importance
from latentsweep.report.scores import Score, chosen
from latentsweep.search.leaderboard import heading
from trainables.figures.style import BLUE, GREEN, GREY, SMALL, VERMILION, new_figure
from trainables.space import Choice, Dimension, SearchSpace

COLOURS = "cividis_r"
JITTER = 0.16
PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
"""What is behind a text on lines."""

HEADING_LETTERS = 70
"""What fits below a chart of all fields; more is slanted."""

TICK_LETTERS = 24
"""What fits below one of the charts of single fields, side by side."""


def importance_chart(importances: Sequence[Importance]) -> Chart:
    """Shares on all trials as bars, lines from the 10 % to the 90 % of the resamples, upright ones at noise floors.

    Bars that do not reach beyond their floor are grey.
    """
    figure = new_figure(0.9 + 0.42 * len(importances))
    axes = figure.subplots()
    places = np.arange(len(importances))
    shares = [each.share for each in importances]
    low, high = [each.low for each in importances], [each.high for each in importances]
    axes.barh(places, shares, height=0.6, color=[GREY if each.noise else BLUE for each in importances], alpha=0.75)
    axes.vlines([each.floor for each in importances], places - 0.4, places + 0.4, color=VERMILION, linewidth=2.2)
    axes.hlines(places, low, high, color="black", linewidth=1.4)
    axes.set_yticks(places, [heading(each.field) for each in importances])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_xlabel("share of the variance of the objective (line: 10–90 % of resamples; upright: noise floor)")
    plain(axes, grid="x")
    said = ", ".join(
        f"{heading(e.field)} {e.share:.0%} ({e.low:.0%} to {e.high:.0%}, noise floor {e.floor:.0%}"
        + (", not distinguishable from noise)" if e.noise else ")")
        for e in importances
    )
    return chart(figure, "importance", f"Bar chart of parameter importances: {said}.")


def parallel_coordinates(rows: Sequence[Score], space: SearchSpace, metric: Metric) -> Chart:
    """A line for each configuration through its values to its score; the chosen ones bold."""
    fields = list(space.dimensions)
    figure = new_figure(3.9)
    axes = figure.subplots()
    scores = np.array([row.values[0] for row in rows])
    low, high = scores.min(), max(scores.max(), scores.min() + 1e-9)
    darkest = max(np.quantile(scores, 0.8), low + 1e-9)
    colours = ScalarMappable(Normalize(low, darkest), COLOURS)
    shades = dict(zip((row.trial for row in rows), colours.to_rgba(scores), strict=True))
    for row in sorted(rows, key=lambda row: (row.chosen, -row.rank)):
        shift = _shift(row) * 0.012
        heights = [_height(space.dimensions[field], row.params[field]) + shift for field in fields]
        heights.append((row.values[0] - low) / (high - low))
        usual: dict[str, Any] = {"color": shades[row.trial], "linewidth": 1.0, "alpha": 0.75}
        bold = {"color": VERMILION, "linewidth": 3.0, "zorder": 5}
        axes.plot(range(len(heights)), heights, **(bold if row.chosen else usual))
    for column, field in enumerate(fields):
        axes.axvline(column, color=GREY, linewidth=0.8)
        for value, label in _ticks(space.dimensions[field]):
            y = _height(space.dimensions[field], value)
            axes.text(column - 0.03, y, label, ha="right", va="center", fontsize=SMALL, bbox=PAPER, zorder=9)
    last = len(fields)
    axes.axvline(last, color=GREY, linewidth=0.8)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        axes.text(last + 0.03, share, f"{low + share * (high - low):.3g}", ha="left", va="center", fontsize=SMALL)
    headings = [*(heading(field) for field in fields), metric.label]
    crowded = sum(map(len, headings)) > HEADING_LETTERS
    slanted: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axes.set_xticks(range(last + 1), headings, **slanted)
    axes.set_yticks([])
    axes.set_ylim(-0.08, 1.08)
    axes.set_xlim(-0.4, last + 0.35)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    bar = figure.colorbar(colours, ax=axes, pad=0.01, aspect=30, extend="max")
    bar.set_label(f"{metric.label} (lower is better)")
    best = chosen(rows)
    alt = f"Parallel coordinates of {len(rows)} configurations; the bold line is configuration {best.trial} with "
    return chart(figure, "parallel", f"{alt}{metric.label} {best.values[0]:.4g}.")


def slices(rows: Sequence[Score], space: SearchSpace, metric: Metric) -> Chart:
    """The objective against each field's values; bars mark the medians at listed values."""
    figure, grid, left = panels(len(space.dimensions), 4, 2.9)
    for axes, (field, dimension) in zip(grid, space.dimensions.items(), strict=True):
        _slice(axes, rows, field, dimension)
        axes.set_xlabel(heading(field))
    for axes in left:
        axes.set_ylabel(f"{metric.label} (lower is better)")
    medians = "; ".join(
        f"{heading(field)}: " + ", ".join(f"{label} {_median(rows, field, value):.4g}" for value, label in _ticks(d))
        for field, d in space.dimensions.items()
        if isinstance(d, Choice)
    )
    return chart(figure, "slices", f"The score against each field's values. Medians: {medians or 'none'}.")


def quality_against_cost(rows: Sequence[Score], metric: Metric) -> Chart | None:
    """Scores with their 95 % intervals against what an image costs, the Pareto front drawn; None without a cost."""
    costs = [each for each in METRICS.values() if each.cost and any(each.name in row.metrics for row in rows)]
    if not costs or metric in costs:
        return None
    figure = new_figure(3.9)
    panels = figure.subplots(1, len(costs), squeeze=False, sharey=True)[0]
    words = ""
    for axes, cost in zip(panels, costs, strict=True):
        placed = [row for row in rows if cost.name in row.metrics and metric.name in row.metrics]
        x = np.array([row.metrics[cost.name] for row in placed])
        y = np.array([row.metrics[metric.name] for row in placed])
        ends = np.array([row.interval(metric.name) or (row.metrics[metric.name],) * 2 for row in placed])
        reach = np.maximum(0, [y - ends[:, 0], ends[:, 1] - y])
        axes.errorbar(x, y, yerr=reach, fmt="o", color=BLUE, markersize=4, alpha=0.45)
        front = pareto_front(list(zip(x.tolist(), y.tolist(), strict=True)))
        axes.plot(
            *np.array(front).T, color=GREEN, marker="o", markersize=5, drawstyle="steps-post", label="Pareto front"
        )
        for row in (row for row in placed if row.chosen):
            axes.plot(row.metrics[cost.name], row.metrics[metric.name], "*", color=VERMILION, markersize=15, zorder=6)
        lines = ((metric.floor, "--", "real slices"), (metric.reconstructed, ":", "reconstructions"))
        for name, style, said in lines:
            levels = [row.metrics[name] for row in placed if name in row.metrics]
            if levels:
                axes.axhline(levels[0], color=GREY, linestyle=style, label=said)
        axes.set_xlabel(cost.label)
        axes.set_xlim(left=0)
        plain(axes, grid="both")
        words = words or "; ".join(f"{cx:.3g} at {cy:.4g}" for cx, cy in front)
    panels[0].set_ylabel(f"{metric.label}, 95 % interval")
    panels[0].legend(frameon=False, fontsize=SMALL)
    first = costs[0].label
    return chart(figure, "cost", f"{metric.label} against {first}. On the Pareto front, {first} and score: {words}.")


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points to which no other is at least as cheap and at least as good, cheapest first."""
    front: list[tuple[float, float]] = []
    for cost, score in sorted(set(points)):
        if not front or score < front[-1][1]:
            front.append((cost, score))
    return front


def _slice(axes: Axes, rows: Sequence[Score], field: str, dimension: Dimension) -> None:
    """One field's values against the first objective."""
    listed = isinstance(dimension, Choice)
    places = {value: place for place, (value, _) in enumerate(_ticks(dimension))} if listed else {}

    def place(row: Score) -> float:
        return float(places[row.params[field]] + _shift(row) * JITTER if listed else row.params[field])

    others = [row for row in rows if not row.chosen]
    axes.plot([place(row) for row in others], [row.values[0] for row in others], "o", color=BLUE, ms=4, alpha=0.5)
    if listed:
        for value, x in places.items():
            axes.hlines(_median(rows, field, value), x - 0.32, x + 0.32, color="black", linewidth=1.5)
        width = TICK_LETTERS // len(places)
        labels = (label.replace("_", " ") for _, label in _ticks(dimension))
        folded = [textwrap.fill(label, width, break_long_words=False) for label in labels]
        axes.set_xticks(list(places.values()), folded)
        axes.set_xlim(-0.5, len(places) - 0.5)
    elif not isinstance(dimension, Choice) and dimension.log:
        axes.set_xscale("log")
    for row in (row for row in rows if row.chosen):
        axes.plot(place(row), row.values[0], "*", color=VERMILION, markersize=14, zorder=5)
    plain(axes, grid="y")


def _shift(row: Score) -> float:
    """By how much a row is drawn beside its value, from -1 to 1, so that rows don't hide each other."""
    return (row.rank % 9 - 4) / 4


def _median(rows: Sequence[Score], field: str, value: Any) -> float:
    values = [row.values[0] for row in rows if row.params[field] == value]
    return float(np.median(values)) if values else math.nan


def _height(dimension: Dimension, value: Any) -> float:
    """Where a value stands on its axis, from 0 to 1."""
    if isinstance(dimension, Choice):
        places = [listed for listed, _ in _ticks(dimension)]
        return places.index(value) / max(1, len(places) - 1) if len(places) > 1 else 0.5
    low, high = float(dimension.low), float(dimension.high)
    if dimension.log:
        return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
    return (float(value) - low) / (high - low)


def _ticks(dimension: Dimension) -> list[tuple[Any, str]]:
    """Values with their labels, numbers in order."""
    if not isinstance(dimension, Choice):
        return [(end, f"{end:g}") for end in (dimension.low, dimension.high)]
    numbers = all(isinstance(value, int | float) for value in dimension.values)
    values = sorted(dimension.values) if numbers else list(dimension.values)
    return [(value, f"{value:g}" if isinstance(value, float) else str(value)) for value in values]
