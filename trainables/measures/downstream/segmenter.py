"""The segmentation network, how it is trained, and the masks that it finds.

Legend: N slices (N, H, W) uint8; masks (N, H, W) uint8, 255 for lesion and 0 elsewhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.data.images import to_unit
from trainables.errors import DataError, DivergenceError
from trainables.loop.draws import batch_indices, generator
from trainables.loop.layers import ResidualBlock
from trainables.loop.optimiser import adamw, cosine_rate, set_learning_rate
from trainables.loop.seeds import derived_seed
from trainables.loop.watchdog import beat
from trainables.measures.downstream.settings import DownstreamConfig
from trainables.measures.structure import mask_loss

Bytes = npt.NDArray[np.uint8]

WARMUP_STEPS = 20
WEIGHT_DECAY = 1e-4
CELL = 2
CHUNK = 64
"""Slices that are segmented at once."""


class Segmenter(nn.Module):
    """A U-Net (Ronneberger et al. 2015) of residual blocks: slices (B, 1, H, W) in [-1, 1] to logits (B, 1, H, W).

    It works on cells of 2×2 pixels, four channels in and out (Shi et al. 2016), which takes a quarter of the time.
    Each width but the last halves the side; the side must be even.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(widths))
        self.first = nn.Conv2d(CELL**2, widths[0], 3, padding=1)
        self.left = nn.ModuleList(ResidualBlock(width, width) for width in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(width, deeper, 3, stride=2, padding=1) for width, deeper in pairs)
        self.middle = ResidualBlock(widths[-1], widths[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(deeper, width, 2, stride=2) for width, deeper in pairs)
        self.right = nn.ModuleList(ResidualBlock(2 * width, width) for width in widths[:-1])
        self.last = nn.Conv2d(widths[0], CELL**2, 1)

    def forward(self, images: Tensor) -> Tensor:
        h, skips = self.first(F.pixel_unshuffle(images, CELL)), []
        for block, down in zip(self.left, self.down, strict=True):
            skips.append(block(h))
            h = down(skips[-1])
        h = self.middle(h)
        for up, block, skip in reversed([*zip(self.up, self.right, skips, strict=True)]):
            h = block(torch.cat([up(h)[..., : skip.shape[-2], : skip.shape[-1]], skip], dim=1))
        return F.pixel_shuffle(self.last(F.silu(h)), CELL)


def train_segmenter(
    config: DownstreamConfig, images: Bytes, masks: Bytes, *, seed: int, device: torch.device
) -> Segmenter:
    """A network after ``config.steps`` optimiser steps on these slices; its loss is
    :func:`~trainables.measures.structure.mask_loss`.

    Weights, batches and flips are drawn from ``seed``, and the first are the same for any slices. There is no
    selection by held-out slices: the last step's weights count. Raises :class:`DataError` for no slices or masks of
    another shape, and :class:`DivergenceError`.
    """
    if len(images) == 0 or images.shape != masks.shape:
        raise DataError(
            f"a segmentation network learns from slices with a mask of their size each, at least one, got "
            f"{images.shape} and {masks.shape}: give both of the same slices"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "segmenter"))
        network = Segmenter(config.widths).to(device).train()
    optimizer = adamw(network, config.learning_rate, WEIGHT_DECAY)
    pictures, truths = torch.from_numpy(images), torch.from_numpy(masks)
    for step in range(config.steps):
        chosen = batch_indices(len(images), config.batch_size, step, seed)
        flipped = torch.rand(len(chosen), generator=generator(seed, "flip", step)) < config.flip_probability
        batch, truth = (
            torch.where(flipped[:, None, None, None], each.flip(-1), each).to(device)
            for each in (to_unit(pictures[chosen]), to_unit(truths[chosen]))
        )
        set_learning_rate(optimizer, config.learning_rate * cosine_rate(step, config.steps, WARMUP_STEPS))
        loss = mask_loss(network(batch), truth)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        beat()
    if not loss.isfinite():
        raise DivergenceError(
            "the loss of the segmentation network left the finite numbers: lower downstream.learning_rate",
            step=config.steps,
        )
    return network.eval()


@torch.no_grad()
def segment(network: Segmenter, images: Bytes, device: torch.device) -> Bytes:
    """The masks (N, H, W) that a network finds in slices (N, H, W): lesion where its probability is above a half."""
    found = [network(to_unit(part).to(device)).cpu() > 0 for part in torch.split(torch.from_numpy(images), CHUNK)]
    result: Bytes = torch.cat(found).squeeze(1).to(torch.uint8).mul(255).numpy()
    return result
