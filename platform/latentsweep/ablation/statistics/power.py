"""What a number of seeds can show, before any of them is trained and after.

Effects are in standard deviations of the paired difference (Cohen's d_z), or in the unit of a standard error. A study
of m contrasts is planned at α/m: Bonferroni's level, which is Holm's first step, the one that a single effect among m
must pass.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from latentsweep.ablation.statistics.effect import Effect, Run
from latentsweep.ablation.statistics.inference import cochran_quantile
from latentsweep.ablation.statistics.replicate import units
from trainables.errors import ConfigError


def detectable(
    seeds: int,
    contrasts: int,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    se_subjects: float = 0.0,
    df_subjects: float = math.inf,
    df_a_seed: float = 1.0,
) -> float:
    """The smallest effect, in standard deviations of a paired difference, that the seeds show; :func:`shown_by`.

    ``df_a_seed`` are the degrees of freedom that a seed adds where arms share their residual spread. Infinite for
    fewer than 2 seeds.
    """
    if seeds < 2:
        shown_by(1.0, 1.0, contrasts, power=power, alpha=alpha)
        return math.inf
    df = df_a_seed * (seeds - 1)
    return shown_by(1 / math.sqrt(seeds), df, contrasts, se_subjects, df_subjects, power=power, alpha=alpha)


def shown_by(
    error: float,
    df: float,
    contrasts: int,
    se_subjects: float = 0.0,
    df_subjects: float = math.inf,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
) -> float:
    """The smallest effect that is shown with probability ``power``, in the unit of the standard error over seeds.

    With the noncentral t of ``df`` degrees of freedom and noncentrality δ/error (Cohen 1988, ch. 2), the δ for which
    P(t > t(ν, α/m)) is ``power``; the wrong sign isn't counted as found. ``se_subjects`` is the standard error that
    subjects add, in the same units, which more seeds don't reduce: the quantile is then that of
    :func:`latentsweep.ablation.statistics.inference.judge`, and the power approximate. An ``error`` of 0 gives what
    any number of seeds could show.

    Raises :class:`ConfigError` unless 0 < α < power < 1 and there is a contrast.
    """
    from scipy.special import nctdtrinc, stdtridf

    if not 0 < alpha < power < 1 or contrasts < 1:
        raise ConfigError(
            f"a plan takes a contrast or more and 0 < alpha < power < 1, got {contrasts}, alpha {alpha} and power "
            f"{power}: name at least one arm beside the reference"
        )
    variance, level = error**2 + se_subjects**2, alpha / contrasts
    if not variance:
        return 0.0
    quantile = cochran_quantile(level, error**2 / variance, df, df_subjects if se_subjects else df)
    if se_subjects:
        df = stdtridf(1 - level / 2, quantile)
    return float(nctdtrinc(df, 1 - power, quantile) * math.sqrt(variance))


def seeds_needed(effect_in_sd: float, contrasts: int, *, most: int = 1000, **plan: float) -> int | None:
    """The fewest seeds for which :func:`detectable` is no larger than the effect; None where ``most`` don't do.

    ``plan`` are the options of :func:`detectable`.
    """
    found = bisect.bisect_left(
        range(most + 1), -effect_in_sd, lo=2, key=lambda seeds: -detectable(seeds, contrasts, **plan)
    )
    return found if found <= most else None


def smallest_p(seeds: int) -> float:
    """The smallest p that the exact sign-flip test can give: 2/2ⁿ, which is 0.0625 for 5 seeds and 0.03125 for 6."""
    return float(min(1.0, np.ldexp(2.0, -seeds)))


def show_least(draft: Effect, contrasts: int, alpha: float, runs: Sequence[Run]) -> Effect:
    """The effect with the smallest difference that its errors let four studies of five show, at the level α/m.

    On the log scale it is of a rise; as a difference it is that share of the mean of the arms with negative weight.
    """
    values: dict[str, list[float]] = {arm: [] for arm in draft.contrast.arms}
    for run in runs:
        if run.arm in values:
            values[run.arm].append(run.metrics[draft.metric])
    reference = math.fsum(
        -weight * float(np.mean(values[arm]))
        for arm, weight in draft.contrast.weights.items()
        if weight < 0 and values[arm]
    )
    each = draft.relative
    if draft.scale == "log" and each:
        least = shown_by(
            each.se_seeds,
            each.df_seeds,
            contrasts,
            each.se_subjects or 0.0,
            each.df_subjects or math.inf,
            alpha=alpha,
        )
        change = math.expm1(least)
        return replace(draft, detectable=change * reference, detectable_change=change)
    if draft.df is None or draft.se_seeds is None or draft.counts:
        return draft
    subjects = draft.se_subjects or 0.0, draft.df_subjects or math.inf
    least = shown_by(draft.se_seeds, units(draft.seeds) - 1, contrasts, *subjects, alpha=alpha)
    return replace(draft, detectable=least, detectable_change=least / reference if reference > 0 else None)
