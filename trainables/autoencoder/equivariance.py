"""A latent that is transformed decodes to the transformed slice: the equivariance that the autoencoder lacks.

EQ-VAE (Kouzelis et al. 2025) compares τ(x) with D(τ(z)), for scalings and quarter turns τ. Scaling by ½ is what
keeps the latent's spectrum falling as the slice's does (Skorokhodov et al. 2025). Here τ is one of the square's eight
flips and quarter turns, drawn for each sample, and then a halving of both sides by area. So all shapes are the same
in every step, and the decoder's second pass costs a quarter of its first.

Legend: B samples; slices x (B, 1, H, W) in [-1, 1] and latents z (B, C, h, w), square, with even sides.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

TURNS = 3
"""Coins that name one of eight flips and quarter turns: transposed or not, mirrored across, mirrored down."""


def draw_turns(batch: int, random: torch.Generator) -> Tensor:
    """A flip and quarter turn of each sample, (B, 3) bool, all eight equally often."""
    return torch.rand(batch, TURNS, generator=random) < 0.5


def turn(x: Tensor, turns: Tensor) -> Tensor:
    """``x`` (B, C, S, S), each flipped and turned as its ``turns`` say."""
    transposed, across, down = turns[:, :, None, None, None].unbind(1)
    x = torch.where(transposed, x.transpose(2, 3), x)
    x = torch.where(across, x.flip(3), x)
    return torch.where(down, x.flip(2), x)


def transform(x: Tensor, turns: Tensor) -> Tensor:
    """τ: ``x`` (B, C, S, S) turned and then halved by area, (B, C, S/2, S/2)."""
    return F.avg_pool2d(turn(x, turns), 2)
