"""HDF5 files, opened so that they read nothing but themselves."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, BinaryIO

import h5py
import numpy as np

from latentsweep.datasets.formats.limits import MAX_NIFTI_BYTES
from latentsweep.datasets.formats.reject import Reject

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
OUTWARD = "an HDF5 file that refers to others: write one that holds its data itself"


def open_hdf5(file: BinaryIO) -> Any:
    """The opened file, for ``with``; raises :class:`OSError` for what is no HDF5."""
    return h5py.File(file, "r")


def array_at(opened: Any, name: str) -> Any:
    """The array of that path; raises :class:`KeyError` where there is none, and :class:`Reject` for one elsewhere.

    Links out of the file, raw data beside it and virtual arrays read other files, whoever made them. A chunk is held
    in memory whole, and may not be larger than a volume.
    """
    place = opened
    for part in PurePosixPath(name).parts:
        link = place.get(part, getlink=True) if isinstance(place, h5py.Group) else None
        if link is None:
            raise KeyError("absent")
        if not isinstance(link, h5py.HardLink):
            raise Reject(OUTWARD, broken=False)
        place = place[part]
    if not isinstance(place, h5py.Dataset):
        raise KeyError("no array")
    if place.external or place.is_virtual:
        raise Reject(OUTWARD, broken=False)
    if place.chunks and int(np.prod(place.chunks, dtype=object)) * place.dtype.itemsize > MAX_NIFTI_BYTES:
        raise Reject(f"an HDF5 file with chunks of more than {MAX_NIFTI_BYTES // 2**20} MiB", broken=False)
    return place


def check_links(opened: Any, name: str) -> None:
    """Raises :class:`Reject` where the group of that path refers to other files, and :class:`KeyError` without it."""
    group = opened[name]
    if not all(isinstance(group.get(part, getlink=True), h5py.HardLink) for part in group):
        raise Reject(OUTWARD, broken=False)
