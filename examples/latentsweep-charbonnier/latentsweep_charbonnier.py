"""An example of plug-ins: a loss and a sampler with a field each, and two metrics without one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from trainables.config import Config, setting

if TYPE_CHECKING:  # at run time this module is loaded while the samplers are
    from trainables.denoiser.samplers import Step


@dataclass(frozen=True, kw_only=True)
class Charbonnier(Config):
    """√(d² + ε²) − ε of the difference d: a parabola near 0, the L1 far from it (Charbonnier et al. 1994)."""

    epsilon: float = setting(0.05, "ε, where the parabola turns into the L1, in units of d", low=1e-6, high=10)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over each sample: of two tensors (B, C, h, w) to (B,)."""
        smooth = ((prediction - target).square() + self.epsilon**2).sqrt()
        return smooth.mean(dim=(1, 2, 3)) - self.epsilon


@dataclass(frozen=True, kw_only=True)
class Damped(Config):
    """DDIM whose noise is damped at each step: with 0 it is DDIM of η = 0."""

    damping: float = setting(0.0, "share of the predicted noise that a step leaves out", low=0, high=1)

    def __call__(self, step: Step) -> Tensor:
        """The noisy latents (B, C, h, w) of the next evaluation."""
        then = step.next_alpha_bar
        return math.sqrt(then) * step.x0 + (1 - self.damping) * math.sqrt(1 - then) * step.noise


def grey_difference(images: np.ndarray, real: np.ndarray) -> float:
    """How much brighter generated slices are than real ones, uint8 (N, S, S) and (M, S, S): −255 to 255."""
    return float(images.mean() - real.mean())


def grey_distance(images: np.ndarray, real: np.ndarray) -> float:
    """How far the brightness of generated slices is from that of real ones, 0 to 255: lower is better."""
    return abs(grey_difference(images, real))
