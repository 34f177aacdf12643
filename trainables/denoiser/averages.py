"""Averages of the denoiser's weights over its training: its own, that of an early step, and more of other lengths."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.profiles import power_decay, power_exponent, reconstruct
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
        self.guide_steps = config.guide_steps
        self.guide = copy.deepcopy(self.own) if self.guide_steps else None
        """The training's own average after ``guide_steps``, and until then as it is (Karras et al. 2024,
        2406.02507); None where none is kept."""

    @property
    def own(self) -> UNet:
        """The average of ``ema_decay``, which validation measures."""
        return self.by_length[OWN]

    def modules(self) -> dict[str, UNet]:
        """All averages, by their names in a checkpoint."""
        named = {f"average-{length!r}" if length else "average": model for length, model in self.by_length.items()}
        return named | ({"guide": self.guide} if self.guide is not None else {})

    def of_length(self, length: float) -> UNet:
        """The average of this length, one that is kept or a reconstruction (:func:`reconstruct`)."""
        if length in self.by_length:
            return self.by_length[length]
        model = copy.deepcopy(self.own)
        model.load_state_dict(combine({each: self.by_length[each].state_dict() for each in self.exponents}, length))
        return model

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
        if self.guide is not None and step < self.guide_steps:
            update_ema(self.guide, model, step, self.decay, self.warmup)
        for length, gamma in self.exponents.items():
            update_ema(self.by_length[length], model, step, power_decay(step, gamma), warmup=False)


@torch.no_grad()
def update_ema(average: torch.nn.Module, model: torch.nn.Module, step: int, decay: float, warmup: bool) -> None:
    """One step of the exponential moving average, ``step`` from 0; warmed up as min(decay, (1 + n)/(10 + n))."""
    if warmup:
        decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1.0 - decay)


def combine(states: Mapping[float, Mapping[str, Tensor]], wanted: float) -> dict[str, Tensor]:
    """The weights of the average of length ``wanted``, of those of other lengths by their names (see
    :func:`reconstruct`); each in the dtype of the first."""
    shares = torch.tensor(reconstruct(tuple(states), wanted)[0], dtype=torch.float64)
    first, *_ = states.values()
    made = {}
    for name, tensor in first.items():
        each = torch.stack([state[name].double() for state in states.values()])
        made[name] = torch.tensordot(shares.to(tensor.device), each, dims=1).to(tensor)
    return made
