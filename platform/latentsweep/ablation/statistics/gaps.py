"""What each arm's generated slices lack of real ones, split between autoencoder and denoiser, over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latentsweep.ablation.statistics.effect import Run
from latentsweep.ablation.statistics.replicate import independent
from latentsweep.metrics import SAMPLES
from latentsweep.pages.gap import DISTANCES, Gap, gap_of

PARTS = Gap._fields
"""What a gap is shown by: the first three add up to the last."""


@dataclass(frozen=True)
class Part:
    """One part's values by seed, their mean, and its 95 % interval, None for fewer than two seeds or no spread."""

    values: tuple[float, ...]
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ArmGap:
    """One arm's gap in ``metric``, over the ``seeds`` for which floor, reconstructions and score were measured.

    The intervals are Student's, over seeds alone, of n − 1 degrees of freedom: they don't cover other real slices,
    which the three scores share. ``equal`` says that floor and score are of equally many slices; the Fréchet
    distance falls with their number, so where they aren't, the denoiser's part holds that too.
    """

    arm: str
    metric: str
    seeds: tuple[int, ...]
    floor: Part
    autoencoder: Part
    denoiser: Part
    generated: Part
    equal: bool
    runs: tuple[str, ...]

    @property
    def parts(self) -> tuple[Part, Part, Part]:
        """Those that add up to the score."""
        return self.floor, self.autoencoder, self.denoiser


def gaps(runs: Sequence[Run], arms: Sequence[str]) -> list[ArmGap]:
    """The gaps of each arm in KID ×1000 and in FID; none of an arm where no run has all three scores."""
    found = []
    for distance, metric in DISTANCES.items():
        for arm in arms:
            own = sorted((run for run in runs if run.arm == arm), key=lambda run: run.seed)
            measured = [(run, gap) for run in own if (gap := gap_of(run.metrics, distance))]
            if measured:
                kept = [run for run, _ in measured]
                seeds, keys = tuple(run.seed for run in kept), tuple(run.key for run in kept)
                equal = all(run.metrics.get(SAMPLES.name) == run.metrics.get(SAMPLES.floor) for run in kept)
                parts = {name: _part(seeds, [getattr(gap, name) for _, gap in measured]) for name in PARTS}
                found.append(ArmGap(arm=arm, metric=metric.name, seeds=seeds, equal=equal, runs=keys, **parts))
    return found


def _part(seeds: Sequence[int], values: Sequence[float]) -> Part:
    from scipy.special import stdtrit

    each_unit = independent(seeds, values)
    mean, count = float(np.mean(each_unit)), len(each_unit)
    error = float(np.std(each_unit, ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    if not error:
        return Part(tuple(values), mean, None, None)
    reach = float(stdtrit(count - 1, 0.975)) * error
    return Part(tuple(values), mean, mean - reach, mean + reach)
