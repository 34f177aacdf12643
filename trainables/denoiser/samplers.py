"""Samplers: the step from an evaluation to the noisy latents of the next one.

Symbols: z_t the noisy latents (B, C, h, w), x̂₀ and ε̂ the denoiser's estimates, ᾱ_t the schedule.
The settings read the names of the samplers here, so importing this module must import no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Step:
    """What a sampler knows after an evaluation."""

    z_t: Tensor
    x0: Tensor
    noise: Tensor
    alpha_bar: float
    """ᾱ_t; below, that of the next evaluation, which is larger."""
    next_alpha_bar: float
    previous: tuple[float, Tensor] | None
    """ᾱ and x̂₀ of the previous evaluation."""
    eta: float
    draw: Callable[[], Tensor]
    """Fresh standard normal noise of the shape of ``z_t``, from each image's own generator."""


def log_snr(alpha_bar: float) -> float:
    """log(ᾱ/(1 − ᾱ)); −∞ where ᾱ is 0, ∞ where it is 1."""
    if alpha_bar in (0.0, 1.0):
        return math.inf if alpha_bar else -math.inf
    return math.log(alpha_bar / (1 - alpha_bar))


def ddim(step: Step) -> Tensor:
    """The next z of DDIM (Song et al. 2021, eq. 12 and 16); η = 1 is ancestral."""
    now, then = step.alpha_bar, step.next_alpha_bar
    sigma = step.eta * math.sqrt((1 - then) / (1 - now) * (1 - now / then))
    # Rounding can leave the difference below 0 for η = 1.
    direction = math.sqrt(max(0.0, 1 - then - sigma**2))
    z = math.sqrt(then) * step.x0 + direction * step.noise
    return z + sigma * step.draw() if sigma > 0 else z


def dpmpp_2m(step: Step) -> Tensor:
    """The next z of DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), whose first step is of order 1; no η.

    From ᾱ = 0, where λ = −∞, the formula has limits: h = ∞ in the first step, which is then DDIM's, and a ratio of ∞
    in the second, which is then of order 1, too.
    """
    now, then = step.alpha_bar, step.next_alpha_bar
    h = 0.5 * (log_snr(then) - log_snr(now))
    data = step.x0
    if step.previous is not None:
        before, x0_before = step.previous
        ratio = 0.5 * (log_snr(now) - log_snr(before)) / h
        data = data + (step.x0 - x0_before) / (2 * ratio)
    return math.sqrt((1 - then) / (1 - now)) * step.z_t - math.sqrt(then) * math.expm1(-h) * data


SAMPLERS: dict[str, Callable[[Step], Tensor]] = {"ddim": ddim, "dpmpp_2m": dpmpp_2m}
"""Samplers by name, each from the state after an evaluation to the z of the next one."""
WITHOUT_ETA = ("dpmpp_2m",)
"""Those that have no η."""
