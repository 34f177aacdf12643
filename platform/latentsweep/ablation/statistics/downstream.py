"""How good generated slices are as training data, with intervals that cover other seeds and other patients.

Legend: S seeds, G held-out patients; scores are (S, G).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latentsweep.ablation.statistics.inference import judge, subject_error
from latentsweep.ablation.statistics.ratio import fieller
from trainables.measures.downstream.scores import BOTH, REAL, SYNTHETIC, fractions_of, gain_at, scores_of

Floats = npt.NDArray[np.float64]

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A number and the ends of its 95 % interval, None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Arm:
    """The networks of one arm at one share of the patients: their Dice and 95 % Hausdorff distance in pixels."""

    arm: str
    fraction: float
    """0 for no real patients."""
    slices: float
    """The mean number of slices that they were trained on."""
    dice: Estimate
    hausdorff: Estimate


@dataclass(frozen=True)
class Usefulness:
    """What a comparison found."""

    arms: tuple[Arm, ...]
    ratio: Estimate | None
    """The Dice of generated slices alone over that of all real ones; None where that is 0."""
    gains: Mapping[float, Estimate]
    """What generated slices add to the Dice, by the share of the real patients beside them."""
    gain_at: float
    """The share at which the gain is told."""
    seeds: int
    patients: int
    drawn: int
    copies: int
    """Of the drawn slices, near copies of training slices, which were left out."""

    @classmethod
    def of(cls, summary: Mapping[str, Any]) -> Usefulness:
        """From the summary of the stage ``downstream``."""
        rows = summary["rows"]
        real, alone = scores_of(rows, REAL, 1.0), scores_of(rows, SYNTHETIC, 0.0)
        shares = fractions_of(rows)
        cells = [*((REAL, share) for share in shares), (SYNTHETIC, 0.0), *((BOTH, share) for share in shares)]
        arms = [
            Arm(
                arm,
                share,
                float(np.mean([row["slices"] for row in rows if (row["arm"], row["fraction"]) == (arm, share)])),
                estimate_mean(scores_of(rows, arm, share)),
                estimate_mean(scores_of(rows, arm, share, "hausdorff")),
            )
            for arm, share in cells
        ]
        gains = {
            share: estimate_mean(scores_of(rows, BOTH, share) - scores_of(rows, REAL, share)) for share in shares
        }
        ratio = estimate_ratio(alone, real) if real.mean() > 0 else None
        size = {"drawn": summary["drawn"], "copies": summary["copies"]}
        return cls(tuple(arms), ratio, gains, gain_at(rows), *real.shape, **size)


def estimate_mean(scores: Floats) -> Estimate:
    """The mean over seeds and patients with the interval of :func:`~.inference.judge`; of a single patient without.

    Of paired differences it is the interval of the difference: what seeds and patients have alike cancels.
    """
    seeds, patients = scores.shape
    mean = float(scores.mean())
    if patients < 2:
        return Estimate(mean)
    over_seeds = float(scores.mean(axis=1).std(ddof=1)) / math.sqrt(seeds)
    error, df = subject_error(scores.mean(axis=0), np.ones(patients), resamples=RESAMPLES, seed=0)
    if not over_seeds and not error:
        return Estimate(mean, mean, mean)
    reach = float(judge(mean, over_seeds, seeds - 1, float(error), float(df)).reach)
    return Estimate(mean, mean - reach, mean + reach)


def estimate_ratio(scores: Floats, reference: Floats) -> Estimate:
    """The mean of paired scores over that of the reference, with the interval of :func:`~.ratio.fieller`.

    It has no ends for a single patient, and where the reference can't be told from 0.
    """
    pair = np.stack([scores, reference])
    seeds, patients = scores.shape
    means = pair.mean(axis=(1, 2))
    value = float(means[0] / means[1])
    if patients < 2:
        return Estimate(value)
    over_seeds = np.cov(pair.mean(axis=2)) / seeds
    over_patients = np.cov(pair.mean(axis=1)) / patients
    ends = fieller((float(means[0]), float(means[1])), over_seeds, seeds - 1, over_patients, patients - 1)
    return Estimate(value, *(ends or ()))
