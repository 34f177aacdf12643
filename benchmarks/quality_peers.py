"""What the other contenders have in common: each trains as its users do, in a loop of ours from what it states.

What a core in place of a card asks for is changed for all: batches of fewer slices than their 16 or 64, mixed
precision in bf16 (two of the three use fp16 on a card), and fewer steps of sampling, by each library's own DDIM.
Each also runs with ``narrow`` networks, a quarter as wide, at least 32, which their groups of channels need.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from quality_cells import Bytes
from quality_data import Data
from torch import Tensor, nn

import trainables.measures.torchvision_operators  # noqa: F401  diffusers and MONAI import torchvision
from trainables.loop.execution import computing_dtype
from trainables.loop.seeds import derived_seed

TIMESTEPS = 1000
DRAWN_AT_ONCE = 20
NARROWEST = 32


class Peer:
    """What the three have in common; ``settings`` are the contender's, with ``rate`` a factor of its learning rates.

    A run begins with the same random numbers whatever ran before it.
    """

    shares: ClassVar[Mapping[str, float]]

    def __init__(self, settings: Mapping[str, Any], data: Data, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.slices = torch.from_numpy(data.training.images)[:, None]
        self.positions = data.positions

    def begin(self, name: str) -> torch.Generator:
        """Seeds what ``name`` draws from PyTorch's own generator, and returns a generator of the batches."""
        torch.manual_seed(derived_seed(self.seed, name))
        return torch.Generator().manual_seed(derived_seed(self.seed, name, "batches"))

    def width(self, published: int) -> int:
        """That of the contender's networks."""
        return max(NARROWEST, published // 4) if self.settings["narrow"] else published

    def rate(self, published: float) -> float:
        """The contender's learning rate."""
        return float(published * self.settings["rate"])

    def batches(self, generator: torch.Generator, steps: int) -> Iterator[Tensor]:
        """Places of the slices of each step: epochs in random order, one after another."""
        size, rest = int(self.settings["batch"]), torch.empty(0, dtype=torch.long)
        for _ in range(steps):
            while len(rest) < size:
                rest = torch.cat([rest, torch.randperm(len(self.slices), generator=generator)])
            yield rest[:size]
            rest = rest[size:]


def mixed() -> contextlib.AbstractContextManager[object]:
    """Mixed precision in bf16, where the CPU computes in it."""
    dtype = computing_dtype("auto", torch.device("cpu"))
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)


def take_step(model: nn.Module, optimizer: torch.optim.Optimizer, clip: float = 0.0) -> None:
    """Clips the gradients to a norm of ``clip``, where that isn't 0, takes a step and forgets them."""
    if clip:
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def to_range(slices: Tensor, low: float) -> Tensor:
    """Slices uint8 to numbers from ``low`` to 1."""
    return slices.float() / 255 * (1 - low) + low


def to_bytes(images: Tensor, low: float) -> Bytes:
    """Images (N, 1, H, W) from ``low`` to 1 as uint8 (N, H, W)."""
    found: Bytes = ((images[:, 0] - low) / (1 - low) * 255).round().clamp(0, 255).byte().numpy()
    return found
