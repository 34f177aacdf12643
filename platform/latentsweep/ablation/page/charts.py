"""The charts of an ablation as inline SVG: differences with intervals, values seed by seed, interactions.

The visual language is that of :mod:`trainables.figures.style`. Each verdict has a colour and a marker of its own.
"""

from __future__ import annotations

import math
import statistics as averages
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from latentsweep.ablation.page.wording import change, difference, name_of, probability, verdict_of
from latentsweep.ablation.statistics.effect import Effect, Summary
from latentsweep.ablation.statistics.gaps import ArmGap
from latentsweep.metrics import metric_of
from latentsweep.pages.charts import Chart, chart, plain
from latentsweep.pages.numbers import capitalised, fixed
from trainables.figures.style import BLACK, BLUE, GREEN, GREY, PURPLE, SMALL, VERMILION, new_figure

LOOKS = {
    "helps": (GREEN, "o", "full"),
    "hurts": (VERMILION, "s", "full"),
    "differs": (PURPLE, "^", "full"),
    "no difference": (BLUE, "D", "full"),
    "unstable": (BLACK, "X", "full"),
    "cannot tell": (GREY, "o", "none"),
}
"""Colour, marker and filling of a difference by its verdict."""

SEED_MARKERS = "osD^vP*X<>ph"
SEED_COLOURS = "viridis"
NAME_COLUMNS = 30
"""Letters after which a name goes on in a second line."""

FAR = 3.0
"""What reaches more than this many times as far as three quarters of all lies off the axis; the others show."""

GAP_COLOURS = {"floor: real slices": GREY, "lost by the autoencoder": GREEN, "lost by the denoiser": BLUE}
"""The parts of a gap, in the colours of the sets of images that they are measured on."""

COLUMNS = (0.0, 0.46, 0.65)
"""Where the numbers of a forest plot stand, as shares of their panel: its difference or change, p, and verdict."""


def forest_plot(
    effects: Sequence[Effect],
    metric: str,
    *,
    places: int,
    against: str,
    margin: float | None = None,
    name: str = "forest",
) -> Chart | None:
    """Differences with 95 % intervals, the worst first within each kind; None where nothing was measured.

    They are changes in per cent where all verdicts rest on these, but for those of no change at all, and the band is
    then the ``margin``, a share; else differences in the metric's unit. ``places`` are the decimals of all numbers,
    ``against`` says what a difference is measured from. What lies beyond the axis has an arrow at its edge, and its
    numbers at the right like the others.
    """
    kinds = list(dict.fromkeys(effect.contrast.kind for effect in effects if effect.mean is not None))
    sign = 1 if metric_of(metric).better == "higher" else -1
    shown = sorted(
        (effect for effect in effects if effect.mean is not None),
        key=lambda effect: (kinds.index(effect.contrast.kind), sign * (effect.mean or 0.0)),
    )
    if not shown:
        return None
    heights = [place + 0.6 * kinds.index(effect.contrast.kind) for place, effect in enumerate(shown)]
    figure = new_figure(1.4 + 0.36 * (heights[-1] + 1))
    axes, numbers = figure.subplots(1, 2, width_ratios=[1.1, 1], sharey=True)
    changed = [effect for effect in shown if not effect.same]
    relative = bool(changed) and all(effect.scale == "log" for effect in changed)
    band = (-100 * margin / (1 + margin), 100 * margin) if relative and margin else (0.0, 0.0)
    low, high = limits([_ends(effect, relative) for effect in shown], 0.0, band[1])
    if band[1]:
        axes.axvspan(*band, color=BLUE, alpha=0.10, linewidth=0)
    axes.axvline(0, color=BLACK, linewidth=1.0)
    numbers.set_axis_off()
    heads = ("change [95 %]" if relative else "difference [95 %]", "p (Holm)", "verdict")
    for x, head in zip(COLUMNS, heads, strict=True):
        numbers.text(x, -0.75, head, fontsize=SMALL, color=GREY, va="center", in_layout=False)
    for effect, height in zip(shown, heights, strict=True):
        _difference(axes, effect, height, low, high, relative)
        cells = (
            (change(effect) or "0 %") if relative else difference(effect, places),
            probability(effect.p_holm),
            verdict_of(effect),
        )
        for x, text in zip(COLUMNS, cells, strict=True):
            numbers.text(x, height, text, fontsize=SMALL, va="center", in_layout=False)
    axes.set_xlim(low, high)
    axes.set_ylim(heights[-1] + 0.7, -0.9)
    axes.set_yticks(heights, [_wrapped(effect.contrast.name) for effect in shown], parse_math=False)
    axes.tick_params(axis="y", length=0)
    label = f"change of {name_of(metric)} {against}, %" if relative else f"difference in {name_of(metric)} {against}"
    within = f"; band: {fixed(band[0], 0)} to {fixed(band[1], 0, sign=True)} %" if band[1] else ""
    axes.set_xlabel(label + within)
    _sides(axes, metric)
    plain(axes, "x")
    words = "; ".join(
        f"{effect.contrast.name} {difference(effect, places)}, {verdict_of(effect)}" for effect in shown
    )
    alt = f"Forest plot of differences in {name_of(metric)} {against}, with 95 % intervals: {words}."
    return chart(figure, name, alt)


