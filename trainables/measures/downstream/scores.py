"""What a comparison of segmentation networks says: a row for each network, and the scores of its arms.

Legend: S seeds, G held-out patients.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

REAL, SYNTHETIC, BOTH = "real", "synthetic", "both"
"""The arms: on what a network was trained."""

GAIN_AT = 0.25
"""The share of the patients at which the gain by generated slices is told, or the nearest of those that there are."""

Row = Mapping[str, Any]
"""One network: ``arm``, ``fraction`` of the real patients (0 for none), ``seed``, ``slices`` that it was trained on,
``dice`` and ``hausdorff`` (G,) of the held-out patients in the order of their names."""


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
