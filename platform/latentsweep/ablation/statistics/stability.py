"""How often an arm's seeds failed: a loss that diverged, or a score far above the arm's others."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from latentsweep.ablation.statistics.effect import CROSS_METRIC, Run, Stability
from latentsweep.ablation.statistics.proportions import exact_interval, missed_rate
from latentsweep.ablation.statistics.replicate import fold_of

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

    In a study with folds the median is that of the arm's seeds in the fold, as a fold may be harder than others. In a
    fold with fewer than :data:`FEWEST` of them, scores are first freed of how hard the fold is: of the median of its
    scores, each over its arm's median. That takes several arms, three or more where there is one seed a fold.
    """
    logs = {
        arm: {seed: math.log(score) for seed, score in own.items()}
        for arm, own in scores.items()
        if len(own) >= FEWEST and min(own.values()) > 0
    }
    level = _levels(logs)
    away: dict[str, dict[int, float]] = {}
    distances: list[float] = []
    for arm, own in logs.items():
        cells = {fold: [seed for seed in own if fold_of(seed) == fold] for fold in {fold_of(seed) for seed in own}}
        few = [seed for cell in cells.values() if len(cell) < FEWEST for seed in cell]
        groups = [{seed: own[seed] for seed in cell} for cell in cells.values() if len(cell) >= FEWEST]
        if few:
            groups.append({seed: own[seed] - level[fold_of(seed)] for seed in few})
        away[arm] = {}
        for group in groups:
            median = float(np.median(list(group.values())))
            far = {seed: value - median for seed, value in group.items()}
            away[arm] |= far
            distances += _without_median(np.abs(list(far.values()))).tolist()
    spread = 1.4826 * float(np.median(distances)) if distances else math.inf
    least = max(math.log(TIMES), FAR * spread)
    return {
        arm: tuple(seed for seed in own if away.get(arm, {}).get(seed, 0.0) > least) for arm, own in scores.items()
    }


def _levels(logs: Mapping[str, Mapping[int, float]]) -> dict[int, float]:
    """How hard each fold is: the median of its scores' logarithms, each less its arm's median."""
    found: dict[int, list[float]] = {}
    for own in logs.values():
        median = float(np.median(list(own.values())))
        for seed, value in own.items():
            found.setdefault(fold_of(seed), []).append(value - median)
    return {fold: float(np.median(values)) for fold, values in found.items()}


def _without_median(distances: np.ndarray) -> np.ndarray:
    """Distances from a median; the 0 of the value that is the median, of an odd number, says nothing."""
    ordered = np.sort(distances)
    return ordered[1:] if len(ordered) % 2 else ordered
