"""The variational autoencoder: slices (B, 1, H, W) in [-1, 1] to latents (B, C, H/f, W/f) and back.

Where it learns lesion masks, too, its images are (B, 2, H, W): the slice, and the mask, 1 for lesion and −1
elsewhere.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from trainables.autoencoder.settings import VaeConfig
from trainables.loop.layers import ResidualBlock, SelfAttention, group_norm, run
from trainables.loop.precision import dtype_of

LOG_VARIANCE_RANGE = (-30.0, 20.0)
"""Log-variances are clamped to this range, so that their exponential is a normal float32."""


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
    the decoder mirrors it with 4×4 transposed convolutions of stride 2. Squares of ``config.patch_size`` pixels are
    channels to the encoder, and another transposed convolution, to half the width, draws them. With ``checkpointing``
    the backward pass computes the activations of each block again.
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
    unfold = [nn.PixelUnshuffle(config.patch_size)] if config.patch_size > 1 else []
    enter = nn.Conv2d(channels * config.patch_size**2, config.widths[0], 3, padding=1)
    layers = [*unfold, enter, *_stages(config.widths, config.blocks, shrink)]
    if config.attention:
        layers.append(SelfAttention(config.widths[-1]))
    return Stack(*layers, *_head(config.widths[-1], 2 * config.latent_channels))


def _decoder(config: VaeConfig, channels: int) -> Stack:
    widths = config.widths[::-1]
    grow = functools.partial(nn.ConvTranspose2d, kernel_size=4, stride=2, padding=1)
    layers: list[nn.Module] = [nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)]
    if config.attention:
        layers.append(SelfAttention(widths[0]))
    layers.extend(_stages(widths, config.blocks, grow))
    width, patch = widths[-1], config.patch_size
    if patch > 1:
        # Kernels overlap by half, so that each pixel gets as much as the next and squares leave no border.
        layers.append(nn.ConvTranspose2d(width, width // 2, 2 * patch, stride=patch, padding=patch // 2))
        width //= 2
    return Stack(*layers, *_head(width, channels))


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
