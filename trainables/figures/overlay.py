"""Lesion masks over slices, as outlines."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Bytes = npt.NDArray[np.uint8]

OUTLINE = (255, 64, 64)
"""The colour of a lesion's outline."""


def outline(image: Bytes, mask: Bytes) -> Bytes:
    """A slice (S, S) as (S, S, 3) with the outline of its lesion in red: the pixels of lesion at its border."""
    lesion = mask > 0
    coloured = np.repeat(image[..., None], 3, axis=2)
    coloured[lesion & ~ndimage.binary_erosion(lesion)] = OUTLINE
    return coloured


def outlined(images: Bytes, masks: Bytes | None) -> Bytes:
    """Slices (N, S, S) as (N, S, S, 3) with the outlines of ``masks`` (N, S, S); without masks as they are."""
    if masks is None or not len(images):
        return images
    return np.stack([outline(image, mask) for image, mask in zip(images, masks, strict=True)])
