"""Altered copies of the training slices, encoded once, each with a label of how it was altered.

This is the non-leaky augmentation of Karras et al. 2022, appendix F.2 (after Karras et al. 2020 and Jun et al. 2020),
of slices before they are encoded, and with a fixed number of copies in place of a new one in every step. Each copy is
altered in every way at once. The denoiser is told the label; sampling gives it label 0, nothing done.

Legend: B slices; u is uniform in [-1, 1], and the number in the label.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from trainables.data.images import affine_maps, decided, reduce_area, slices_of, to_bytes, to_unit, warp
from trainables.loop.watchdog import beat

COPY_LABELS = 7
"""Numbers in a label, each 0 where nothing was done: flipped (0 or 1), and u of turn, scale, shift across and down,
gamma and contrast."""

TURN = math.radians(10)
"""The angle is u·TURN."""
SCALE = 1.1
"""The factor is SCALE^u."""
SHIFT = 0.05
"""The shift is u·SHIFT of the side."""
GAMMA = 1.25
"""An intensity x in [0, 1] becomes x^γ with γ = GAMMA^u."""
CONTRAST = 0.4
"""Then x becomes x + k·x(1 − x)(2x − 1) with k = u·CONTRAST, which leaves 0, ½ and 1 and is monotone for |k| < 1."""

AT_ONCE = 64


class Alterations(NamedTuple):
    """How each of B slices is altered."""

    maps: Tensor
    """(B, 2, 3), as :func:`~trainables.data.images.warp` takes them."""
    gamma: Tensor
    """(B,)."""
    contrast: Tensor
    """(B,), k."""
    labels: Tensor
    """(B, 7) float32 in [-1, 1], what the denoiser is told."""

    def apply(self, slices: Tensor, size: int) -> Tensor:
        """Slices uint8 (B, S, S) warped at S, reduced by area and lit otherwise: uint8 (B, ``size``, ``size``).

        With their masks they are (B, 2, S, S); a mask is warped alone.
        """
        parts = []
        for first in range(0, len(slices), AT_ONCE):
            parts.append(self._apply(slices[first : first + AT_ONCE], slice(first, first + AT_ONCE), size))
            beat()
        return torch.cat(parts)

    def _apply(self, slices: Tensor, share: slice, size: int) -> Tensor:
        warped = reduce_area(warp(to_unit(slices), self.maps[share]), size)
        gamma, contrast = (each[share, None, None, None] for each in (self.gamma, self.contrast))
        x = ((warped + 1) / 2).clamp(0, 1) ** gamma
        lit = 2 * (x + contrast * x * (1 - x) * (2 * x - 1)) - 1
        return to_bytes(lit if lit.shape[1] == 1 else torch.cat([slices_of(lit), decided(warped)[:, 1:]], dim=1))


def draw_alterations(count: int, random: torch.Generator) -> Alterations:
    """How ``count`` slices are altered: a flip by a coin, all else uniform in its range."""
    uniform = torch.rand(count, COPY_LABELS, generator=random)
    flipped, signed = (uniform[:, :1] < 0.5).float(), uniform[:, 1:] * 2 - 1
    turn, scale, across, down, gamma, contrast = signed.unbind(1)
    maps = affine_maps(1 - 2 * flipped[:, 0], turn * TURN, SCALE**scale, across * 2 * SHIFT, down * 2 * SHIFT)
    return Alterations(maps, GAMMA**gamma, contrast * CONTRAST, torch.cat((flipped, signed), dim=1))
