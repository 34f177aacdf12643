"""The variational autoencoder: slices (B, 1, H, W) in [-1, 1] to latents (B, C, H/f, W/f) and back.

Where it learns lesion masks, too, its images are (B, 2, H, W): the slice, and the mask, 1 for lesion and −1
elsewhere.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.config import Config, setting
from trainables.errors import ConfigError
from trainables.layers import ResidualBlock, SelfAttention, group_norm, run
from trainables.loop.cards import AUTO
from trainables.loop.precision import dtype_of
from trainables.plugins import with_plugins

LOG_VARIANCE_RANGE = (-30.0, 20.0)
"""Log-variances are clamped to this range, so that their exponential is a normal float32."""


@dataclass(frozen=True, kw_only=True)
@with_plugins
class VaeConfig(Config):
    """Architecture, loss and training of the autoencoder; the defaults are the paper's."""

    latent_channels: int = setting(8, "channels C of the latent", low=1, high=64)
    widths: tuple[int, ...] = setting(
        (32, 64, 128, 256),
        "channels of each stage; every stage but the last halves the image: three make it 4× smaller, four 8×",
        low=4,
    )
    blocks: int = setting(2, "residual blocks in each stage", low=1, high=8)
    attention: bool = setting(True, "self-attention at the lowest resolution")
    kl_weight: float = setting(1e-5, "weight β of the KL term", low=0)
    kl_anneal_epochs: int = setting(20, "epochs over which β rises linearly from 0", low=0)
    kl_reduction: str = setting(
        "sum",
        "how the KL is reduced over a latent: 'sum' over its C·h·w values, or their 'mean' "
        "(the paper doesn't say); over the batch it is always the mean",
        choices=("sum", "mean"),
    )
    learning_rate: float = setting(1e-4, "AdamW learning rate at the start of the cosine decay", low=0)
    weight_decay: float = setting(1e-5, "AdamW weight decay", low=0)
    batch_size: int = setting(32, "slices in an optimiser step, over all workers", low=1)
    gradient_clip: float = setting(1.0, "largest norm of the gradient; 0 leaves it alone", low=0)
    epochs: int = setting(220, "passes over the training split", low=1)
    max_steps: int | None = setting(None, "optimiser steps at most, where that is fewer than the epochs", low=1)
    precision: str = setting("auto", AUTO, choices=("auto", "bf16", "fp16", "fp32"))
    flip_probability: float = setting(0.5, "probability of a left-right flip", low=0, high=1)
    rotation_degrees: float = setting(10.0, "rotation, uniform in ± this many degrees", low=0, high=180)
    translation: float = setting(0.05, "translation, uniform in ± this share of the side", low=0, high=0.5)
    scaling: float = setting(0.05, "scaling, uniform in 1 ± this", low=0, high=0.5)
    validations: int = setting(20, "how many times a training validates and writes a checkpoint", low=1)
    reconstruction_loss: str = setting(
        "mse",
        "the pixel loss, a mean over the pixels of slices in [-1, 1]: 'mse', 'l1', or 'charbonnier' "
        "(√(d² + ε²) with ε = 0.001; Charbonnier et al. 1994, Lai et al. 2017); the latter two pull several times "
        "harder than the MSE, so that a β weighs less beside them",
        choices=("mse", "l1", "charbonnier"),
        plugins="losses",
        later=True,
    )
    ms_ssim_weight: float = setting(
        0.0,
        "weight of 1 − MS-SSIM beside the pixel loss (Wang et al. 2003, Zhao et al. 2017); 1 scale from 16 pixels a "
        "side on, 2 from 32, 3 from 64, 4 from 128, 5 from 256; at 0.05 it pulls about as hard as the MSE",
        low=0,
        later=True,
    )
    gradient_weight: float = setting(
        0.0,
        "weight of the L1 between the finite differences of slice and reconstruction beside the pixel loss "
        "(Mathieu et al. 2016); at 0.3 it pulls about as hard as the MSE",
        low=0,
        later=True,
    )
    adversarial_weight: float = setting(
        0.0,
        "constant weight of fooling a patch discriminator (Isola et al. 2017, with the hinge loss as in "
        "Esser et al. 2021, Rombach et al. 2022), which learns beside the autoencoder; at 0.0005 it pulls about as "
        "hard as the MSE; the weights of the lowest val/loss are then chosen among those since it began",
        low=0,
        later=True,
    )
    adversarial_start: float = setting(
        0.5, "share of the steps after which the discriminator begins", low=0, high=1, later=True
    )

    warp_share: float = setting(
        1.0,
        "share of the slices of a batch that are rotated, shifted and scaled at all; the others are at most flipped. "
        "A warp interpolates between pixels and so blurs what the autoencoder learns from",
        low=0,
        high=1,
        later=True,
    )
    warp_size: int = setting(
        0,
        "side of the training slices when they are warped, before they are reduced to data.image_size by area, such "
        "as 128, that of most prepared slices; the larger, the less a warp blurs; 0: they are warped at "
        "data.image_size",
        low=0,
        high=512,
        later=True,
    )

    equivariance_weight: float = setting(
        0.0,
        "weight of the pixel loss between a slice that is flipped or turned by quarters and then halved, and what "
        "its latent decodes to after the same (EQ-VAE, Kouzelis et al. 2025; halving: Skorokhodov et al. 2025), so "
        "that latents have the spectrum of slices; a step takes about an eighth longer, and val/loss leaves it out",
        low=0,
        later=True,
    )

    latent_noise: float = setting(
        0.0,
        "largest noise τ on the latents that the decoder learns from, as a share of their spread: σ is uniform in 0 "
        "to τ for each slice, so that slightly wrong latents, as a denoiser draws them, decode to sharp slices "
        "(Zheng et al. 2025); 0 leaves it out",
        low=0,
        high=2,
        later=True,
    )

    mask_weight: float = setting(
        0.1,
        "weight of the masks' Dice loss and cross-entropy beside the slices' loss, where data.mask is true; short "
        "trainings at 32×32 gave masks a Dice of 0.95 and slices a PSNR of 21.5 dB at 1, 0.91 and 23.5 at 0.1, 0.82 "
        "and 24.1 at 0.03, and 26.6 without masks",
        low=0,
        later=True,
    )

    def check(self) -> None:
        if not self.widths:
            raise ConfigError("VaeConfig.widths must name at least one stage, got none")
        if self.adversarial_weight and self.adversarial_start == 1:
            raise ConfigError(
                "VaeConfig.adversarial_start must be below 1 where adversarial_weight is above 0, got 1: the "
                "discriminator would never begin; lower it, or set adversarial_weight to 0"
            )

    @property
    def compression(self) -> int:
        """The factor f by which each side shrinks: 2 per stage after the first."""
        return int(2 ** (len(self.widths) - 1))