def seed_by_seed(
    summaries: Sequence[Summary],
    metric: str,
    *,
    places: int,
    reference: str | None = None,
    failed: Mapping[str, int] | None = None,
    name: str = "seeds",
) -> Chart | None:
    """Every run's value, a row an arm, the runs of one seed joined, mean and sd below; None for no runs.

    ``reference`` is the arm whose mean has a line through all rows; ``failed`` says how many seeds of an arm failed.
    """
    shown = [summary for summary in summaries if summary.mean is not None]
    if not shown:
        return None
    seeds = sorted({seed for summary in shown for seed in summary.seeds})
    figure = new_figure(1.2 + 0.46 * len(shown))
    axes = figure.subplots()
    rows = range(len(shown))
    ends = [(min(summary.values), max(summary.values)) for summary in shown]
    low, high = limits(ends, averages.median(summary.mean for summary in shown if summary.mean is not None))
    colours = matplotlib.colormaps[SEED_COLOURS](np.linspace(0, 0.88, len(seeds)))
    for place, seed in enumerate(seeds):
        values = [dict(zip(s.seeds, s.values, strict=True)).get(seed, math.nan) for s in shown]
        marker = SEED_MARKERS[place % len(SEED_MARKERS)]
        style = {"color": colours[place], "linewidth": 0.9, "markersize": 5, "alpha": 0.8}
        axes.plot(values, rows, marker=marker, label=f"seed {seed}", **style)
    for row, (summary, (least, most)) in enumerate(zip(shown, ends, strict=True)):
        mean = summary.mean or 0.0
        _arrows(axes, row, least, most, low, high, BLACK)
        axes.errorbar(mean, row + 0.28, xerr=summary.sd, fmt="|", color=BLACK, markersize=9, elinewidth=1.6)
        text = fixed(mean, places) + (f" ± {fixed(summary.sd, places)}" if summary.sd is not None else "")
        text += f" ({failed[summary.arm]} × failed)" if failed and failed.get(summary.arm) else ""
        axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), fontsize=SMALL, va="center")
        if summary.arm == reference:
            axes.axvline(mean, color=BLACK, linewidth=0.8, linestyle=":")
    axes.set_yticks(list(rows), [_wrapped(summary.arm) for summary in shown], parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(low, high)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel(f"{name_of(metric)}; black: mean ± standard deviation over seeds")
    if len(seeds) <= len(SEED_MARKERS):
        figure.legend(loc="outside upper center", ncols=min(6, len(seeds)), frameon=False, fontsize=SMALL)
    plain(axes, "both")
    words = "; ".join(f"{s.arm} " + ", ".join(fixed(value, places) for value in s.values) for s in shown)
    order = ", ".join(map(str, seeds))
    alt = f"{capitalised(name_of(metric))} of every run by arm, seeds {order} in order, where measured: {words}."
    return chart(figure, name, alt)


def gap_figure(gaps: Mapping[str, Sequence[ArmGap]], places: Mapping[str, int]) -> Figure:
    """Each arm's score as a bar of its floor and of what autoencoder and denoiser lose, a panel a metric.

    ``gaps`` are by metric, one of each arm or none, and ``places`` the decimals of each metric. What is below 0 runs
    back from where the part before it ends, narrow and hatched; the mark at the end is the score with its 95 %
    interval over seeds.
    """
    arms = list(dict.fromkeys(gap.arm for each in gaps.values() for gap in each))
    figure = new_figure(1.5 + 0.42 * len(arms))
    grid = figure.subplots(1, len(gaps), squeeze=False, sharey=True)[0]
    for axes, (metric, found) in zip(grid, gaps.items(), strict=True):
        room = 0.1 * max(max(gap.generated.high or 0.0, gap.generated.mean) for gap in found)
        for gap in found:
            _stacked(axes, gap, arms.index(gap.arm), places[metric], room)
        axes.axvline(0, color=BLACK, linewidth=0.8)
        axes.set_xlabel(name_of(metric))
        axes.set_ylim(len(arms) - 0.4, -0.6)
        axes.margins(x=0.02)
        plain(axes, "x")
    grid[0].set_yticks(range(len(arms)), [_wrapped(arm) for arm in arms], parse_math=False)
    for axes in grid:
        axes.tick_params(axis="y", length=0, pad=6)
    handles: list[Artist] = [Patch(facecolor=colour, label=label) for label, colour in GAP_COLOURS.items()]
    if any(part.mean < 0 for each in gaps.values() for gap in each for part in gap.parts):
        handles.append(Patch(facecolor="white", edgecolor=GREY, hatch="////", label="below 0: most likely noise"))
    handles.append(Line2D([], [], color=BLACK, marker="|", markersize=10, label="score, 95 % over seeds"))
    close = {"frameon": False, "columnspacing": 1.3, "handlelength": 1.7, "fontsize": SMALL}
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), **close)
    return figure


