"""What a number of seeds can show, before any of them is trained.

Effects are in standard deviations of the paired difference (Cohen's d_z). A study of m contrasts is planned at α/m:
Bonferroni's level, which is Holm's first step, the one that a single effect among m must pass.
"""

from __future__ import annotations

import bisect
import math

import numpy as np

from latentsweep.ablation.statistics.inference import cochran_quantile
from trainables.errors import ConfigError


def detectable(
    seeds: int,
    contrasts: int,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    se_subjects: float = 0.0,
    df_subjects: float = math.inf,
) -> float:
    """The smallest effect that so many seeds show with probability ``power``; infinite for fewer than 2 seeds.

    With the noncentral t of n − 1 degrees of freedom and noncentrality δ√n (Cohen 1988, ch. 2), the δ for which
    P(t > t(n − 1, α/m)) is ``power``; the wrong sign isn't counted as found. ``se_subjects`` is the standard error
    that subjects add, in the same units, which more seeds don't reduce: the quantile is then that of
    :func:`latentsweep.ablation.statistics.inference.judge`, and the power approximate.

    Raises :class:`ConfigError` unless 0 < α < power < 1 and there is a contrast.
    """
    from scipy.special import nctdtrinc, stdtridf

    if not 0 < alpha < power < 1 or contrasts < 1:
        raise ConfigError(
            f"a plan takes a contrast or more and 0 < alpha < power < 1, got {contrasts}, alpha {alpha} and power "
            f"{power}: name at least one arm beside the reference"
        )
    if seeds < 2:
        return math.inf
    df, level = seeds - 1, alpha / contrasts
    variance = 1 / seeds + se_subjects**2
    quantile = cochran_quantile(level, 1 / seeds / variance, df, df_subjects if se_subjects else df)
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
