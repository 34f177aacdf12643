"""Random numbers that derive from what they are for, so that a run that was killed and continued draws the same."""

from __future__ import annotations

import hashlib

import torch


def derived_seed(seed: int, *purpose: int | str) -> int:
    """A 63-bit seed from ``seed`` and what it is for, such as ``("order", epoch)``."""
    text = ":".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: int | str) -> torch.Generator:
    """A CPU generator seeded by :func:`derived_seed`; drawing on the CPU gives every device the same numbers."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


def batch_indices(count: int, batch_size: int, step: int, seed: int) -> torch.Tensor:
    """The samples of optimiser step ``step`` (from 0): int64 of length ``min(batch_size, count)``.

    Every epoch is a fresh permutation of ``count`` samples, cut into whole batches; the remainder is left
    out, and differs from epoch to epoch.
    """
    batch_size = min(batch_size, count)
    per_epoch = count // batch_size
    epoch, position = divmod(step, per_epoch)
    order = torch.randperm(count, generator=generator(seed, "order", epoch))
    return order[position * batch_size : (position + 1) * batch_size]
