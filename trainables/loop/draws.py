"""Random numbers whose seeds derive from their purpose: a run that was killed and continued draws the same ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainables.loop.seeds import derived_seed


def generator(seed: int, *purpose: int | str) -> torch.Generator:
    """A CPU generator seeded by :func:`derived_seed`; drawing on the CPU gives every device the same numbers."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


def batch_indices(count: int, batch_size: int, step: int, seed: int, weights: Tensor | None = None) -> Tensor:
    """The samples of optimiser step ``step`` (from 0): int64 of length ``min(batch_size, count)``.

    Every epoch is a new permutation of ``count`` samples, cut into whole batches without the remainder. With
    ``weights`` (``count``,) float64 on the CPU of mean 1, a sample of weight w is ⌊w⌋ or ⌈w⌉ times in each, and w
    times in the mean (systematic resampling, Carpenter et al. 1999).
    """
    batch_size = min(batch_size, count)
    per_epoch = count // batch_size
    epoch, position = divmod(step, per_epoch)
    order = torch.randperm(count, generator=generator(seed, "order", epoch))
    if weights is not None:
        offset = torch.rand((), dtype=torch.float64, generator=generator(seed, "weighted", epoch))
        places = torch.arange(count, dtype=torch.float64) + offset
        order = torch.searchsorted(weights.cumsum(0), places, right=True).clamp(max=count - 1)[order]
    return order[position * batch_size : (position + 1) * batch_size]


@dataclass
class LayerGenerators:
    """A generator for each layer of a network on its device, kept for all steps of a training."""

    seed: int = 0
    """The seed of the step."""
    by_layer: dict[int, torch.Generator] = field(default_factory=dict)

    def reseed(self, seed: int) -> None:
        """Sets the seed of the next step."""
        self.seed = seed
        for layer, generator in self.by_layer.items():
            generator.manual_seed(derived_seed(seed, layer))

    def restart(self, layer: int, device: torch.device) -> torch.Generator:
        """The layer's generator, at its beginning for this step."""
        if layer not in self.by_layer:
            self.by_layer[layer] = torch.Generator(device)
        return self.by_layer[layer].manual_seed(derived_seed(self.seed, layer))


@dataclass(frozen=True)
class Masks:
    """The dropout masks of one optimiser step, for the samples ``share`` of its global batch of ``batch``.

    Every share draws the whole batch's mask from the step's seed and the layer, and takes its part. So a sample's
    mask is the same at any micro-batch, with any number of workers, and when a checkpointed layer is computed again.
    """

    generators: LayerGenerators
    batch: int
    share: slice

    def drop(self, h: Tensor, probability: float, layer: int) -> Tensor:
        """``h`` (B, C, H, W) with values at 0 by ``probability`` p, the rest over 1 - p (Srivastava et al. 2014).

        p is rounded to the nearest 1/65536: 16 random bits a value take a quarter of the time of Bernoulli draws.
        """
        random = self.generators.restart(layer, h.device)
        shape = (self.batch, *h.shape[1:])
        count, dropped = math.prod(shape), round(probability * 2**16)
        words = torch.empty((count + 3) // 4, dtype=torch.int64, device=h.device)
        bits = words.random_(-(2**63), None, generator=random).view(torch.int16)[:count].view(shape)
        kept = bits[self.share] >= dropped - 2**15
        return h.mul(kept.to(h.dtype).mul_(2**16 / (2**16 - dropped)))
