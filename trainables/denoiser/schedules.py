"""Noise schedules, β_t and from them ᾱ_t for t = 1 … T, and how a batch's timesteps are drawn.

Schedules are float64 (T,), at index t − 1; the timesteps of a batch of B are these indices, 0 … T − 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainables.denoiser.diffusion import DiffusionConfig

COSINE_OFFSET = 0.008
"""s of Nichol & Dhariwal 2021, eq. 17."""
COSINE_BETA_MAX = 0.999
"""Their cap on β_t, against a singular end."""

LOGIT_MEAN = 0.0
LOGIT_SPREAD = 1.0
"""m and s of :func:`logit_normal`, as Esser et al. 2024 chose them."""


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


SCHEDULES = {"paper": paper_betas, "cosine": cosine_betas, "linear": linear_betas}
"""β_t by the schedule's name: a configuration to (T,) float64 in (0, 1)."""


def alphas_cumprod(config: DiffusionConfig) -> Tensor:
    """ᾱ_t = ∏ (1 − β_s), s = 1 … t, of ``config.schedule``, falling; the last is 0 with ``zero_terminal_snr``."""
    alpha_bar = torch.cumprod(1 - SCHEDULES[config.schedule](config), dim=0)
    if not config.zero_terminal_snr:
        return alpha_bar
    # Lin et al. 2024, algorithm 1: √ᾱ_t is shifted and scaled so that ᾱ_1 stays.
    signal = alpha_bar.sqrt()
    first, last = signal[0], signal[-1]
    return ((signal - last) * first / (first - last)).square()


def log_sigmas(config: DiffusionConfig) -> Tensor:
    """ln σ of each timestep, (T,) float64, rising; σ = √((1 − ᾱ_t)/ᾱ_t) is the noise in z_t/√ᾱ_t, ∞ at ᾱ_t = 0."""
    alpha_bar = alphas_cumprod(config)
    return ((1 - alpha_bar) / alpha_bar).log() / 2


def noise_labels(config: DiffusionConfig) -> Tensor:
    """c_noise = (ln σ)/4 of each timestep, (T,) float32 (Karras et al. 2022, table 1); that of pure noise is finite.

    At ᾱ_T = 0, ln σ counts as 1 more than at the timestep before.
    """
    levels = log_sigmas(config)
    return torch.minimum(levels, levels[-2] + 1).float() / 4


def uniform(config: DiffusionConfig, batch: int, random: torch.Generator) -> Tensor:
    """Each timestep by itself, all equally likely (Ho et al. 2020, algorithm 1)."""
    return torch.randint(config.timesteps, (batch,), generator=random)


def stratified(config: DiffusionConfig, batch: int, random: torch.Generator) -> Tensor:
    """One from each of B equal parts of the schedule: t_i/T = (u + i/B) mod 1, with one u ~ U(0, 1).

    The low-discrepancy sampler of Kingma et al. 2021 (VDM): each t is uniform, and the loss varies less by batch.
    """
    first = torch.rand((), generator=random, dtype=torch.float64)
    return _indices((first + torch.arange(batch, dtype=torch.float64) / batch) % 1.0, config.timesteps)


def logit_normal(config: DiffusionConfig, batch: int, random: torch.Generator) -> Tensor:
    """t/T = sigmoid(m + s·n), n ~ N(0, 1): more of the schedule's middle (Esser et al. 2024, section 3.1)."""
    normal = torch.randn(batch, generator=random, dtype=torch.float64)
    return _indices(torch.sigmoid(LOGIT_MEAN + LOGIT_SPREAD * normal), config.timesteps)


def log_normal(config: DiffusionConfig, batch: int, random: torch.Generator) -> Tensor:
    """The timesteps whose ln σ is nearest to draws of N(P_mean, P_std²) (Karras et al. 2022, table 1).

    P_mean and P_std are ``config.log_sigma_mean`` and ``log_sigma_spread``. Pure noise, σ = ∞, is never drawn.
    """
    normal = torch.randn(batch, generator=random, dtype=torch.float64)
    levels = log_sigmas(config)
    return torch.bucketize(config.log_sigma_mean + config.log_sigma_spread * normal, (levels[1:] + levels[:-1]) / 2)


TIMESTEP_SAMPLERS = {
    "uniform": uniform,
    "stratified": stratified,
    "logit_normal": logit_normal,
    "log_normal": log_normal,
}
"""By name: (configuration, B, the step's generator) → timesteps (B,) int64 on the CPU, 0 … T − 1."""


def _indices(shares: Tensor, timesteps: int) -> Tensor:
    """Shares of the schedule (B,), in [0, 1], as timesteps."""
    return (shares * timesteps).long().clamp(max=timesteps - 1)
