"""The arms of the comparison: segmentation networks trained on real slices, on generated ones, and on both.

Legend: S seeds, G held-out patients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainables.loop.draws import generator
from trainables.measures.downstream.scores import BOTH, REAL, SYNTHETIC
from trainables.measures.downstream.segmenter import Bytes, segment, train_segmenter
from trainables.measures.downstream.settings import DownstreamConfig
from trainables.measures.memorisation import Floats, near_copy_threshold, nearest
from trainables.measures.overlap import agree_by_patient


@dataclass(frozen=True)
class Labelled:
    """Slices and their lesion masks, uint8 (N, H, W) each, masks 255 for lesion; ``patients`` (N,) of real ones."""

    images: Bytes
    masks: Bytes
    patients: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.images)

    def __add__(self, other: Labelled) -> Labelled:
        return Labelled(np.concatenate([self.images, other.images]), np.concatenate([self.masks, other.masks]))

    def of_some(self, fraction: float, seed: int) -> Labelled:
        """The slices of a share of the patients, one at least; a larger share of the same seed holds the smaller."""
        names = sorted(set(self.patients))
        order = torch.randperm(len(names), generator=generator(seed, "patients")).tolist()
        drawn = {names[place] for place in order[: max(1, math.ceil(fraction * len(names) - 1e-9))]}
        own = [place for place, patient in enumerate(self.patients) if patient in drawn]
        return Labelled(self.images[own], self.masks[own], [self.patients[place] for place in own])


def leave_out_copies(generated: Labelled, real: Labelled, null: Floats) -> Labelled:
    """The generated slices that are no near copies of real training slices.

    ``null`` are the distances of held-out slices to training slices, which say how near a copy is
    (:func:`~trainables.measures.memorisation.near_copy_threshold`). Raises :class:`DataError` for no ``null``.
    """
    kept = nearest(generated.images, real.images).distances > near_copy_threshold(null)
    return Labelled(generated.images[kept], generated.masks[kept])


def compare_real(
    config: DownstreamConfig, real: Labelled, held_out: Labelled, device: torch.device
) -> list[dict[str, Any]]:
    """The rows of networks trained on the real slices of each share of the patients, with each seed.

    Raises what :func:`~trainables.measures.downstream.segmenter.train_segmenter` raises.
    """
    return [
        _row(config, (REAL, fraction, seed), real.of_some(fraction, seed), held_out, device)
        for fraction in config.fractions
        for seed in range(config.seeds)
    ]


def compare_generated(
    config: DownstreamConfig, real: Labelled, generated: Labelled, held_out: Labelled, device: torch.device
) -> list[dict[str, Any]]:
    """The same for generated slices alone, and beside the real ones of each share of the patients.

    Where all generated slices were near copies, none is left to learn from: alone they then find no lesion.
    """
    alone = [_row(config, (SYNTHETIC, 0.0, seed), generated, held_out, device) for seed in range(config.seeds)]
    return alone + [
        _row(config, (BOTH, fraction, seed), real.of_some(fraction, seed) + generated, held_out, device)
        for fraction in config.fractions
        for seed in range(config.seeds)
    ]


def _row(
    config: DownstreamConfig,
    which: tuple[str, float, int],
    training: Labelled,
    held_out: Labelled,
    device: torch.device,
) -> dict[str, Any]:
    arm, fraction, seed = which
    masks = np.zeros_like(held_out.masks)
    if len(training):
        network = train_segmenter(config, training.images, training.masks, seed=seed, device=device)
        masks = segment(network, held_out.images, device)
    found = agree_by_patient(held_out.masks, masks, held_out.patients)
    scores = {"dice": found.dice.tolist(), "hausdorff": found.hausdorff.tolist()}
    return {"arm": arm, "fraction": fraction, "seed": seed, "slices": len(training), **scores}
