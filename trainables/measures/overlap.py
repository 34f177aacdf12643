"""How well masks agree with the true ones, by slice and by patient.

Legend: N slices; masks (N, H, W), lesion where they are not 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.errors import DataError

Masks = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

PERCENTILE = 95
"""Of the distances between two outlines: the largest one alone would be that of a stray pixel."""


def dice(truth: Masks, found: Masks) -> Floats:
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
    result: Floats = np.full(len(a), np.nan)
    np.divide(2.0 * (a & b).sum(axis=1), size, out=result, where=size > 0)
    return result


def evaluate_masks(truth: Masks, found: Masks) -> dict[str, float]:
    """``recon/mask_dice``, the mean Dice over the slices with lesion, and ``recon/mask_invented``, the share of the
    slices without in whose reconstruction there is one. Each is left out where there are no such slices."""
    lesion, drawn = (np.any(each, axis=(1, 2)) for each in (truth, found))
    invented = drawn[~lesion]
    result = {"recon/mask_dice": float(dice(truth, found)[lesion].mean())} if lesion.any() else {}
    return result | ({"recon/mask_invented": float(invented.mean())} if len(invented) else {})


@dataclass(frozen=True)
class ByPatient:
    """How well the masks of each patient agree, patients in the order of their names."""

    patients: tuple[str, ...]
    dice: Floats
    """(G,), 0 to 1: of all slices of a patient together; 1 where both have no lesion."""
    hausdorff: Floats
    """(G,), in pixels: :func:`hausdorff_95`."""


def agree_by_patient(truth: Masks, found: Masks, patients: Sequence[str]) -> ByPatient:
    """The agreement of masks with the true ones, whose slices are of these ``patients`` (N,).

    Raises :class:`DataError` for masks of different shapes.
    """
    names = tuple(sorted(set(patients)))
    places = [np.flatnonzero([patient == name for patient in patients]) for name in names]
    whole = [dice(truth[own].reshape(1, -1), found[own].reshape(1, -1))[0] for own in places]
    far = [hausdorff_95(truth[own], found[own]) for own in places]
    return ByPatient(names, np.nan_to_num(whole, nan=1.0), np.array(far))


def hausdorff_95(truth: Masks, found: Masks) -> float:
    """The 95 % Hausdorff distance of the masks of one patient, in pixels of the slice (Huttenlocher et al. 1993).

    For each pixel of an outline its distance to the nearest one of the other outline in the same slice; the 95th
    percentile over all slices, from the true outline to the other and back, whichever is larger. Where a slice has no
    lesion in one mask, the pixels of the other count the slice's diagonal. 0 where both have no lesion at all.
    """
    from scipy.ndimage import binary_erosion, distance_transform_edt

    cross = np.array([[[0, 1, 0], [1, 1, 1], [0, 1, 0]]], bool)
    lines = [mask & ~binary_erosion(mask, cross) for mask in (truth != 0, found != 0)]
    diagonal, percentiles = math.hypot(*truth.shape[1:]), [0.0]
    for own, other in (lines, reversed(lines)):
        distances = [
            distance_transform_edt(~theirs)[mine] if theirs.any() else np.full(mine.sum(), diagonal)
            for mine, theirs in zip(own, other, strict=True)
            if mine.any()
        ]
        if distances:
            percentiles.append(float(np.percentile(np.concatenate(distances), PERCENTILE)))
    return max(percentiles)
