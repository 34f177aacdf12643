"""Dropout masks that derive from (seed, step, layer), so that they are the same however a batch is divided."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainables.loop.seeds import derived_seed


@dataclass
class LayerGenerators:
    """A generator for each layer of a network on its device, kept for all steps of a training."""

    seed: int = 0
    """The step's."""
    by_layer: dict[int, torch.Generator] = field(default_factory=dict)

    def reseed(self, seed: int) -> None:
        """Takes the seed of the next step."""
        self.seed = seed
        for layer, generator in self.by_layer.items():
            generator.manual_seed(derived_seed(seed, layer))

    def restart(self, layer: int, device: torch.device) -> torch.Generator:
        """The layer's, at its beginning for this step."""
        if layer not in self.by_layer:
            self.by_layer[layer] = torch.Generator(device)
        return self.by_layer[layer].manual_seed(derived_seed(self.seed, layer))


@dataclass(frozen=True)
class Masks:
    """The dropout masks of one optimiser step, for the samples ``share`` of its global batch of ``batch``.

    A mask is a function of the step's seed, the layer and the sample's place in the batch: every share draws
    the whole batch's mask and takes its part. So it is the same at any micro-batch, with any number of workers,
    and when a checkpointed layer is computed again.
    """

    generators: LayerGenerators
    batch: int
    share: slice

    def drop(self, h: Tensor, probability: float, layer: int) -> Tensor:
        """``h`` (B, C, H, W) with values at 0 by ``probability`` p, the rest over 1 - p (Srivastava et al. 2014).

        p is taken to the nearest 1/65536: a value costs 16 random bits, a quarter of what Bernoulli draws cost.
        """
        random = self.generators.restart(layer, h.device)
        shape = (self.batch, *h.shape[1:])
        count, dropped = math.prod(shape), round(probability * 2**16)
        words = torch.empty((count + 3) // 4, dtype=torch.int64, device=h.device)
        bits = words.random_(-(2**63), None, generator=random).view(torch.int16)[:count].view(shape)
        kept = bits[self.share] >= dropped - 2**15
        return h.mul(kept.to(h.dtype).mul_(2**16 / (2**16 - dropped)))
