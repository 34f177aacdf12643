"""The denoiser: a UNet over latents (B, C, h, w), conditioned on the timestep and on a :class:`Condition`."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.config import named_by
from trainables.denoiser.augmentation import label_width
from trainables.denoiser.condition import LESIONS, NOTHING, Condition
from trainables.denoiser.diffusion import MOST_CATEGORIES, DiffusionConfig
from trainables.denoiser.schedules import noise_labels
from trainables.loop.draws import Masks
from trainables.loop.layers import ResidualBlock, SelfAttention, group_norm, run, zero_init
from trainables.loop.precision import dtype_of


def timestep_embedding(t: Tensor, channels: int) -> Tensor:
    """Sinusoids of timesteps, or of other labels of the noise level (B,) → (B, ``channels``).

    Their periods are 2π to 2π·10⁴ (Vaswani et al. 2017, 3.5).
    """
    half = (channels + 1) // 2
    exponents = torch.arange(half, device=t.device, dtype=torch.float32) / half
    angles = t.float()[:, None] * torch.exp(-math.log(10_000) * exponents)
    return torch.cat((angles.cos(), angles.sin()), dim=1)[:, :channels]


class PositionEmbedding(nn.Module):
    """Positions in [0, 1] to a vector that is added to the time embedding; a learned null vector where there is none.

    Sinusoids of the position in percent, so that the shortest period is a sixteenth of a volume, and two linear
    layers. It starts at 0.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.known = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), zero_init(nn.Linear(channels, channels)))
        self.null = nn.Parameter(torch.zeros(channels))

    def forward(self, position: Tensor | None) -> Tensor:
        """(B,), NaN where there is none, or None where no sample has one → (B or 1, ``channels``)."""
        if position is None:
            return self.null[None]
        known = self.known(timestep_embedding(100 * position.nan_to_num(), self.channels).to(dtype_of(self.known)))
        return torch.where(position.isnan()[:, None], self.null.to(known.dtype), known)


class CategoryEmbedding(nn.Module):
    """Sizes, or other categories, to a vector that is added to the time embedding; one of its own where none is told.

    All are learned and start at 0.
    """

    def __init__(self, count: int, channels: int) -> None:
        super().__init__()
        self.sizes = nn.Parameter(torch.zeros(count + 1, channels))

    def forward(self, category: Tensor | None) -> Tensor:
        """(B,) of numbers from 0, NaN where it isn't told, or None for all → (B or 1, ``channels``)."""
        if category is None:
            return self.sizes[-1:]
        places = torch.where(category.isnan(), len(self.sizes) - 1, category)
        chosen = places[:, None] == torch.arange(len(self.sizes), device=category.device)
        return chosen.to(self.sizes.dtype) @ self.sizes


class Block(nn.Module):
    """A residual block conditioned on the timestep, followed by self-attention where its level has it."""

    def __init__(self, config: DiffusionConfig, level: int, in_channels: int, place: int) -> None:
        super().__init__()
        width = config.widths[level]
        self.modulate = nn.Linear(config.embedding_channels, 2 * width)
        self.residual = ResidualBlock(in_channels, width, dropout=config.dropout, place=place)
        self.attention = SelfAttention(width) if level in config.attention_levels else None

    def forward(self, x: Tensor, embedded: Tensor, masks: Masks | None = None) -> Tensor:
        """(B, in, H, W) and the activated time embedding (B, embedding) → (B, out, H, W)."""
        x = self.residual(x, self.modulate(embedded), masks)
        return x if self.attention is None else self.attention(x)


