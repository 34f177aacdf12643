"""The brain tumours of Cheng et al. (figshare): a slice, its patient and its mask in each MATLAB file (7.3, HDF5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latentsweep.datasets.formats import limits
from latentsweep.datasets.formats.blocks import check_block
from latentsweep.datasets.formats.hdf5 import array_at, open_hdf5
from latentsweep.datasets.formats.limits import guard_reading, open_scan
from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.formats.stacks import stack_files
from latentsweep.datasets.volumes import Float, Volume

IMAGE, MASK, PATIENT = "cjdata/image", "cjdata/tumorMask", "cjdata/PID"
LONGEST_NAME = 64
UNREADABLE = (*limits.UNREADABLE, IndexError, AttributeError, RuntimeError)


def cheng_volumes(paths: Sequence[Path]) -> tuple[list[Volume], list[Reject]]:
    """The slices in the given order, stacked to one volume for each size, and a reject for each other file."""
    return stack_files(paths, read_cheng)


def cheng_masks(paths: Sequence[Path]) -> tuple[list[Volume], list[Reject]]:
    """The same of the masks: 1 where the tumour is."""
    return stack_files(paths, lambda path: read_cheng(path, MASK))


@guard_reading()
def read_cheng(path: Path, name: str = IMAGE) -> Float:
    """The array (rows, columns) float32 of that name; raises :class:`Reject`."""
    try:
        with open_scan(path) as file, open_hdf5(file) as opened:
            array = array_at(opened, name)
            check_block((*array.shape, 1), array.dtype)
            columns = np.stack([array[k] for k in range(array.shape[0])])  # MATLAB stores column by column
            return np.array(columns.T, np.float32)
    except UNREADABLE:
        raise Reject("not a readable MATLAB file with cjdata/image", broken=True) from None


def patient_of(path: Path) -> str | None:
    """The patient that a file names, to be hashed and never shown; None where it names none."""
    try:
        with guard_reading(), open_scan(path) as file, open_hdf5(file) as opened:
            letters: Any = array_at(opened, PATIENT)
            if letters.size > LONGEST_NAME or letters.dtype.kind not in "iu":
                return None
            return "".join(map(chr, np.asarray(letters[()]).ravel().tolist())).strip() or None
    except (Reject, *UNREADABLE):
        return None
