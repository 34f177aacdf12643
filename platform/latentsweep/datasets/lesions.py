"""What a prepared dataset must hold for its lesion masks to be learned."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from latentsweep.datasets.slices import PreparedDataset, Rule, open_dataset
from trainables.data.settings import DataConfig, check_label
from trainables.errors import DataError

LEFT_OUT = "masks left out"
"""How the notes of a dataset begin on masks that a preparation didn't take."""


def check_masks(dataset: PreparedDataset, data: DataConfig) -> None:
    """Checks that masks can be learned of a dataset: each slice has one, and there is lesion, of the label asked for.

    A mask that is empty says that its slice has no lesion. A missing one says nothing, so it never counts as an
    empty one. Raises :class:`DataError`, and :class:`~trainables.errors.ConfigError` for a label that isn't there.
    """
    counts, notes, instead = dataset.manifest["counts"], dataset.manifest["notes"], "or set data.mask=false"
    reasons = "".join(f" ({note})" for note in notes if note.startswith(LEFT_OUT))
    if not dataset.has_masks:
        raise DataError(
            f"data.mask=true needs lesion masks, and {dataset.name} has none{reasons}; prepare it with --replace "
            f"from a source where they lie beside the scans, {instead}"
        )
    lacking = counts["slices"] - counts.get("slices_with_mask", 0)
    if lacking:
        raise DataError(
            f"data.mask=true needs a mask of every slice, since no mask doesn't mean no lesion, and {lacking} of "
            f"the {counts['slices']} slices of {dataset.name} have none{reasons}; prepare it with --replace "
            f"without their scans (--exclude), {instead}"
        )
    if not counts.get("slices_with_lesion", 0):
        raise DataError(
            f"data.mask=true needs slices with lesion, and all masks of {dataset.name} are empty; take other masks, "
            f"{instead}"
        )
    if data.mask_label:
        check_label(_labels(dataset.folder, dataset.mask_fingerprint, data.rule), data.mask_label)


@functools.cache
def _labels(folder: Path, fingerprint: str, rule: Rule) -> np.ndarray:
    """The labels in the training split's masks of that fingerprint: read once for all recipes of a search."""
    return open_dataset(folder.parent, folder.name).mask_labels("train", rule)
