"""The latents that a denoiser learns from: those of the training slices, in all versions that it draws from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from latentsweep.stages.conditions import read_categories, read_lesions
from latentsweep.stages.latents import LABELS, MIRRORED, copy_name, read_latents, read_volumes
from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.latents import Latents
from trainables.denoiser.novelty import distances_to_neighbours, novelty_weights
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
    weights = weigh(config, parts[0], read_volumes(folder, summary, "train")) if config.novelty_weighting else None
    positions, labels = [part.positions for part in parts if part.positions is not None], None
    lesions = read_lesions(folder, "train").repeat(len(parts)) if config.lesion_condition else None
    told = read_categories(folder, "train", config.label_condition)[0] if config.label_condition else None
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
        lesions=lesions,
        categories=None if told is None else told.repeat(len(parts), 1),
        labels=labels,
        weights=weights,
    )


def weigh(config: DiffusionConfig, latents: Latents, volumes: Sequence[str]) -> torch.Tensor:
    """How often each slice is drawn (N,), by the distances of whitened latents within its volume."""
    whitened = latents.statistics.whiten(latents.mean.float())
    return novelty_weights(distances_to_neighbours(whitened, volumes), config.novelty_weighting)
