"""Augmentation of latents that the denoiser is told of, so that it stays out of the samples.

The non-leaky form of Karras et al. 2022, appendix F.2 (after Jun et al. 2020): the label of what was done goes in
with the timestep, and at label 0, nothing done, the denoiser has learnt the distribution of the latents as they are.

What is moved are cached latents, by whole cells, and that is an approximation: the latent of a flipped slice is only
nearly its latent flipped, since nothing makes the encoder symmetric but its own training with flips, and a shift by a
cell stands for one by the autoencoder's compression in pixels but for the borders, where what leaves comes in on the
other side: slices end in background. Both are only asked to be of use under their own labels.

Legend: B samples; latents (B, C, h, w); labels (B, 3): flipped, and the shifts down and across over their reach.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LABELS = 3
"""Numbers in a label, each 0 where nothing was done."""

REACH = 8
"""Shifts are of at most one part in so many of the side, at least a cell: the standard deviation of EDM's."""


class Moves(NamedTuple):
    """A left-right flip and then a shift of each sample."""

    flipped: Tensor
    """(B,) bool."""
    shifts: Tensor
    """(B, 2) int64, cells down and across."""
    labels: Tensor
    """(B, 3) float32 in [-1, 1], what the denoiser is told of them."""

    def of(self, latents: Tensor) -> Tensor:
        """``latents`` moved; what is shifted out comes in on the other side."""
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
    """Moves of latents of ``size`` (h, w): with ``probability`` a coin decides on a flip, and, drawn apart, a shift
    is uniform within its reach. As many numbers are drawn whatever the probability."""
    chosen, coin, shifted = torch.rand((3, batch), generator=random)
    reach = torch.tensor([max(1, side // REACH) for side in size])
    share = torch.rand((batch, 2), generator=random)
    shifts = (share * (2 * reach + 1)).floor().long().minimum(2 * reach) - reach
    flipped, shifts = (chosen < probability) & (coin < 0.5), shifts * (shifted < probability)[:, None]
    return Moves(flipped, shifts, torch.cat((flipped[:, None].float(), shifts / reach), dim=1))
