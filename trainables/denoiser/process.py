"""The diffusion process: noise on clean latents, and what the denoiser predicts of them.

Symbols: z₀ a clean latent, ε standard normal noise, z_t the noisy latent, each (B, C, h, w); ᾱ_t the
cumulative product of 1 − β up to the sample's timestep, (B,).
"""

from __future__ import annotations

from torch import Tensor

from trainables.errors import ConfigError


def add_noise(z0: Tensor, noise: Tensor, alphas_cumprod_t: Tensor) -> Tensor:
    """z_t = √ᾱ_t·z₀ + √(1 − ᾱ_t)·ε (Ho et al. 2020, eq. 4)."""
    signal, spread = _coefficients(alphas_cumprod_t, z0)
    return signal * z0 + spread * noise


def target(z0: Tensor, noise: Tensor, alphas_cumprod_t: Tensor, prediction: str) -> Tensor:
    """What the UNet learns to predict: ε, v = √ᾱ_t·ε − √(1 − ᾱ_t)·z₀ (Salimans & Ho 2022), or z₀.

    Raises :class:`ConfigError` for an unknown ``prediction``.
    """
    match prediction:
        case "epsilon":
            return noise
        case "v":
            signal, spread = _coefficients(alphas_cumprod_t, z0)
            return signal * noise - spread * z0
        case "x0":
            return z0
        case _:
            raise unknown_prediction(prediction)


def to_x0_and_noise(output: Tensor, z_t: Tensor, alphas_cumprod_t: Tensor, prediction: str) -> tuple[Tensor, Tensor]:
    """The estimates x̂₀ and ε̂ of a UNet's output for z_t; both in the dtype of ``z_t``.

    Where ᾱ_t = 0, z_t is pure noise, and ε-prediction gives no x̂₀. Raises :class:`ConfigError` as :func:`target`.
    """
    signal, spread = _coefficients(alphas_cumprod_t, z_t)
    output = output.to(z_t.dtype)
    match prediction:
        case "epsilon":
            return (z_t - spread * output) / signal, output
        case "v":
            return signal * z_t - spread * output, spread * z_t + signal * output
        case "x0":
            return output, (z_t - signal * output) / spread
        case _:
            raise unknown_prediction(prediction)


def unknown_prediction(prediction: str) -> ConfigError:
    """The error for an unknown prediction."""
    return ConfigError(f"prediction must be one of epsilon, v, x0; got {prediction!r}")


def _coefficients(alphas_cumprod_t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """√ᾱ_t and √(1 − ᾱ_t), (B, 1, 1, 1); computed in the dtype of ᾱ_t, then cast to that of ``like``."""
    column = alphas_cumprod_t[:, None, None, None]
    return column.sqrt().to(like), (1 - column).sqrt().to(like)