class Stack(nn.Sequential):
    """Layers one after another; with ``checkpointing`` residual blocks and attention keep only their inputs."""

    def forward(self, x: Tensor, checkpointing: bool = False) -> Tensor:
        """(B, in, H, W) → (B, out, H', W')."""
        for layer in self:
            x = run(layer, x, checkpointing=checkpointing and isinstance(layer, ResidualBlock | SelfAttention))
        return x


class Autoencoder(nn.Module):
    """Convolutional VAE with a diagonal Gaussian posterior (Kingma & Welling 2014; Rombach et al. 2022).

    With ``masks`` an image is a slice and its lesion mask.

    The encoder has ``config.blocks`` residual blocks a stage and a stride-2 3×3 convolution between stages;
    the decoder mirrors it with 4×4 transposed convolutions of stride 2. With ``checkpointing`` the backward pass
    computes the activations of each block again.
    """

    def __init__(self, config: VaeConfig, masks: bool = False) -> None:
        super().__init__()
        self.checkpointing = False
        channels = 2 if masks else 1
        self.encoder = _encoder(config, channels)
        self.decoder = _decoder(config, channels)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 1 or 2, H, W) in [-1, 1] → posterior mean and log-variance, each (B, C, H/f, W/f).

        The log-variance lies in :data:`LOG_VARIANCE_RANGE`. H and W must be multiples of f, the
        configuration's ``compression``.
        """
        mean, log_variance = self.encoder(images.to(dtype_of(self)), self.checkpointing).chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCE_RANGE)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) → slices (B, 1, h·f, w·f) in (-1, 1), and behind them the masks' logits, if any."""
        decoded = self.decoder(latents.to(dtype_of(self)), self.checkpointing)
        if decoded.shape[1] == 1:
            return torch.tanh(decoded)
        return torch.cat([torch.tanh(decoded[:, :1]), decoded[:, 1:]], dim=1)


def sample_posterior(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """μ + σ·ε for standard normal ``noise`` (Kingma & Welling 2014, section 2.4); all of one shape."""
    return mean + torch.exp(0.5 * log_variance) * noise


def disturb(latents: Tensor, noise: Tensor) -> Tensor:
    """z + s·n for ``latents`` z and ``noise`` n = σ·ε, both (B, C, h, w): the noise-augmented decoding of RAE (Zheng
    et al. 2025), whose latents have unit spread.

    s, without gradient, is the standard deviation of each channel over the cells of its own latent. So the result of
    a slice depends on no other of its batch, and is the same at any micro-batch.
    """
    return latents + latents.detach().float().std(dim=(2, 3), correction=0, keepdim=True) * noise


def _encoder(config: VaeConfig, channels: int) -> Stack:
    shrink = functools.partial(nn.Conv2d, kernel_size=3, stride=2, padding=1)
    layers = [nn.Conv2d(channels, config.widths[0], 3, padding=1), *_stages(config.widths, config.blocks, shrink)]
    if config.attention:
        layers.append(SelfAttention(config.widths[-1]))
    return Stack(*layers, *_head(config.widths[-1], 2 * config.latent_channels))


def _decoder(config: VaeConfig, channels: int) -> Stack:
    widths = config.widths[::-1]
    grow = functools.partial(nn.ConvTranspose2d, kernel_size=4, stride=2, padding=1)
    layers: list[nn.Module] = [nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)]
    if config.attention:
        layers.append(SelfAttention(widths[0]))
    return Stack(*layers, *_stages(widths, config.blocks, grow), *_head(widths[-1], channels))


def _stages(widths: Sequence[int], blocks: int, resize: Callable[[int, int], nn.Module]) -> list[nn.Module]:
    """Residual blocks of each width, and between two widths what changes the side."""
    layers: list[nn.Module] = []
    for stage, width in enumerate(widths):
        if stage > 0:
            layers.append(resize(widths[stage - 1], width))
        layers.extend(ResidualBlock(width, width) for _ in range(blocks))
    return layers


def _head(width: int, channels: int) -> list[nn.Module]:
    return [group_norm(width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1)]
