"""The arms of the comparison: segmentation networks trained on real slices, on generated ones, and on both.

Legend: S seeds, G held-out patients.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainables.downstream.segmenter import Bytes, segment, train_segmenter
from trainables.downstream.settings import DownstreamConfig
from trainables.loop.seeds import generator
from trainables.measures.memorisation import Floats, near_copy_threshold, nearest
from trainables.measures.overlap import agree_by_patient

REAL, SYNTHETIC, BOTH = "real", "synthetic", "both"
"""The arms: on what a network was trained."""

GAIN_AT = 0.25
"""The share of the patients at which the gain by generated slices is told, or the nearest of those that there are."""

Row = Mapping[str, Any]
"""One network: ``arm``, ``fraction`` of the real patients (0 for none), ``seed``, ``slices`` that it was trained on,
``dice`` and ``hausdorff`` (G,) of the held-out patients in the order of their names."""


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

    Raises what :func:`~trainables.downstream.segmenter.train_segmenter` raises.
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


def scores_of(rows: Iterable[Row], arm: str, fraction: float, score: str = "dice") -> np.ndarray:
    """A score of an arm at a share of the patients, (S, G)."""
    return np.array([row[score] for row in rows if (row["arm"], row["fraction"]) == (arm, fraction)])


def fractions_of(rows: Iterable[Row]) -> list[float]:
    """The shares of the real patients, ascending."""
    return sorted({row["fraction"] for row in rows if row["arm"] == REAL})


def gain_at(rows: Iterable[Row]) -> float:
    """The share of the patients at which the gain is told."""
    return min(fractions_of(rows), key=lambda fraction: abs(fraction - GAIN_AT))


def measure_arms(rows: Sequence[Row], *, drawn: int, copies: int) -> dict[str, float]:
    """The numbers of a comparison, ``gen/downstream_…``: means over seeds and patients.

    ``dice`` and ``hd95`` of networks trained on generated slices alone, with ``_real`` those of all real ones;
    ``dice_loss``, 1 − that Dice, with ``_se`` its standard error between patients, left out for one patient;
    ``ratio``, that Dice over that of real ones, left out where that is 0; ``gain``, what generated slices add to the
    Dice of :func:`gain_at`'s share of the patients; ``copies``, the share of the ``drawn`` slices that are near
    copies and were left out.
    """
    alone, real = scores_of(rows, SYNTHETIC, 0.0), scores_of(rows, REAL, 1.0)
    both, same = (scores_of(rows, arm, gain_at(rows)) for arm in (BOTH, REAL))
    found = {
        "dice": alone.mean(),
        "dice_real": real.mean(),
        "dice_loss": 1 - alone.mean(),
        "hd95": scores_of(rows, SYNTHETIC, 0.0, "hausdorff").mean(),
        "hd95_real": scores_of(rows, REAL, 1.0, "hausdorff").mean(),
        "gain": both.mean() - same.mean(),
        "copies": copies / drawn,
    }
    found |= {"ratio": alone.mean() / real.mean()} if real.mean() else {}
    patients = alone.mean(axis=0)
    found |= {"dice_loss_se": patients.std(ddof=1) / math.sqrt(len(patients))} if len(patients) > 1 else {}
    return {f"gen/downstream_{name}": float(value) for name, value in found.items()}
