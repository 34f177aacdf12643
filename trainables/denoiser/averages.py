"""Averages of the denoiser's weights over its training: the training's own, and more of other lengths beside it."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import torch
from numpy.polynomial import Polynomial
from torch import Tensor

from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.unet import UNet

OWN = 0.0
"""The length that stands for the average of ``ema_decay`` and ``ema_warmup``."""


class Averages:
    """Averaged denoisers in evaluation mode, updated after every step."""

    def __init__(self, model: UNet, config: DiffusionConfig) -> None:
        self.decay, self.warmup = config.ema_decay, config.ema_warmup
        self.exponents = {length: power_exponent(length) for length in config.ema_lengths}
        self.clean: dict[float, dict[str, Tensor]] = {}
        """The weights by length at the last rung before one that copied; empty where none copied, or the first."""
        self.by_length = {
            length: copy.deepcopy(model).eval().requires_grad_(False) for length in (OWN, *self.exponents)
        }

    @property
    def own(self) -> UNet:
        """The average of ``ema_decay``, which validation measures."""
        return self.by_length[OWN]

    def modules(self) -> dict[str, UNet]:
        """All averages, by their names in a checkpoint."""
        return {f"average-{length!r}" if length else "average": model for length, model in self.by_length.items()}

    def weights(self) -> dict[str, Tensor]:
        """A copy of all weights on the CPU, by length and name."""
        return {
            f"{length!r}/{name}": tensor.detach().to("cpu", copy=True)
            for length, model in self.by_length.items()
            for name, tensor in model.state_dict().items()
        }

    def keep_clean(self, weights: Mapping[str, Tensor]) -> None:
        """Makes :attr:`clean` of what :meth:`weights` gave at an earlier step."""
        for name, tensor in weights.items():
            length, _, key = name.partition("/")
            self.clean.setdefault(float(length), {})[key] = tensor

    def update(self, model: UNet, step: int) -> None:
        """Adds the weights after optimiser step ``step``, from 0."""
        update_ema(self.own, model, step, self.decay, self.warmup)
        for length, gamma in self.exponents.items():
            update_ema(self.by_length[length], model, step, power_decay(step, gamma), warmup=False)


@torch.no_grad()
def update_ema(average: torch.nn.Module, model: torch.nn.Module, step: int, decay: float, warmup: bool) -> None:
    """One step of the exponential moving average, ``step`` from 0; warmed up as min(decay, (1 + n)/(10 + n))."""
    if warmup:
        decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1.0 - decay)


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


def power_decay(step: int, gamma: float) -> float:
    """The decay (1 − 1/n)^(γ + 1) at ``step`` from 0, n = ``step`` + 1: 0 at first, without the initial weights."""
    return math.pow(step / (step + 1), gamma + 1)
