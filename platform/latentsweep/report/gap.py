"""What separates generated slices from real ones, split into what the autoencoder loses and what the denoiser loses.

generated − floor = (ceiling − floor) + (generated − ceiling): the floor is what real training slices of other
subjects score in place of the generated ones, and the ceiling what reconstructions of these very slices score
(:func:`trainables.measures.evaluation.evaluate_ceiling`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from latentsweep.metrics import METRICS

DISTANCES = {metric.stem: metric for metric in METRICS.values() if metric.gap}
"""The distances that are split; the KID ×1000."""

BELOW_ZERO = "a part below 0 is most likely sampling noise"
"""What is said where a part is negative."""


@dataclass(frozen=True)
class Gap:
    """One model's scores in one of :data:`DISTANCES`, and what they leave to whom."""

    distance: str
    floor: float
    ceiling: float
    generated: float

    @property
    def autoencoder(self) -> float:
        """What the autoencoder loses; below 0 by chance alone."""
        return self.ceiling - self.floor

    @property
    def denoiser(self) -> float:
        """What the denoiser loses; below 0 by chance, or where generated slices are nearer than reconstructions."""
        return self.generated - self.ceiling

    @property
    def total(self) -> float:
        """What both lose."""
        return self.generated - self.floor


def gap_of(metrics: Mapping[str, float], distance: str) -> Gap | None:
    """The gap that a run's ``metrics`` have; None where one of the three scores wasn't recorded."""
    metric = DISTANCES[distance]
    found = [metrics.get(name, math.nan) for name in (metric.floor, metric.ceiling, metric.name)]
    return Gap(distance, *found) if all(math.isfinite(value) for value in found) else None


def gap_words(metrics: Mapping[str, float]) -> str:
    """The gaps of one model in a sentence; empty where none was recorded."""
    found = [gap for gap in (gap_of(metrics, distance) for distance in DISTANCES) if gap]
    parts = [
        f"{_number(gap.total)} in {DISTANCES[gap.distance].label}, of which the autoencoder loses "
        f"{_number(gap.autoencoder)} and the denoiser {_number(gap.denoiser)}"
        for gap in found
    ]
    if not parts:
        return ""
    negative = any(min(gap.autoencoder, gap.denoiser) < 0 for gap in found)
    return f"Above the floor it lies {'; '.join(parts)}" + (f" ({BELOW_ZERO})." if negative else ".")


def _number(value: float) -> str:
    return f"{round(value, 1) + 0.0:.1f}".replace("-", "−")
