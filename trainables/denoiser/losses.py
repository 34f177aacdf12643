"""Losses of the denoiser: powers of the error, frequency losses, and the weights of timesteps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from trainables.config import named_by
from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.process import unknown_prediction


def power(prediction: Tensor, target: Tensor, p: float) -> Tensor:
    """Mean of |prediction − target|^p of each sample (B, C, h, w): (B,), in float32.

    The L_p objective of SLIM-Diff (arXiv 2602.03372); 2 is the MSE. For p ≥ 1 the gradient is finite everywhere, and
    0 where both are equal.
    """
    error = prediction.float() - target.float()
    raised: Tensor = error.square() if p == 2 else error.abs().pow(p)
    return raised.mean(dim=(1, 2, 3))


def squared_l2(prediction: Tensor, target: Tensor, norm: str = "ortho") -> Tensor:
    """Mean of |F(p) − F(t)|²: by Parseval the MSE of each sample, h·w times that where F is unscaled."""
    return _power(_difference(prediction, target, norm)).mean(dim=(1, 2, 3))


def complex_l1(prediction: Tensor, target: Tensor, norm: str = "ortho") -> Tensor:
    """Mean of |F(p) − F(t)|, the modulus of the complex difference."""
    return _difference(prediction, target, norm).abs().mean(dim=(1, 2, 3))


def log_amplitude(prediction: Tensor, target: Tensor, norm: str = "ortho") -> Tensor:
    """Mean of |log(1 + |F(p)|) − log(1 + |F(t)|)|: phases don't count, and weak frequencies count as strong ones."""
    difference = torch.log1p(_spectrum(prediction, norm).abs()) - torch.log1p(_spectrum(target, norm).abs())
    return difference.abs().mean(dim=(1, 2, 3))


def focal(prediction: Tensor, target: Tensor, norm: str = "ortho") -> Tensor:
    """Focal frequency loss (Jiang et al. 2021, eq. 8 and 9, α = 1): mean of w·|F(p) − F(t)|².

    w is |F(p) − F(t)| over its largest value in each sample's channel, without gradient.
    """
    power = _power(_difference(prediction, target, norm))
    with torch.no_grad():
        modulus = power.sqrt()
        peak = modulus.amax(dim=(2, 3), keepdim=True)
        weight = modulus / peak.clamp(min=torch.finfo(peak.dtype).tiny)
    return (weight * power).mean(dim=(1, 2, 3))


def high_pass(prediction: Tensor, target: Tensor, norm: str = "ortho") -> Tensor:
    """Mean of w·|F(p) − F(t)|², w the squared radial frequency over its mean: 0 at frequency 0, 1 in the mean."""
    power = _power(_difference(prediction, target, norm))
    rows, columns = (torch.fft.fftfreq(side, device=power.device) for side in power.shape[-2:])
    weight = rows.square()[:, None] + columns.square()
    weighted: Tensor = weight / weight.mean() * power
    return weighted.mean(dim=(1, 2, 3))


class FrequencyLoss(Protocol):
    """A loss of two tensors (B, C, h, w) by the two-dimensional FFT F of each channel: (B,), in float32."""

    def __call__(self, prediction: Tensor, target: Tensor, norm: str = "ortho") -> Tensor:
        """``norm`` scales F: ``"ortho"``, or ``"backward"``, PyTorch's default, which is √(h·w) times that."""


FREQUENCY_LOSSES: dict[str, FrequencyLoss] = {
    "squared_l2": squared_l2,
    "complex_l1": complex_l1,
    "log_amplitude": log_amplitude,
    "focal": focal,
    "high_pass": high_pass,
}
"""By name; means are over channels and frequencies."""


def frequency_loss(config: DiffusionConfig) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss that ``config.frequency_loss`` names: of two tensors (B, C, h, w) to (B,), in float32.

    One of a plug-in need not be of frequencies, and takes no ``config.frequency_norm``.
    """
    loss: Callable[..., Tensor] = named_by(config, "frequency_loss", FREQUENCY_LOSSES)
    return partial(loss, norm=config.frequency_norm) if config.frequency_loss in FREQUENCY_LOSSES else loss


def min_snr_weights(alphas_cumprod_t: Tensor, gamma: float, prediction: str) -> Tensor:
    """Min-SNR-γ weights of the MSE of a prediction, (B,) in float32 (Hang et al. 2023).

    With SNR = ᾱ_t/(1 − ᾱ_t): min(SNR, γ) for x₀, over SNR for ε, over SNR + 1 for v (their section 3.4), so that the
    error of x₀ has the same weight with any prediction. Raises :class:`ConfigError` for an unknown prediction.
    """
    snr = alphas_cumprod_t / (1 - alphas_cumprod_t)
    clipped = snr.clamp(max=gamma)
    match prediction:
        case "x0":
            return clipped.float()
        case "epsilon":
            return (clipped / snr).float()
        case "v":
            return (clipped / (snr + 1)).float()
        case _:
            raise unknown_prediction(prediction)


def sum_losses(config: DiffusionConfig, output: Tensor, wanted: Tensor, alphas_cumprod_t: Tensor) -> Tensor:
    """Sums over a batch (B, C, h, w) of total, MSE and frequency loss, (3,); each a mean over C·h·w.

    Only the total has the weights of the timesteps, whose ᾱ_t are (B,), and ``config.loss_power``.
    """
    mse = power(output, wanted, 2)
    error = mse if config.loss_power == 2 else power(output, wanted, config.loss_power)
    weights = None
    if config.loss_weighting == "min_snr":
        weights = min_snr_weights(alphas_cumprod_t, config.min_snr_gamma, config.prediction)
    total = error if weights is None else error * weights
    if not config.frequency_weight:
        return torch.stack([total.sum(), mse.sum(), torch.zeros_like(mse).sum()])
    frequency = counted = frequency_loss(config)(output.float(), wanted.float())
    if weights is not None and config.frequency_weighting == "loss":
        counted = frequency * weights
    total = total + config.frequency_weight * counted
    return torch.stack([total.sum(), mse.sum(), frequency.sum()])


def _difference(prediction: Tensor, target: Tensor, norm: str) -> Tensor:
    return _spectrum(prediction.float() - target.float(), norm)


def _spectrum(x: Tensor, norm: str) -> Tensor:
    # The FFT has no half-precision kernels on the CPU, and bf16 has too few digits for a spectrum.
    spectrum: Tensor = torch.fft.fft2(x.float(), norm=norm)
    return spectrum


def _power(spectrum: Tensor) -> Tensor:
    return spectrum.real.square() + spectrum.imag.square()
