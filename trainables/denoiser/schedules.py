"""Noise schedules: β_t for t = 1 … T, and from them ᾱ_t; float64, index t − 1."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from trainables.denoiser.diffusion import DiffusionConfig

COSINE_OFFSET = 0.008
"""s of Nichol & Dhariwal 2021, eq. 17."""
COSINE_BETA_MAX = 0.999
"""Their cap on β_t, against a singular end."""


def paper_betas(config: DiffusionConfig) -> Tensor:
    """β_t = β_min + (β_max − β_min)·(1 − cos(t/T · π/2)), t = 1 … T; (T,)."""
    share = torch.arange(1, config.timesteps + 1, dtype=torch.float64) / config.timesteps
    return config.beta_min + (config.beta_max - config.beta_min) * (1 - torch.cos(share * math.pi / 2))


def cosine_betas(config: DiffusionConfig) -> Tensor:
    """β_t = min(1 − f(t)/f(t − 1), 0.999), f(t) = cos²((t/T + s)/(1 + s) · π/2) (Nichol & Dhariwal 2021)."""
    share = torch.arange(config.timesteps + 1, dtype=torch.float64) / config.timesteps
    f = torch.cos((share + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=COSINE_BETA_MAX)


def linear_betas(config: DiffusionConfig) -> Tensor:
    """T values from β_min to β_max at equal distances (Ho et al. 2020, section 4); (T,)."""
    return torch.linspace(config.beta_min, config.beta_max, config.timesteps, dtype=torch.float64)


SCHEDULES: dict[str, Callable[[DiffusionConfig], Tensor]] = {
    "paper": paper_betas,
    "cosine": cosine_betas,
    "linear": linear_betas,
}
"""β_t by the schedule's name: a configuration to (T,) float64 in (0, 1)."""


def alphas_cumprod(config: DiffusionConfig) -> Tensor:
    """ᾱ_t = ∏ (1 − β_s), s = 1 … t, of ``config.schedule``: (T,) float64, falling, indexed by timestep − 1.

    The UNet's timesteps are these indices, 0 … T − 1. With ``config.zero_terminal_snr`` the last ᾱ is 0.
    """
    alpha_bar = torch.cumprod(1 - SCHEDULES[config.schedule](config), dim=0)
    return to_zero_terminal_snr(alpha_bar) if config.zero_terminal_snr else alpha_bar


def to_zero_terminal_snr(alpha_bar: Tensor) -> Tensor:
    """ᾱ_t (T,) with √ᾱ_t shifted and scaled so that ᾱ_1 stays and ᾱ_T is 0 (Lin et al. 2024, algorithm 1)."""
    signal = alpha_bar.sqrt()
    first, last = signal[0], signal[-1]
    return ((signal - last) * first / (first - last)).square()
