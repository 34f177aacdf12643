"""The profiles of averages of weights: how much each step of a training counts in one (Karras et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.polynomial import Polynomial

FURTHEST = 0.1
"""The largest error of a reconstructed profile, over the profile's norm. Of the lengths 0.05 and 0.1 are made those
of 0.04 to 0.12, and with 0.2 beside them those up to 0.22."""


def power_exponent(length: float) -> float:
    """γ > 0 of the power function whose spread is ``length`` of the training (Karras et al. 2024, section 3.1).

    After step n the weights of step k count as the integral of τ^γ from k − 1 to k. This profile has the standard
    deviation σ_rel·n, with σ_rel = √(γ + 1)/((γ + 2)·√(γ + 3)) = ``length``, in trainings of any number of steps.
    ``length`` is above 0 and below 1/√12, that of γ = 0.
    """
    inverse = length**-2
    # (γ + 2)²·(γ + 3) = (γ + 1)/σ_rel²
    roots = Polynomial([12 - inverse, 16 - inverse, 7, 1]).roots()
    return float(roots.real.max())


def reconstruct(kept: Sequence[float], wanted: float) -> tuple[list[float], float]:
    """The weights of the averages ``kept`` whose sum is nearest to that of the length ``wanted``, and its error.

    A least-squares fit of profiles (Karras et al. 2024, section 3.2), here of one step's averages, so that it holds
    after any number of steps. The weights sum to 1. The error is that of the profile over the profile's norm. With
    p_γ(t) = (γ + 1)·t^γ on [0, 1], ∫p_α·p_β = (α + 1)(β + 1)/(α + β + 1).
    """
    if not kept:
        return [], math.inf
    exponents = np.array([power_exponent(length) for length in (*kept, wanted)])
    rises = exponents + 1
    products = np.outer(rises, rises) / (exponents[:, None] + rises[None])
    count = len(kept)
    system = np.ones((count + 1, count + 1))
    system[:count, :count], system[count, count] = products[:count, :count], 0
    weights = np.linalg.solve(system, np.append(products[:count, count], 1.0))[:count]
    difference = np.append(weights, -1.0)
    error = max(0.0, float(difference @ products @ difference))
    return weights.tolist(), math.sqrt(error / float(products[count, count]))


def power_decay(step: int, gamma: float) -> float:
    """The decay (1 − 1/n)^(γ + 1) at ``step`` from 0, n = ``step`` + 1: 0 at first, without the initial weights."""
    return math.pow(step / (step + 1), gamma + 1)
