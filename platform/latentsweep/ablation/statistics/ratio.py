"""How many times the reference's KID an arm's is, with an interval that covers other seeds and other subjects.

Legend: n seeds, G subjects, ρ a ratio. KID is ×1000.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latentsweep.ablation.statistics.effect import CROSS_METRIC, Contrast, Run
from latentsweep.ablation.statistics.effects import by_arm_and_seed
from latentsweep.ablation.statistics.replicate import Replicate, independent, units
from latentsweep.ablation.statistics.subjects import kid_covariance
from latentsweep.pages.numbers import fixed, interval
from trainables.measures.distances import WithinKernel

Floats = npt.NDArray[np.float64]

REAL = 1e-7
"""Roots whose imaginary part is below this share of their size are real; the rest is rounding."""


@dataclass(frozen=True)
class Ratio:
    """An arm's mean KID over its reference's, both over the seeds in which both were measured.

    ``low`` and ``high`` end the 95 % interval of :func:`fieller`, None for one seed, for seeds without a spread, and
    where it is ``unbounded``; ``subjects`` says that it covers other held-out subjects beside other seeds. ``value``
    is None where the reference's mean isn't above 0. KID's unbiased estimate may be below 0 by chance, and so may the
    ratio and its lower end. ``words`` says it as "0.41 times the reference's [0.33, 0.52]"; ``runs`` are the keys of
    all runs behind it, and ``name`` is that of the contrast.
    """

    name: str
    arm: str
    reference: str
    metric: str
    seeds: tuple[int, ...]
    value: float | None
    low: float | None
    high: float | None
    unbounded: bool
    subjects: bool
    words: str
    runs: tuple[str, ...]

    @property
    def text(self) -> str:
        """The ratio with its interval, as it stands in a table."""
        return f"{_shown(self.value)} [unbounded]" if self.unbounded else _shown(self.value, self.low, self.high)


def ratios(
    runs: Sequence[Run],
    contrasts: Sequence[Contrast],
    *,
    seeds: Sequence[int],
    real: WithinKernel | None = None,
    alpha: float = 0.05,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Ratio]:
    """The KID of each arm over its reference's, for every contrast that is an arm less another; of no other kind.

    A difference's interval lacks what all arms have alike, the kernels of real slices of different subjects; in a
    ratio these don't cancel. ``real`` has them (:func:`trainables.measures.distances.kernel_within_groups` of the
    reference's slices): with it, and with ``cross`` of all runs, the interval covers other subjects, from
    resamples of whole subjects as in :func:`latentsweep.ablation.statistics.effects`; else it covers seeds alone. It
    leaves out 1 where the difference's interval leaves out 0, and no less, if both cover the same.
    """
    values = by_arm_and_seed(runs, CROSS_METRIC)
    found = []
    for contrast in contrasts:
        if contrast.kind != "arm" or sorted(contrast.weights.values()) != [-1.0, 1.0]:
            continue
        reference, arm = sorted(contrast.weights, key=lambda name: contrast.weights[name])
        paired = tuple(each for each in dict.fromkeys(seeds) if {(arm, each), (reference, each)} <= set(values))
        arms = [[values[name, each] for each in paired] for name in (arm, reference)]
        found.append(_ratio((contrast.name, arm, reference), paired, arms, real, alpha, resamples, seed))
    return found


def fieller(
    means: tuple[float, float],
    over_seeds: Floats,
    df_seeds: float,
    over_subjects: Floats | None = None,
    df_subjects: float = 1.0,
    *,
    alpha: float = 0.05,
) -> tuple[float, float] | None:
    """The 1 − α interval of a/r, both > 0 or near it, from ``means`` (a, r); None where it has no two ends.

    ``over_seeds`` and ``over_subjects`` (2, 2) are covariances of the two means. Fieller (1954): ρ is in the interval
    where a − ρr, whose mean would be 0, doesn't differ from 0. With seeds alone that is a paired t test, (a − ρr)² ≤
    t² V(ρ) with V(ρ) = s_aa − 2ρ s_ar + ρ² s_rr, and the ends are the roots of a quadratic. With subjects the
    variances add and the quantile is that of :func:`latentsweep.ablation.statistics.inference.judge`, which depends
    on ρ: the ends are the outermost roots of the quartic (a − ρr)² (V₁ + V₂) = (t₁V₁ + t₂V₂)². The interval has two
    ends where the same test tells r from 0, and else would hold every ρ or all but a middle.
    """
    from scipy.special import stdtrit

    arm, scale = means[0] / means[1], means[1] ** 2
    first = over_seeds / scale
    second = np.zeros((2, 2)) if over_subjects is None else over_subjects / scale
    t_first = float(-stdtrit(df_seeds, alpha / 2))
    t_second = float(-stdtrit(df_subjects, alpha / 2)) if second.any() else t_first
    own = first[1, 1] + second[1, 1]
    if own and t_first * first[1, 1] + t_second * second[1, 1] >= math.sqrt(own):
        return None
    polynomial = np.polynomial.polynomial
    square = np.array([arm**2, -2 * arm, 1.0])
    variances = [np.array([v[0, 0], -2 * v[0, 1], v[1, 1]]) for v in (first, second)]
    if t_first == t_second:
        curve = square - t_first**2 * (variances[0] + variances[1])
    else:
        quantiles = t_first * variances[0] + t_second * variances[1]
        curve = polynomial.polymul(square, variances[0] + variances[1]) - polynomial.polymul(quantiles, quantiles)
    roots = polynomial.polyroots(polynomial.polytrim(curve))
    ends = [arm, *(float(root.real) for root in roots if abs(root.imag) <= REAL * max(1.0, abs(root)))]
    return min(ends), max(ends)


def _ratio(
    names: tuple[str, str, str],
    seeds: tuple[int, ...],
    arms: Sequence[Sequence[Run]],
    real: WithinKernel | None,
    alpha: float,
    resamples: int,
    seed: int,
) -> Ratio:
    """The ratio of ``arms``, the arm's runs and the reference's, one for each of the ``seeds``."""
    kids = np.array([independent(seeds, [run.metrics[CROSS_METRIC] for run in each]) for each in arms])
    count = kids.shape[1]
    means = (float(kids[0].mean()), float(kids[1].mean())) if count else (math.nan, math.nan)
    value = means[0] / means[1] if means[1] > 0 else None
    ends, sampled, varies = None, None, False
    if value is not None and count > 1:
        names_of = dict(zip(names[1:], arms, strict=True))
        weights = dict(zip(names[1:], (1.0, -1.0), strict=True))
        sampled = kid_covariance(names_of, weights, real, resamples=resamples, seed=seed) if real else None
        over_seeds = np.cov(kids) / count
        varies = bool(over_seeds.any() or sampled)
        if (kids[0] == kids[1]).all():
            ends = (1.0, 1.0)
        elif varies:
            ends = fieller(means, over_seeds, count - 1, *(sampled or ()), alpha=alpha)
    low, high = ends or (None, None)
    unbounded = varies and ends is None
    words = _words(value, low, high, seeds, unbounded)
    runs = tuple(run.key for each in arms for run in each)
    return Ratio(*names, CROSS_METRIC, seeds, value, low, high, unbounded, sampled is not None, words, runs)


def _words(
    value: float | None, low: float | None, high: float | None, seeds: tuple[int, ...], unbounded: bool
) -> str:
    if not seeds:
        return "no ratio: no seed has both runs"
    if value is None:
        return "no ratio: the reference's mean isn't above 0"
    number, _, ends = _shown(value, low, high).partition(" ")
    text = f"{number} times the reference's"
    noun = "fold" if isinstance(seeds[0], Replicate) else "seed"
    if units(seeds) == 1:
        return f"{text} in the only {noun}"
    if unbounded:
        return f"{text}, which itself can't be told from 0, so that the 95 % interval has no two ends"
    if low is None:
        return f"{text} in each {noun}, without a spread to judge by"
    return f"{text} {ends}" + ("; below 0 by chance, as an unbiased estimate may be" if value < 0 else "")


def _shown(value: float | None, low: float | None = None, high: float | None = None) -> str:
    reach = (high - low) / 2 if low is not None and high is not None else 0
    places = min(4, max(2, -math.floor(math.log10(reach)))) if reach > 0 else 2
    return fixed(value, places) + interval(low, high, places)
