"""What is drawn or computed on scans and is no scan: masks, labels, probability maps; by name and by content."""

from __future__ import annotations

import dataclasses
import re
from pathlib import PurePosixPath

import numpy as np

from latentsweep.datasets.formats.readers import READERS
from latentsweep.datasets.volumes import Float, Volume

LABEL_MAP = "a mask or a map of labels, by its few values"
MASK_WORD = r"(masks?|seg|segs|segm|segmentation|dseg|labels?|gt)"
"""What a name of a mask ends with."""
LESION_WORD = r"(lesions?|tumou?rs?|roi)"
"""What a volume's name ends with that is a lesion's mask. A picture's may tell its class with it."""
MASK_FOLDERS = {
    f"{name}{part}": f"images{part}"
    for name in (
        "label",
        "labels",
        "mask",
        "masks",
        "segmentation",
        "segmentations",
        "annotation",
        "annotations",
        "gt",
    )
    for part in ("", "tr", "ts")
}
"""Folders that hold masks and nothing else → what the folder of their scans is called; in lower case."""
BY_NAME = "masks and labels by their names"
NAMES = {
    BY_NAME: re.compile(
        rf"(^|[_-])((brain|head|skull|{LESION_WORD})[_-]?)?({MASK_WORD}|aseg|aparc)([_-]?\d{{1,2}})?$", re.IGNORECASE
    ),
    "probability maps by their names": re.compile(
        r"(^|[_-])(probseg|probmap|prob|probability|pve[_-]?\d?|pveseg)$|[_-]pve[_-]", re.IGNORECASE
    ),
}
"""What a file is, in words → the pattern that the end of its name fits."""
LESION_NAME = re.compile(rf"(^|(?<!no)[_-]){LESION_WORD}([_-]?\d{{1,2}})?$", re.IGNORECASE)
MOST_LABELS = 16
"""No scan has as few values as this: a map of labels has."""
BETWEEN = (0.1, 0.9)
"""A picture of a mask has next to nothing between these shares of its range, though JPEG blurs its edges."""
MOST_BETWEEN = 0.02
LEAST_BRIGHT = 0.02
"""A picture with less than this share of bright pixels may also be the empty end of a head."""


def kind_of_annotation(path: PurePosixPath, kind: str | None) -> str | None:
    """What a file of the format ``kind`` is by its name and its folder's, or None where it may be a scan.

    DICOM headers tell it by themselves.
    """
    if kind in (None, "dicom"):
        return None
    stem = re.sub(r"(\.nii)?\.[^.]+$", "", path.name) if "." in path.name else path.name
    if path.parent.name.lower() in MASK_FOLDERS or (READERS[kind].one_file and LESION_NAME.search(stem)):
        return BY_NAME
    return next((kind for kind, pattern in NAMES.items() if pattern.search(stem)), None)


def is_label_map(voxels: Float) -> bool:
    """Whether voxels hold a few whole numbers, of which there are at least two."""
    middle = np.unique(voxels[..., voxels.shape[2] // 2])
    if len(middle) > MOST_LABELS or not np.all(np.isfinite(middle)) or not np.all(middle == np.rint(middle)):
        return False
    values = np.unique(voxels)
    return bool(2 <= len(values) <= MOST_LABELS and np.all(values == np.rint(values)))


def is_mask_picture(plane: Float) -> bool:
    """Whether a picture is of two levels, or of few, and not merely dark."""
    low, high = float(plane.min()), float(plane.max())
    if not high > low:
        return False
    shares = (plane - low) / (high - low)
    if np.mean(shares >= BETWEEN[1]) < LEAST_BRIGHT:
        return False
    between = np.mean((shares > BETWEEN[0]) & (shares < BETWEEN[1]))
    return bool(between <= MOST_BETWEEN) or len(np.unique(plane)) <= MOST_LABELS // 2


def leave_out_labels(volume: Volume, pictures: bool) -> tuple[Volume | None, int]:
    """The volume without what is a map of labels, or None where it is all one, and how many files are left out.

    A volume of ``pictures`` loses those of its planes that are masks; another one is a scan or is none.
    """
    if not pictures:
        return (None, 1) if is_label_map(volume.voxels) else (volume, 0)
    scans = [k for k in range(volume.voxels.shape[2]) if not is_mask_picture(volume.voxels[..., k])]
    left_out = volume.voxels.shape[2] - len(scans)
    if not left_out:
        return volume, 0
    return (dataclasses.replace(volume, voxels=volume.voxels[..., scans]) if scans else None), left_out
