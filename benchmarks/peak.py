"""The fastest matrix product that PyTorch reaches here: the roof that a training step is measured against."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

SIDES = (1024, 2048)


def products(dtype: torch.dtype, rounds: int = 10) -> float:
    """FLOP/s of the best square matrix product."""
    best = 0.0
    for side in SIDES:
        a, b = torch.randn((2, side, side)).to(dtype)
        best = max(best, 2 * side**3 / _fastest(lambda a=a, b=b: a @ b, rounds))  # type: ignore[misc]
    return best


def convolutions(dtype: torch.dtype, rounds: int = 10) -> float:
    """FLOP/s of a large 3×3 convolution with channels last, for which oneDNN has its best kernels."""
    batch, channels, side = 16, 256, 32
    x = torch.randn(batch, channels, side, side).to(dtype, memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 3, 3).to(dtype, memory_format=torch.channels_last)
    work = 2 * batch * channels**2 * 9 * side**2
    return work / _fastest(lambda: F.conv2d(x, weight, padding=1), rounds)


def _fastest(run: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds + 2):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times[2:])
