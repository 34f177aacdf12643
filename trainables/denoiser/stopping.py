"""The early stop: when a sample may end before the sampler does, and what it then has under each threshold.

Symbols: x̂₀ and ε̂ the denoiser's estimates (B, C, h, w); ᾱ_t the schedule, whose signal-to-noise ratio is
SNR = ᾱ_t/(1 − ᾱ_t); K thresholds; an *evaluation* is one call of the denoiser for a sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.denoiser.samplers import log_snr
from trainables.loop.execution import send

LEAST_SNR = 1.0
"""A sample may stop where its SNR is above this. Below it x̂₀ is near the data's mean, and hardly moves."""


def stoppable(alpha_bars: Sequence[float]) -> list[bool]:
    """At which evaluations a sample may stop, by their ᾱ: those of enough SNR but the last, which ends it anyway."""
    return [log_snr(alpha_bar) > math.log(LEAST_SNR) for alpha_bar in alpha_bars[:-1]] + [False]


def noise_norm(x0: Tensor, noise: Tensor, alpha_bar: float, previous: tuple[float, Tensor] | None) -> Tensor:
    """‖ε̂‖/√d of each sample, (B,), d = C·h·w: the paper's ‖ε̂‖ for one value of a latent, near 1 by construction."""
    return norms(noise) / math.sqrt(noise[0].numel())


def x0_change(x0: Tensor, noise: Tensor, alpha_bar: float, previous: tuple[float, Tensor] | None) -> Tensor:
    """How fast x̂₀ of each sample changes, (B,): ‖x̂₀ − x̂₀ before‖/‖x̂₀ before‖ over the change of log SNR.

    It is a rate along the sampler's path, so that a threshold means the same at any number of steps. For latents that
    are white noise of unit spread it is ½/(1 + SNR), about the share by which x̂₀ is still short of its end. NaN at
    the first evaluation, and at one that follows pure noise (ᾱ = 0).
    """
    if previous is None or not previous[0]:
        return torch.full((len(x0),), math.nan, device=x0.device)
    before, x0_before = previous
    return norms(x0 - x0_before) / norms(x0_before) / (log_snr(alpha_bar) - log_snr(before))


STOP_MEASURES = {"noise_norm": noise_norm, "x0_change": x0_change}
"""What ``early_stop_rule`` compares with the threshold: (x̂₀, ε̂, ᾱ, ᾱ and x̂₀ before) → (B,)."""


class Stops:
    """The result of each sample under each threshold, filled in as they stop."""

    def __init__(self, thresholds: Sequence[float], noise: Tensor, alpha_bars: Sequence[float]) -> None:
        batch, steps = len(noise), len(alpha_bars)
        self.may_stop = stoppable(alpha_bars)
        self.limits = torch.tensor(thresholds, dtype=torch.float32)[:, None]
        self.latents = noise.new_empty((len(thresholds), *noise.shape), dtype=torch.float32)
        """(K, B, C, h, w): x̂₀ of the evaluation at which a sample stopped."""
        self.steps_used = torch.full((len(thresholds), batch), steps)
        """(K, B) int64: the evaluations that it took."""
        self.measures = torch.full((batch, steps), math.nan)
        """(B, steps): the stop measure, NaN where it is undefined or wasn't taken."""
        self.running = torch.ones((len(thresholds), batch), dtype=torch.bool)
        self.active = torch.arange(batch)
        """(A,): the samples that some threshold still runs."""

    def note(self, evaluation: int, x0: Tensor, measure: Tensor) -> Tensor:
        """Notes what the ``active`` samples have after an evaluation: x̂₀ (A, C, h, w) and their measure (A,).

        Returns which of them go on, (A,) bool on the CPU; only these are active then.
        """
        measure = measure.cpu()
        self.measures[self.active, evaluation] = measure
        ends = self.running[:, self.active]
        if evaluation < len(self.may_stop) - 1:
            ends = ends & (measure < self.limits) & self.may_stop[evaluation]
        for threshold in ends.any(dim=1).nonzero().flatten().tolist():
            rows = ends[threshold].nonzero().flatten()
            self.steps_used[threshold, self.active[rows]] = evaluation + 1
            where, rows = send((self.active[rows], rows), x0.device)
            self.latents[threshold].index_copy_(0, where, x0.index_select(0, rows))
        self.running[:, self.active] &= ~ends
        stay = self.running[:, self.active].any(dim=0)
        self.active = self.active[stay]
        return stay


def norms(x: Tensor) -> Tensor:
    """The Euclidean norm of each sample, (B,)."""
    found: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return found
