"""Dice of segmentation networks against the share of the real patients that they were trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from trainables.figures import style
from trainables.measures.downstream.scores import BOTH, REAL, SYNTHETIC, fractions_of, scores_of

DICE = style.AxisRange(0, 1, step=1)
LOOKS = {REAL: (style.BLACK, "real slices alone"), BOTH: (style.BLUE, "real and generated slices")}


def dice_by_patients(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """The Dice of held-out patients, for each share of the real training patients.

    ``rows`` are of :data:`~trainables.measures.downstream.scores.Row`. A line is the mean over seeds and patients, a
    dot the mean over patients with one seed; generated slices alone are the dashed line.
    """
    figure = style.new_figure(4.2)
    axes = figure.subplots()
    shares = fractions_of(rows)
    for arm, (colour, words) in LOOKS.items():
        by_seed = [scores_of(rows, arm, share).mean(axis=1) for share in shares]
        axes.plot(range(len(shares)), [each.mean() for each in by_seed], color=colour, label=words)
        for place, each in enumerate(by_seed):
            axes.plot([place] * len(each), each, ".", color=colour, alpha=0.6)
    alone = scores_of(rows, SYNTHETIC, 0.0).mean()
    words = f"generated slices alone: {style.short(alone)}"
    axes.axhline(alone, color=style.ORANGE, linestyle="--", label=words)
    style.label(axes, "Segmentation (higher is better)", "share of the real training patients", "Dice per patient")
    axes.set_xticks(range(len(shares)), [f"{share:.0%}" for share in shares])
    style.fix_range(axes, "y", DICE, [])
    style.legend(axes)
    return figure
