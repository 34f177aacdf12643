"""What separates generated slices from real ones, split into what the autoencoder loses and what the denoiser loses.

generated − floor = (reconstructed − floor) + (generated − reconstructed): the floor is what real training slices of
other subjects score in place of the generated ones, and reconstructed what these very slices score after encoding and
decoding (:func:`trainables.measures.evaluation.compare_reconstructions`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from latentsweep.metrics import METRICS
from latentsweep.pages.numbers import fixed

DISTANCES = {metric.stem: metric for metric in METRICS.values() if metric.gap}
"""The distances that are split; the KID ×1000."""

BELOW_ZERO = "a part below 0 is sampling noise, or slices that score better than reconstructions"
"""What is said where a part is negative."""


class Gap(NamedTuple):
    """One model's score in a distance, and its parts: the first three add up to ``generated``.

    What the autoencoder or the denoiser loses is below 0 by chance alone, or where generated slices are nearer than
    reconstructions.
    """

    floor: float
    autoencoder: float
    denoiser: float
    generated: float

    @property
    def total(self) -> float:
        """What both lose."""
        return self.generated - self.floor


def gap_of(metrics: Mapping[str, float], distance: str) -> Gap | None:
    """The gap that a run's ``metrics`` have; None where one of the three scores wasn't recorded."""
    metric = DISTANCES[distance]
    names = (metric.floor, metric.reconstructed, metric.name)
    floor, reconstructed, score = (metrics.get(name, math.nan) for name in names)
    found = Gap(floor, reconstructed - floor, score - reconstructed, score)
    return found if all(map(math.isfinite, found)) else None


def gap_words(metrics: Mapping[str, float]) -> str:
    """The gaps of one model in a sentence; empty where none was recorded."""
    found = {name: gap for name in DISTANCES if (gap := gap_of(metrics, name))}
    parts = [
        f"{fixed(gap.total, 1)} in {DISTANCES[name].label}, of which the autoencoder loses "
        f"{fixed(gap.autoencoder, 1)} and the denoiser {fixed(gap.denoiser, 1)}"
        for name, gap in found.items()
    ]
    negative = any(min(gap.autoencoder, gap.denoiser) < 0 for gap in found.values())
    return f"Above the floor it lies {'; '.join(parts)}{f' ({BELOW_ZERO})' if negative else ''}." if parts else ""
