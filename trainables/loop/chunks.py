"""A function of a batch, called on parts of one size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trainables.loop.watchdog import beat


def in_chunks(function: Callable[..., Tensor], size: int, *batches: Tensor) -> Tensor:
    """``function`` of tensors (B, …), called with exactly ``size`` rows at a time, the last call padded.

    PyTorch picks its kernels by the size of the batch, and other kernels round differently; at one size a
    row's result depends neither on its place nor on the other rows.
    """
    rows = len(batches[0])
    results = []
    for start in range(0, rows, size):
        parts = [batch[start : start + size] for batch in batches]
        missing = size - len(parts[0])
        if missing:
            parts = [torch.cat((part, part[-1:].expand(missing, *part.shape[1:]))) for part in parts]
        results.append(function(*parts)[: size - missing])
        beat()
    return torch.cat(results)
