"""The settings of the autoencoder: architecture, loss and training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainables.config import Config, setting
from trainables.errors import ConfigError
from trainables.loop.settings import AUTO
from trainables.plugins import with_plugins


@dataclass(frozen=True, kw_only=True)
@with_plugins
class VaeConfig(Config):
    """Architecture, loss and training of the autoencoder; the defaults are the paper's."""

    latent_channels: int = setting(8, "channels C of the latent", low=1, high=64)
    widths: tuple[int, ...] = setting(
        (32, 64, 128, 256),
        "channels of each stage; every stage but the last halves the image: three make it 4× smaller, four 8×, "
        "times patch_size",
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
    adversarial_width: int = setting(
        32,
        "channels of the discriminator's first layer; the second has twice as many, the third four times; its time "
        "grows with the square of this",
        low=4,
        later=True,
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

    patch_size: int = setting(
        1,
        "side of the squares of pixels that the first stage takes as channels (space to depth); after the decoder's "
        "last stage a transposed convolution makes pixels of them again. The image shrinks by this factor, too. "
        "With 2, and without the first of 'widths', a step on a CPU takes about a third less time; 1 leaves pixels "
        "as they are",
        choices=(1, 2, 4, 8),
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

    def idle(self) -> dict[str, Any]:
        """What has no discriminator to act on; of fields that keys have always had, none."""
        return {} if self.adversarial_weight else {"adversarial_width": type(self).adversarial_width}

    @property
    def compression(self) -> int:
        """The factor f by which each side shrinks: the patch size, and 2 per stage after the first."""
        return int(self.patch_size * 2 ** (len(self.widths) - 1))