class UNet(nn.Module):
    """UNet of Ho et al. 2020 with time-conditional GroupNorm.

    On the way down each level has ``config.blocks`` blocks and, except the deepest, a stride-2 convolution. Every
    result on the way is kept, and the way up has a block for each. Two more blocks lie between. ``channels`` is the C
    of the latent; its sides must be multiples of ``config.patch_size``, whose squares are channels to the first
    level, times 2^(levels − 1). With ``checkpointing`` the backward pass computes the activations of each block
    again.
    """

    def __init__(self, channels: int, config: DiffusionConfig) -> None:
        super().__init__()
        patch = config.patch_size
        self.to_squares = nn.PixelUnshuffle(patch) if patch > 1 else nn.Identity()
        self.from_squares = nn.PixelShuffle(patch) if patch > 1 else nn.Identity()
        channels *= patch**2
        self.embedding_channels = config.embedding_channels
        self.labels: Tensor | None
        self.checkpointing = False
        places = itertools.count()
        widths, deepest = config.widths, len(config.widths) - 1

        def block(level: int, in_channels: int) -> Block:
            return Block(config, level, in_channels, place=next(places))

        self.enter = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        kept = [widths[0]]
        width = widths[0]
        for level in range(len(widths)):
            blocks = nn.ModuleList()
            for _ in range(config.blocks):
                blocks.append(block(level, width))
                width = widths[level]
                kept.append(width)
            self.down.append(blocks)
            if level < deepest:
                self.shrink.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                kept.append(width)
        self.middle = nn.ModuleList(block(deepest, width) for _ in range(2))
        self.up = nn.ModuleList()
        self.grow = nn.ModuleList()
        for level in reversed(range(len(widths))):
            blocks = nn.ModuleList()
            for _ in range(config.blocks + 1):
                blocks.append(block(level, width + kept.pop()))
                width = widths[level]
            self.up.append(blocks)
            if level > 0:
                self.grow.append(nn.Conv2d(width, width, 3, padding=1))
        self.leave_norm = group_norm(width)
        self.leave = zero_init(nn.Conv2d(width, channels, 3, padding=1))

        embedding = config.embedding_channels
        self.embed = nn.Sequential(
            nn.Linear(embedding, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        labels = noise_labels(config) if config.noise_label == "log_sigma" else None
        self.register_buffer("labels", labels, persistent=False)
        # These come last, so that all other weights start the same with and without them.
        self.position = PositionEmbedding(embedding) if config.position_condition else None
        self.lesion = CategoryEmbedding(len(LESIONS), embedding) if config.lesion_condition else None
        self.categories = nn.ModuleList(CategoryEmbedding(MOST_CATEGORIES, embedding) for _ in config.label_condition)
        # Without a bias label 0 adds nothing, so that sampling needs no label.
        width = label_width(config)
        self.augmentation = zero_init(nn.Linear(width, embedding, bias=False)) if width else None
        # Added to `enter` this is one convolution of z_t and the estimate, and an estimate of 0 adds nothing.
        informed = config.self_conditioning > 0
        self.estimate = zero_init(nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)) if informed else None

    def forward(self, z_t: Tensor, t: Tensor, masks: Masks | None = None, condition: Condition = NOTHING) -> Tensor:
        """The output, of the shape of ``z_t`` (B, C, h, w), for the timesteps ``t`` (B,), 0 to T − 1.

        ``masks`` are those of the dropout, as :class:`~trainables.loop.layers.ResidualBlock` takes them. Parts of
        ``condition`` that the UNet wasn't built for are ignored. The output has the weights' dtype.
        """
        dtype = dtype_of(self)

        def through(block: nn.Module, x: Tensor) -> Tensor:
            return run(block, x, embedded, masks, checkpointing=self.checkpointing, random=masks is None)

        labels = t if self.labels is None else self.labels[t]
        embedded = self.embed[:-1](timestep_embedding(labels, self.embedding_channels).to(dtype))
        if self.position is not None:
            embedded = embedded + self.position(condition.position)
        if self.lesion is not None:
            embedded = embedded + self.lesion(condition.lesion)
        for number, label in enumerate(self.categories):
            told = condition.categories
            embedded = embedded + label(None if told is None else told[:, number])
        if self.augmentation is not None and condition.augmentation is not None:
            embedded = embedded + self.augmentation(condition.augmentation.to(dtype))
        embedded = self.embed[-1](embedded).to(dtype)
        h = self.enter(self.to_squares(z_t.to(dtype)))
        if self.estimate is not None and condition.estimate is not None:
            h = h + self.estimate(self.to_squares(condition.estimate.to(dtype)))
        kept = [h]
        for level, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[attr-defined]
                h = through(block, h)
                kept.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h)
                kept.append(h)
        for block in self.middle:
            h = through(block, h)
        for level, blocks in enumerate(self.up):
            for block in blocks:  # type: ignore[attr-defined]
                h = through(block, torch.cat((h, kept.pop()), dim=1))
            if level < len(self.grow):
                h = self.grow[level](F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.from_squares(self.leave(F.silu(self.leave_norm(h))))  # type: ignore[no-any-return]


DENOISERS: dict[str, type[UNet]] = {"unet": UNet}
"""The networks of ``diffusion.denoiser``, by name."""


def denoiser_of(channels: int, config: DiffusionConfig) -> UNet:
    """The network that ``config.denoiser`` names, for latents of so many ``channels``, with weights as it begins.

    One of a plug-in is a module that is called as :meth:`UNet.forward` is. Raises :class:`ConfigError` for a name
    that nothing here has.
    """
    network: UNet = named_by(config, "denoiser", DENOISERS)(channels, config)
    return network
