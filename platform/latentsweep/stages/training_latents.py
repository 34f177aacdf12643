"""The latents that a denoiser learns from: those of the training slices, in all versions that it draws from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from latentsweep.stages.latents import LABELS, MIRRORED, copy_name, read_latents
from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.latents import Latents
from trainables.loop.checkpoint import load_tensors


def read_training(config: DiffusionConfig, folder: Path, summary: dict[str, Any]) -> Latents:
    """The latents that a denoiser of this configuration learns from, in all versions that it draws from.

    Raises :class:`~trainables.errors.StoreError` as :func:`read_latents`.
    """
    mirrored = [MIRRORED] if config.flip_probability else []
    names = ["train", *(f"train {version}" for version in [*mirrored, *map(copy_name, range(config.copies))])]
    parts = [
        read_latents(folder, summary, name, whiten=config.whiten, positions=config.position_condition)
        for name in names
    ]
    if len(parts) == 1:
        return parts[0]
    positions, labels = [part.positions for part in parts if part.positions is not None], None
    if config.copies:
        of_copies = load_tensors(folder / LABELS)[0]["labels"]
        unaltered = len(parts[0]) * (len(parts) - config.copies)
        labels = torch.cat([torch.zeros(unaltered, of_copies.shape[1]), of_copies])
    return Latents(
        torch.cat([part.mean for part in parts]),
        torch.cat([part.log_variance for part in parts]),
        parts[0].statistics,
        torch.cat(positions) if positions else None,
        versions=len(parts),
        labels=labels,
    )
