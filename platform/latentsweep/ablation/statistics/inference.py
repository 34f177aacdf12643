"""Tests and intervals of paired differences, as array formulas.

Legend: n seeds, m contrasts of a family, G subjects, R resamples. Every function of floats takes arrays as well, so
that thousands of simulated studies are judged at once by the very formulas that judge a real one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Numbers = Any
"""A float, or an array of floats of any shape that broadcasts."""

BISECTIONS = 60
"""Halvings of the bracket of log p; what is left of it is rounding."""

LARGEST_SIGN_FLIP = 40
"""Seeds up to which the exact sign-flip test is computed, from 2 · 2²⁰ sums."""


class Judged(NamedTuple):
    """What a mean and its standard errors say: half the interval's width, the degrees of freedom, p."""

    reach: Numbers
    df: Numbers
    p: Numbers


def judge(
    mean: Numbers,
    se_seeds: Numbers,
    df_seeds: Numbers,
    se_subjects: Numbers = 0.0,
    df_subjects: Numbers = 1.0,
    *,
    alpha: float = 0.05,
) -> Judged:
    """The 1 − α interval mean ± reach, and the two-sided p of no difference; where p < α the interval leaves out 0.

    With seeds alone it is Student's paired t: reach = t(ν, α) · s/√n with ν = n − 1. With subjects the variances of
    two random samples add, V = s²/n + σ², and the quantile is that of Cochran and Cox (Experimental Designs, 1950):
    t* = (s²/n · t(n − 1, α) + σ² · t(ν_σ, α)) / V. ``df`` is the ν of the Student distribution that has the same
    quantile, and p the α at which reach equals the mean's size. The usual alternative, the degrees of freedom of
    Satterthwaite (1946) and Welch (1947), was tried: with 3 seeds, where s² has 2 of them, it rejects up to 2.9 times
    too often at α = 0.05/6, because a small s is taken for much information; this one rejects at most 1.2 times. The
    standard errors must not both be 0.
    """
    from scipy.special import stdtr, stdtridf

    df_subjects = np.where(np.equal(se_subjects, 0), df_seeds, df_subjects)
    error = np.hypot(se_seeds, se_subjects)
    share = (se_seeds / error) ** 2
    quantile = cochran_quantile(alpha, share, df_seeds, df_subjects)
    df = np.where(df_seeds == df_subjects, df_seeds, stdtridf(1 - alpha / 2, quantile))

    t = np.abs(mean) / error
    bounds = np.stack(np.broadcast_arrays(2 * stdtr(df_seeds, -t), 2 * stdtr(df_subjects, -t)))
    low, high = bounds.min(axis=0), bounds.max(axis=0)
    tight = (low == high) | (low == 0)
    low, high = np.where(tight, high, low), np.array(high)
    for _ in range(BISECTIONS if not tight.all() else 0):
        middle = np.sqrt(low * high)
        above = cochran_quantile(middle, share, df_seeds, df_subjects) > t
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return Judged(quantile * error, df, high)


def one_sided(mean: float, two_sided: float) -> float:
    """The p of a mean that isn't below 0, from the two-sided p of 0."""
    return two_sided / 2 if mean < 0 else 1 - two_sided / 2


def cochran_quantile(alpha: Numbers, share: Numbers, df: Numbers, other_df: Numbers) -> Numbers:
    """The mean of two two-sided Student quantiles at level α, ``share`` of it the first; Cochran and Cox 1950."""
    from scipy.special import stdtrit

    lower = np.asarray(alpha) / 2
    return -(share * stdtrit(df, lower) + (1 - share) * stdtrit(other_df, lower))


def holm(p: npt.ArrayLike) -> Floats:
    """Holm's step-down p values over the last axis, (…, m); Holm 1979.

    In ascending order p₍ᵢ₎ becomes the largest of (m − j + 1) p₍ⱼ₎, j ≤ i, at most 1. Rejecting those below α errs
    anywhere in the family with a probability of at most α, however the tests depend on each other.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, axis=-1)
    factors = np.arange(values.shape[-1], 0, -1)
    steps = np.maximum.accumulate(np.take_along_axis(values, order, axis=-1) * factors, axis=-1)
    corrected = np.empty_like(values)
    np.put_along_axis(corrected, order, np.minimum(steps, 1), axis=-1)
    return corrected


def sign_flip_p(values: Sequence[float]) -> float | None:
    """Exact two-sided p of the sign-flip test: the share of the 2ⁿ sign patterns with a mean as far from 0.

    Fisher 1935: without an effect each difference is as likely as its opposite; no normal distribution is assumed.
    The patterns of two halves are summed and counted against each other. None for fewer than 2 values, or more than
    :data:`LARGEST_SIGN_FLIP`.
    """
    count = len(values)
    if not 2 <= count <= LARGEST_SIGN_FLIP:
        return None
    array = np.asarray(values, dtype=np.float64)
    reach = abs(array.sum()) - 1e-12 * np.abs(array).sum()
    first, second = _signed_sums(array[: count // 2]), np.sort(_signed_sums(array[count // 2 :]))
    if reach <= 0:
        return 1.0
    above = len(second) - np.searchsorted(second, reach - first, side="left")
    return float(2 * above.sum() / 2**count)


def hedges_correction(df: int) -> float | None:
    """J(ν) = Γ(ν/2) / (√(ν/2) Γ((ν − 1)/2)), which frees mean/sd of its bias; None for ν < 2 (Hedges 1981)."""
    if df < 2:
        return None
    return math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)


def subject_error(sums: npt.ArrayLike, sizes: npt.ArrayLike, *, resamples: int, seed: int) -> tuple[Numbers, Numbers]:
    """Standard error of the ratio Σ sums / Σ sizes between draws of G subjects, and its degrees of freedom.

    ``sums`` (…, G), ``sizes`` (…, G), more than 0. Subjects are drawn with replacement, R times (Efron and Tibshirani
    1993). Subjects of unequal size count as G* = 1/Σ(n_g/Σn)² of equal weight (Kish 1965), 2 at least: there are
    G* − 1 degrees of freedom, and as a resample's variance lacks one of them, the standard deviation of the ratios is
    multiplied by √(G*/(G* − 1)).
    """
    totals, weights = np.asarray(sums, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    drawn = subject_draws(weights.shape[-1], resamples=resamples, seed=seed).T
    spread = np.std((totals @ drawn) / (weights @ drawn), axis=-1, ddof=1)
    effective = effective_subjects(weights)
    return spread * np.sqrt(effective / (effective - 1)), effective - 1


def subject_draws(count: int, *, resamples: int, seed: int) -> Floats:
    """How often each of ``count`` subjects is in each resample, (R, G)."""
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return drawn.astype(np.float64)


def effective_subjects(sizes: Floats) -> Numbers:
    """Kish's number of subjects of equal weight that say as much as those of ``sizes`` (…, G), 2 at least."""
    return np.maximum(sizes.sum(axis=-1) ** 2 / (sizes**2).sum(axis=-1), 2)


def _signed_sums(values: Floats) -> Floats:
    """The sums of all sign patterns of k values, (2ᵏ,)."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums
