"""The lines of two components with and without each other, as inline SVG."""

from __future__ import annotations

import statistics as averages
from collections.abc import Mapping, Sequence
from typing import Any

from latentsweep.ablation.page.wording import name_of
from latentsweep.ablation.statistics.effect import Contrast, Effect, Run
from latentsweep.pages.charts import Chart, chart, panels, plain
from trainables.figures.style import BLUE, GREY, SMALL


def interaction_plot(
    runs: Sequence[Run], pairs: Sequence[tuple[Contrast, Contrast]], metric: str, *, name: str = "interactions"
) -> Chart | None:
    """The mean of a metric with and without two components, a panel a pair, of one pair both ways.

    A pair are the main effects of two components: an arm has a component where its weight is positive. Seeds that
    lack a run of one of the four cells are left out of that panel, so that all its means are of the same seeds;
    None where no panel has one.
    """
    measured = [(pair, cells) for pair in pairs if (cells := _cells(runs, pair, metric))]
    if not measured:
        return None
    if len(pairs) == 1:
        turned = pairs[0][::-1]
        measured.append((turned, _cells(runs, turned, metric)))
    figure, grid, left_ones = panels(len(measured), 3, 3.3)
    words = []
    for axes, ((first, second), cells) in zip(grid, measured, strict=True):
        for there, colour, dash, filling in ((False, GREY, "--", "none"), (True, BLUE, "-", "full")):
            left, right = cells[False, there], cells[True, there]
            for pair in zip(left, right, strict=True):
                axes.plot([0, 1], pair, color=colour, linewidth=0.7, alpha=0.35, marker="o", markersize=3)
            means = averages.fmean(left), averages.fmean(right)
            label = f"{'with' if there else 'without'} {second.name}"
            style: dict[str, Any] = {"color": colour, "linestyle": dash, "fillstyle": filling, "marker": "o"}
            axes.plot([0, 1], means, linewidth=2.2, markersize=7, label=label, **style)
            words.append(f"{label}, from {means[0]:.4g} without to {means[1]:.4g} with {first.name}")
        axes.set_xticks([0, 1], [f"without\n{first.name}", f"with\n{first.name}"], parse_math=False)
        axes.set_xlim(-0.25, 1.25)
        axes.legend(frameon=False, fontsize=SMALL)
        plain(axes, "y")
    for axes in left_ones:
        axes.set_ylabel(name_of(metric))
    alt = f"Interaction plot of {name_of(metric)}: {'; '.join(words)}."
    return chart(figure, name, alt)


def crossings(effects: Sequence[Effect]) -> list[tuple[Contrast, Contrast]]:
    """The two main effects behind each interaction: their signs multiply to the interaction's in every arm."""
    mains = [effect.contrast for effect in effects if effect.contrast.kind == "main effect"]
    return [
        (first, second)
        for effect in effects
        if effect.contrast.kind == "interaction"
        for place, first in enumerate(mains)
        for second in mains[place + 1 :]
        if all(
            weight * first.weights.get(arm, 0.0) * second.weights.get(arm, 0.0) > 0
            for arm, weight in effect.contrast.weights.items()
        )
    ]


def _cells(
    runs: Sequence[Run], pair: tuple[Contrast, Contrast], metric: str
) -> Mapping[tuple[bool, bool], list[float]]:
    """Each seed's mean over the arms of a cell, by whether first and second are there; empty if no seed has all."""
    values = {(run.arm, run.seed): run.metrics[metric] for run in runs if metric in run.metrics}
    arms: dict[tuple[bool, bool], list[str]] = {}
    for arm, weight in pair[0].weights.items():
        arms.setdefault((weight > 0, pair[1].weights[arm] > 0), []).append(arm)
    everyone = [arm for group in arms.values() for arm in group]
    seeds = sorted({seed for _, seed in values})
    seeds = [seed for seed in seeds if all((arm, seed) in values for arm in everyone)]
    if not seeds or len(arms) < 4:
        return {}
    return {
        cell: [averages.fmean(values[arm, seed] for arm in group) for seed in seeds] for cell, group in arms.items()
    }