def gap_words(gaps: Mapping[str, Sequence[ArmGap]], places: Mapping[str, int]) -> str:
    """What :func:`gap_figure` shows."""
    found = []
    for metric, each in gaps.items():
        sums = [" + ".join(fixed(part.mean, places[metric]) for part in gap.parts) for gap in each]
        totals = [fixed(gap.generated.mean, places[metric]) for gap in each]
        said = (f"{gap.arm} {parts} = {total}" for gap, parts, total in zip(each, sums, totals, strict=True))
        found.append(f"{name_of(metric)}: {'; '.join(said)}")
    return f"Stacked bars of floor + autoencoder's loss + denoiser's loss = score of each arm. {'. '.join(found)}."


def _stacked(axes: Axes, gap: ArmGap, row: int, places: int, room: float) -> None:
    """The bar of one arm, with the numbers of its parts where they are wider than ``room``."""
    begin, covered = 0.0, 0.0
    for colour, part in zip(GAP_COLOURS.values(), gap.parts, strict=True):
        if part.mean < 0:
            axes.barh(row, part.mean, 0.3, begin, facecolor="white", edgecolor=colour, hatch="////", zorder=4)
        else:
            axes.barh(row, part.mean, 0.62, begin, facecolor=colour, edgecolor="white", linewidth=0.8)
        if part.mean > room:
            style = {"color": "white", "fontsize": SMALL, "va": "center", "ha": "left"}
            axes.text(begin + covered + room / 8, row, fixed(part.mean, max(0, places - 1)), **style)  # type: ignore[arg-type]
        begin, covered = begin + part.mean, max(0.0, -part.mean)
    reach = (gap.generated.high - gap.generated.mean) if gap.generated.high is not None else None
    axes.errorbar(begin, row, xerr=reach, fmt="|", color=BLACK, markersize=13, elinewidth=1.2, capsize=3, zorder=5)


def _difference(axes: Axes, effect: Effect, height: float, low: float, high: float, relative: bool) -> None:
    """One row of a forest plot."""
    colour, marker, filling = LOOKS[effect.verdict]
    mean, ends = 100 * effect.direction if relative else effect.mean or 0.0, _ends(effect, relative)
    if effect.low is not None:
        axes.plot(ends, (height, height), color=colour, linewidth=2.0)
    if low <= mean <= high:
        paper = "white" if filling == "none" else colour
        axes.plot(mean, height, marker=marker, color=colour, markerfacecolor=paper, markersize=8, markeredgewidth=1.6)
    _arrows(axes, height, *ends, low, high, colour)


def _arrows(axes: Axes, height: float, least: float, most: float, low: float, high: float, colour: str) -> None:
    """An arrow at the edges beyond which something lies."""
    for edge, beyond, arrow in ((low, least < low, "<"), (high, most > high, ">")):
        if beyond:
            axes.plot(edge, height, marker=arrow, color=colour, markersize=8, clip_on=False, zorder=5)


def _ends(effect: Effect, relative: bool) -> tuple[float, float]:
    """The interval, of the change in per cent where ``relative``, or the mean alone where there is none."""
    if relative:
        each = effect.relative
        return (100 * each.low, 100 * each.high) if each else (0.0, 0.0)
    if effect.low is None or effect.high is None:
        return effect.mean or 0.0, effect.mean or 0.0
    return effect.low, effect.high


def limits(ends: Sequence[tuple[float, float]], centre: float, margin: float = 0.0) -> tuple[float, float]:
    """An axis around the centre that holds all pairs of ends but those that reach far beyond most, and the margin."""
    reach = [max(abs(low - centre), abs(high - centre)) for low, high in ends]
    most = FAR * max(sorted(reach)[(3 * len(reach)) // 4], margin) if len(reach) > 2 else math.inf
    kept = [each for each, far in zip(ends, reach, strict=True) if far <= most]
    low = min([centre - margin, *(low for low, _ in kept)])
    high = max([centre + margin, *(high for _, high in kept)])
    room = 0.06 * (high - low) or 1.0
    return low - room, high + room


def _sides(axes: Axes, metric: str) -> None:
    """Says over the plot which side of zero is better."""
    better = metric_of(metric).better
    sides = {"lower": ("← better", "worse →"), "higher": ("← worse", "better →")}
    for text, x, ha in zip(sides[better] if better else (), (0.0, 1.0), ("left", "right"), strict=bool(better)):
        colour = GREEN if "better" in text else VERMILION
        axes.text(x, 1.02, text, transform=axes.transAxes, ha=ha, va="bottom", fontsize=10, color=colour)


def _wrapped(name: str) -> str:
    return textwrap.fill(name, NAME_COLUMNS, break_on_hyphens=False)
