"""Guidance: an evaluation goes past the denoiser's output, away from what a lesser denoiser says.

Outputs of ε, v and x₀ are extrapolated alike: at a given z_t they are linear in each other. Legend: z_t noisy latents
(B, C, h, w), timesteps (B,), positions (B,), ᾱ the schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from trainables.denoiser.condition import Condition

Network = Callable[..., Tensor]


def guided(
    denoise: Network,
    parts: Sequence[str] = (),
    guide: Network | None = None,
    *,
    weight: float = 1.0,
    autoguidance: float = 1.0,
) -> Callable[..., Tensor]:
    """A denoiser of z_t, t and a tensor for each of its condition's ``parts``, with one or both kinds of guidance.

    - ``weight`` w is that of classifier-free guidance: null + w·(D − null), of the unconditional and the conditional
      output (Ho & Salimans 2022, eq. 6, whose w is one less); null isn't told position, lesion and labels, but the
      rest.
    - ``autoguidance`` w is that of an inferior version of the denoiser, ``guide``: D_guide + w·(D − D_guide), both
      told the same (Karras et al. 2024, "Guiding a Diffusion Model with a Bad Version of Itself", section 3).

    With both, what each adds to D is added. A weight of 1 adds nothing and takes no further call of a network.
    """

    def denoised(z_t: Tensor, t: Tensor, *values: Tensor) -> Tensor:
        condition = Condition(**dict(zip(parts, values, strict=True)))
        told = {"condition": condition} if parts else {}
        plain = output = denoise(z_t, t, **told).float()
        if weight != 1:
            nothing = replace(condition, position=None, lesion=None, categories=None)
            null = denoise(z_t, t, condition=nothing).float()
            output = null + weight * (plain - null)
        if autoguidance != 1 and guide is not None:
            output = output + (autoguidance - 1) * (plain - guide(z_t, t, **told).float())
        return output

    return denoised


def noise_level(alpha_bar: float) -> float:
    """σ = √((1 − ᾱ)/ᾱ), the noise's spread where the signal is not scaled (Karras et al. 2022); ∞ at ᾱ = 0."""
    return math.sqrt((1 - alpha_bar) / alpha_bar) if alpha_bar else math.inf


def guides_at(alpha_bar: float, low: float, high: float) -> bool:
    """Whether σ is in guidance's interval, (low, high] (Kynkäänniemi et al. 2024); ``high`` 0 is no upper bound."""
    return low < noise_level(alpha_bar) <= (high or math.inf)
