"""What a prepared dataset must hold for its lesion masks to be learned."""

from __future__ import annotations

from latentsweep.datasets.slices import PreparedDataset
from trainables.errors import DataError

LEFT_OUT = "masks left out"
"""How the notes of a dataset begin on masks that a preparation didn't take."""


def check_masks(dataset: PreparedDataset) -> None:
    """Checks that masks can be learned of a dataset: each slice has one, and there is lesion.

    A mask that is empty says that its slice has no lesion. A missing one says nothing, so it never counts as an
    empty one. Raises :class:`DataError`.
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
