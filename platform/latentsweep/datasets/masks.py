"""Lesion masks: read with the reader of their format, laid on the voxels of their image, cut as its slices are.

Labels are uint8: 0 is background, and what is above it is lesion, by the values of the source (BraTS: 1, 2, 3 or 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel.orientations
import numpy as np
import numpy.typing as npt
from PIL import Image

from latentsweep.datasets.formats.readers import READERS, format_of
from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.volumes import Volume, apply_orientation, axial_planes, fit_square, io_orientation

Labels = npt.NDArray[np.uint8]

MASK_RULE = "the labels of the lesion mask beside the scan, with the scan's crop and size, nearest neighbour"
HALF = 127
"""Masks of pictures are 0 and 255: where a value is above this one, those above it are label 1."""
APART = 0.5
"""Voxels by which the corners of a mask may be off those of its image."""
ELSEWHERE = "a mask of other voxels than its image's"
SOME = "a folder of pictures of which only some have a mask, or that make no single volume"

# nibabel's functions carry no types
inverse_of_turning: Any = nibabel.orientations.inv_ornt_aff


def read_labels(kind: str, masks: Sequence[Path | None], volumes: Sequence[Volume]) -> Labels:
    """The labels (X, Y, Z) of the one volume that a scan's files gave, from the mask of each of these files.

    Raises :class:`Reject` where a mask is missing or can't be read, and where it is not of the volume's voxels.
    """
    paths = [path for path in masks if path is not None]
    if len(volumes) != 1 or len(paths) < len(masks):
        raise Reject(SOME, broken=False)
    read: list[Volume] = []
    for path in paths:
        reader = READERS[format_of(path) or kind]
        found, rejects = (reader.read_masks or reader.read)([path])
        if rejects or len(found) != 1:
            raise rejects[0] if rejects else Reject(ELSEWHERE, broken=False)
        read += found
    if len({volume.voxels.shape[:2] for volume in read}) > 1:
        raise Reject(ELSEWHERE, broken=False)
    whole = np.concatenate([volume.voxels for volume in read], axis=2) if len(read) > 1 else read[0].voxels
    return lay_on(volumes[0], Volume(whole, read[0].affine))


def lay_on(image: Volume, mask: Volume) -> Labels:
    """The labels of ``mask`` for the voxels of ``image``, however its axes run; raises :class:`Reject`."""
    voxels = mask.voxels
    if not np.all(np.isfinite(voxels)):
        raise Reject("a mask that is not of finite numbers", broken=True)
    if np.all(np.isfinite(image.affine)) and np.all(np.isfinite(mask.affine)) and np.linalg.det(image.affine):
        between = np.linalg.inv(image.affine) @ mask.affine
        turn = io_orientation(between)
        if np.any(np.isnan(turn)):
            raise Reject(ELSEWHERE, broken=False)
        moved = between @ inverse_of_turning(turn, voxels.shape)
        voxels = apply_orientation(voxels, turn)
        corners = np.array([(0, 0, 0, 1), (*np.subtract(voxels.shape, 1), 1)], np.float64)
        if np.abs(corners @ moved.T - corners).max() > APART:
            raise Reject(ELSEWHERE, broken=False)
    if voxels.shape != image.voxels.shape:
        raise Reject(ELSEWHERE, broken=False)
    labels = voxels > HALF if voxels.max() > HALF else np.clip(np.rint(voxels), 0, HALF)
    return labels.astype(np.uint8)


def cut_labels(image: Volume, labels: Labels, indices: Sequence[int], size: int) -> list[Labels]:
    """The (size, size) labels of the slices of ``image`` with these indices from the feet up."""
    planes, (row_mm, column_mm) = axial_planes(Volume(labels.astype(np.float32), image.affine))
    return [fit_square(planes[index], row_mm, column_mm, size, Image.Resampling.NEAREST) for index in indices]
