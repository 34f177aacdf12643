"""How well masks agree with the true ones.

Legend: N slices; masks (N, H, W), lesion where they are not 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.errors import DataError

Masks = npt.NDArray[Any]


def dice(truth: Masks, found: Masks) -> npt.NDArray[np.float64]:
    """Dice 2·|A∩B|/(|A| + |B|) of each slice, (N,), 0 to 1; NaN where both are empty (Dice 1945).

    Raises :class:`DataError` for masks of different shapes.
    """
    if truth.shape != found.shape:
        raise DataError(
            f"masks must be as many and as large as the true ones, {truth.shape}, got {found.shape}: decode the same "
            "slices"
        )
    a, b = (each.reshape(len(each), -1) != 0 for each in (truth, found))
    size = a.sum(axis=1) + b.sum(axis=1)
    result: npt.NDArray[np.float64] = np.full(len(a), np.nan)
    np.divide(2.0 * (a & b).sum(axis=1), size, out=result, where=size > 0)
    return result


def evaluate_masks(truth: Masks, found: Masks) -> dict[str, float]:
    """``recon/mask_dice``, the mean Dice over the slices with lesion, and ``recon/mask_invented``, the share of the
    slices without in whose reconstruction there is one. Each is left out where there are no such slices."""
    lesion, drawn = (np.any(each, axis=(1, 2)) for each in (truth, found))
    invented = drawn[~lesion]
    result = {"recon/mask_dice": float(dice(truth, found)[lesion].mean())} if lesion.any() else {}
    return result | ({"recon/mask_invented": float(invented.mean())} if len(invented) else {})
