"""Augmentation of latents: flips and shifts that the denoiser is told of, and CutMix, of which it may be.

Flips and shifts are the non-leaky form of Karras et al. 2022, appendix F.2 (after Jun et al. 2020). The denoiser gets
a label of what was done to a latent. Sampling gives it label 0, nothing done, so it draws latents as they are.

Cached latents are moved, by whole cells. This is an approximation: the latent of a flipped slice is only nearly the
flipped latent, and what a shift moves out at one border comes in at the other, where slices are background.

Legend: B samples; latents (B, C, h, w); labels (B, 3): flipped, and the shifts down and across over their reach.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from trainables.denoiser.copies import COPY_LABELS
from trainables.denoiser.diffusion import DiffusionConfig

LABELS = 3
"""Numbers in a label, each 0 where nothing was done."""

REACH = 8
"""The largest shift is the side over this number, at least a cell: the standard deviation of EDM's shifts."""


class Moves(NamedTuple):
    """A left-right flip and then a shift of each sample."""

    flipped: Tensor
    """(B,) bool."""
    shifts: Tensor
    """(B, 2) int64, cells down and across."""
    labels: Tensor
    """(B, 3) float32 in [-1, 1], what the denoiser is told of them."""

    def apply(self, latents: Tensor) -> Tensor:
        """The moved ``latents``; what is shifted out comes in on the other side."""
        batch, _, height, width = latents.shape
        device = latents.device
        down, across = self.shifts.unbind(1)
        rows = (torch.arange(height, device=device) - down[:, None]) % height
        columns = (torch.arange(width, device=device) - across[:, None]) % width
        columns = torch.where(self.flipped[:, None], width - 1 - columns, columns)
        samples = torch.arange(batch, device=device)[:, None, None]
        # Indices around a slice put its dimension last.
        return latents[samples, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def draw_moves(batch: int, size: tuple[int, int], probability: float, random: torch.Generator) -> Moves:
    """Moves of latents of ``size`` (h, w): a flip by a coin, and a uniform shift, each with ``probability``.

    The number of random numbers drawn does not depend on the probability.
    """
    chosen, coin, shifted = torch.rand((3, batch), generator=random)
    reach = torch.tensor([max(1, side // REACH) for side in size])
    share = torch.rand((batch, 2), generator=random)
    shifts = (share * (2 * reach + 1)).floor().long().minimum(2 * reach) - reach
    flipped, shifts = (chosen < probability) & (coin < 0.5), shifts * (shifted < probability)[:, None]
    return Moves(flipped, shifts, torch.cat((flipped[:, None].float(), shifts / reach), dim=1))


def label_width(config: DiffusionConfig) -> int:
    """How many numbers tell the denoiser how a sample was augmented; 0 where none is."""
    width = COPY_LABELS if config.copies else LABELS if config.augmentation_probability else 0
    return width + config.tells_cutmix


def draw_versions(config: DiffusionConfig, batch: int, random: torch.Generator) -> Tensor:
    """Which version of its slice each sample is, (B,) int64: 0, as it is; then its mirror image; then its copies.

    With ``config.augmentation_probability`` it is one of the copies, each as often; of the others the mirror image
    with ``config.flip_probability``.
    """
    flip, chance, share = torch.rand((3, batch), generator=random)
    versions: Tensor = (flip < config.flip_probability).long()
    if not config.copies:
        return versions
    copy = (share * config.copies).long().clamp(max=config.copies - 1) + config.versions - config.copies
    return torch.where(chance < config.augmentation_probability, copy, versions)


def draw_rectangles(
    batch: int, size: tuple[int, int], probability: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Rectangles for CutMix (Yun et al. 2019): where each latent of ``size`` (h, w) is replaced, and by whose.

    The first, (B, 1, h, w) bool, is a rectangle with ``probability``: its area a uniform share of the latent, with
    sides in proportion (eq. 2), its centre anywhere, cut at the border to at least one cell. The second, (B,) int64,
    are the partners: no latent is its own, unless it is alone. The number of random numbers drawn does not
    depend on the probability.
    """
    device = generator.device
    chosen, area, *centre = torch.rand((4, batch), generator=generator, device=device)
    rows, columns = (_span(length, share, area) for length, share in zip(size, centre, strict=True))
    rectangles = rows[:, :, None] & columns[:, None, :] & (chosen < probability)[:, None, None]
    circle = torch.randperm(batch, generator=generator, device=device)
    partners = torch.empty_like(circle)
    partners[circle] = circle.roll(1)
    return rectangles[:, None], partners


def cutmix(latents: Tensor, partners: Tensor, rectangles: Tensor) -> Tensor:
    """``latents`` (B, C, h, w) with the ``rectangles`` (B, 1, h, w) taken from ``latents[partners]``."""
    return torch.where(rectangles, latents[partners], latents)


def _span(length: int, centre: Tensor, area: Tensor) -> Tensor:
    """Cells (B, ``length``) bool of one side: ``centre`` and ``area`` (B,) as shares in [0, 1)."""
    side = (length * area.sqrt()).ceil().clamp(min=1)
    first = (centre * length).floor() - (side / 2).floor()
    cells = torch.arange(length, device=area.device)
    return (cells >= first[:, None]) & (cells < (first + side)[:, None])
