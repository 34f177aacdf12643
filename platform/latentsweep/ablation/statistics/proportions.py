"""Rates of rare things, from counts: exact intervals, what a number of tries can miss, and a test of two rates."""

from __future__ import annotations

from typing import Any

import numpy as np

Numbers = Any
"""A number, or an array of any shape that broadcasts."""


def exact_interval(found: Numbers, tried: Numbers, *, alpha: float = 0.05) -> tuple[Numbers, Numbers]:
    """The exact 1 − α interval of a rate, of which ``found`` among ``tried`` were seen; Clopper and Pearson 1934.

    Ends are quantiles of beta distributions, 0 and 1 where none and all were. It holds the truth in at least 1 − α of
    cases, for independent tries.
    """
    from scipy.special import betaincinv

    k, n = np.asarray(found, dtype=np.float64), np.asarray(tried, dtype=np.float64)
    low = np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, alpha / 2), 0.0)
    high = np.where(k < n, betaincinv(k + 1, np.maximum(n - k, 1), 1 - alpha / 2), 1.0)
    return low, high


def missed_rate(tried: int, *, level: float = 0.05) -> float:
    """The rate of which ``tried`` tries see nothing in a share ``level`` of cases: 1 − level^(1/n), 1 for none."""
    return float(1 - level ** (1 / tried)) if tried else 1.0


def equal_rates_p(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Two-sided p of equal rates, for (found, tried) of two independent samples; Fisher's exact test (1935).

    The sum, over all splits of the total found, of the hypergeometric probabilities no larger than that of the split
    seen. It errs in at most α of cases, less for rare things.
    """
    from scipy.stats import fisher_exact

    table = [[found, tried - found] for found, tried in (first, second)]
    return float(fisher_exact(table).pvalue)
