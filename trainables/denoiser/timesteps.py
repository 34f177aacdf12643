"""Which timesteps a training step sees: T of them in the schedule, drawn as indices 0 … T − 1 for a batch of B."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LOGIT_MEAN = 0.0
"""m of :func:`logit_normal`, 0 and with s = 1 the setting that Esser et al. 2024 took on."""
LOGIT_SPREAD = 1.0
"""s of :func:`logit_normal`."""


def uniform(timesteps: int, batch: int, random: torch.Generator) -> Tensor:
    """Each on its own, all alike (Ho et al. 2020, algorithm 1)."""
    return torch.randint(timesteps, (batch,), generator=random)


def stratified(timesteps: int, batch: int, random: torch.Generator) -> Tensor:
    """One from each of B equal parts of the schedule: t_i/T = (u + i/B) mod 1, with one u ~ U(0, 1).

    The low-discrepancy sampler of Kingma et al. 2021 (VDM): each t is uniform, and a batch's loss varies less.
    """
    first = torch.rand((), generator=random, dtype=torch.float64)
    return _indices((first + torch.arange(batch, dtype=torch.float64) / batch) % 1.0, timesteps)


def logit_normal(timesteps: int, batch: int, random: torch.Generator) -> Tensor:
    """t/T = sigmoid(m + s·n), n ~ N(0, 1): more of the schedule's middle (Esser et al. 2024, section 3.1)."""
    normal = torch.randn(batch, generator=random, dtype=torch.float64)
    return _indices(torch.sigmoid(LOGIT_MEAN + LOGIT_SPREAD * normal), timesteps)


TIMESTEP_SAMPLERS: dict[str, Callable[[int, int, torch.Generator], Tensor]] = {
    "uniform": uniform,
    "stratified": stratified,
    "logit_normal": logit_normal,
}
"""By name: (T, B, the step's generator) → timesteps (B,) int64 on the CPU."""


def _indices(shares: Tensor, timesteps: int) -> Tensor:
    """Shares of the schedule (B,), in [0, 1], as timesteps."""
    return (shares * timesteps).long().clamp(max=timesteps - 1)
