"""CutMix (Yun et al. 2019) in latent space: a rectangle of each latent may come from another of its batch."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_rectangles(
    batch: int, size: tuple[int, int], probability: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Where each latent of ``size`` (h, w) is replaced, (B, 1, h, w) bool, and by whose, (B,) int64.

    A latent has a rectangle with ``probability``; its area is a uniform share of the latent, with sides in
    proportion (Yun et al. 2019, eq. 2: λ ~ U(0, 1), sides ∝ √(1 − λ)), its centre anywhere, and the border
    cuts it; at least one cell remains. No latent is its own partner, unless it is alone. Both lie on the
    generator's device, and as many numbers are drawn whatever the probability.
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
