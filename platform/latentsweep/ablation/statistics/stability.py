"""How often an arm's seeds failed: a loss that diverged, or a score far above the arm's others."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from latentsweep.ablation.statistics.effect import CROSS_METRIC, Run, Stability
from latentsweep.ablation.statistics.proportions import exact_interval, missed_rate

FAR, TIMES = 8.0, 1.5
"""A score collapsed that is more than TIMES its arm's median, and FAR robust spreads of the study above it."""
FEWEST = 3
"""Seeds of an arm below which no score can be called far from the others."""


def failures_of(
    runs: Sequence[Run], arms: Sequence[str], diverged: Collection[tuple[str, int]]
) -> dict[str, Stability]:
    """The stability of each of ``arms``, by KID; ``diverged`` are the (arm, seed) whose training did.

    Seeds that the infrastructure lost are in neither, and not counted as tried.
    """
    scores = {
        arm: {
            run.seed: run.metrics[CROSS_METRIC]
            for run in runs
            if run.arm == arm and math.isfinite(run.metrics.get(CROSS_METRIC, math.nan))
        }
        for arm in arms
    }
    fallen = collapses(scores)
    found = {}
    for arm in arms:
        lost = tuple(sorted({seed for name, seed in diverged if name == arm}))
        measured = {run.seed for run in runs if run.arm == arm and run.metrics} - set(lost)
        tried, failed = len(measured) + len(lost), len(lost) + len(fallen[arm])
        low, high = exact_interval(failed, tried) if tried else (0.0, 1.0)
        worst = max(scores[arm].items(), key=lambda each: each[1], default=None)
        found[arm] = Stability(arm, tried, lost, fallen[arm], float(low), float(high), missed_rate(tried), worst)
    return found


def collapses(scores: Mapping[str, Mapping[int, float]]) -> dict[str, tuple[int, ...]]:
    """The seeds of each arm whose score collapsed, for scores that are lower where better.

    A score did that is more than :data:`TIMES` its arm's median, and whose logarithm is :data:`FAR` robust spreads
    above the median's: 1.4826 times the median distance from an arm's median, over all arms of the study but without
    the medians themselves. Of studies with lognormal noise alone, 2 to 8 arms with 3 to 8 seeds, at most 1 % have
    one, whatever the noise is. Where most of an arm's seeds collapse, they are its median, and none is found. An arm
    of fewer than :data:`FEWEST` seeds, or with a score or median that isn't above 0, has none.
    """
    away = {}
    for arm, own in scores.items():
        values = np.array(list(own.values()))
        if len(values) >= FEWEST and (values > 0).all():
            away[arm] = np.log(values) - np.median(np.log(values))
    distances = [each for own in away.values() for each in _without_median(np.abs(own))]
    spread = 1.4826 * float(np.median(distances)) if distances else math.inf
    least = max(math.log(TIMES), FAR * spread)
    return {
        arm: tuple(seed for seed, far in zip(own, away.get(arm, ()), strict=False) if far > least)
        for arm, own in scores.items()
    }


def _without_median(distances: np.ndarray) -> np.ndarray:
    """Distances from a median; the 0 of the value that is the median, of an odd number, says nothing."""
    ordered = np.sort(distances)
    return ordered[1:] if len(ordered) % 2 else ordered
