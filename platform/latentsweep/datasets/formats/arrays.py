"""Arrays (``.npy``, ``.npz``, ``.h5``) → volumes of slices, as pictures are: the first row is anterior.

A file holds one array, or one that is called ``image``. An array of two dimensions is a slice (rows, columns). One of
three is a stack of square slices: the axis that differs from two equal ones counts them.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import h5py
import numpy as np
import numpy.typing as npt

from latentsweep.datasets.formats import limits
from latentsweep.datasets.formats.blocks import CUT, check_block
from latentsweep.datasets.formats.hdf5 import HDF5_SIGNATURE, array_at, open_hdf5
from latentsweep.datasets.formats.limits import MOST_INFLATION, guard_reading, open_scan
from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.formats.stacks import stack_files
from latentsweep.datasets.volumes import Float, Volume, fill_background

IMAGE = "image"
MOST_CHANNELS = 4
"""An axis of so few elements may be one of colours or contrasts."""
ZIP_SIGNATURE = b"PK"
UNREADABLE = (
    *limits.UNREADABLE,
    IndexError,
    AttributeError,
    RuntimeError,
    SyntaxError,
    TokenError,
    zipfile.BadZipFile,
)
AMBIGUOUS = "an array whose slices can't be told: save slices (rows, columns), a stack of square ones, or NIfTI"
CHANNELS = (
    f"an array with an axis of {MOST_CHANNELS} or less, as of contrasts: save one contrast's slices (rows, columns)"
)
SEVERAL = f"a file of several arrays, none of which is called {IMAGE}: save one array in a file"


def array_volumes(paths: Sequence[Path]) -> tuple[list[Volume], list[Reject]]:
    """A volume for each stack, and one of all slices of one size in the given order; and a reject for each other."""
    return stack_files(paths, read_array)


@guard_reading()
def read_array(path: Path) -> Float:
    """The slice (rows, columns) or the stack (N, rows, columns) of a file, float32.

    Raises :class:`Reject`, before memory is taken for too much.
    """
    try:
        with open_scan(path) as file:
            start = file.read(len(HDF5_SIGNATURE))
            file.seek(0)
            if start == HDF5_SIGNATURE:
                return _of_hdf5(file)
            if start.startswith(ZIP_SIGNATURE):
                return _of_zip(file)
            return _of_numpy(file, os.fstat(file.fileno()).st_size)
    except UNREADABLE:
        raise Reject("not a readable file of arrays", broken=True) from None


def as_slices(array: npt.NDArray[Any]) -> Float:
    """The slice or the stack that an array of 2 or 3 dimensions is; raises :class:`Reject` where it can't be told."""
    slices = np.moveaxis(array, _stack_axis(array.shape), 0) if array.ndim == 3 else array
    return fill_background(np.array(slices, np.float32))


def _stack_axis(shape: tuple[int, ...]) -> int:
    alone = [axis for axis in range(3) if shape.count(shape[axis]) == 1]
    if min(shape) <= MOST_CHANNELS:
        raise Reject(CHANNELS, broken=False)
    if len(alone) != 1:
        raise Reject(AMBIGUOUS, broken=False)
    return alone[0]


def _check(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raises :class:`Reject` for what is no slice or stack of real values, or too large."""
    if len(shape) not in (2, 3):
        raise Reject(AMBIGUOUS, broken=False)
    check_block((*shape, 1)[:3], dtype)
    if len(shape) == 3:
        _stack_axis(shape)


def _of_numpy(file: BinaryIO | Any, most: int) -> Float:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, in_columns, dtype = read(file)
    _check(shape, dtype)
    wanted = int(np.prod(shape)) * dtype.itemsize
    if wanted > most:
        raise Reject(CUT, broken=True)
    data = file.read(wanted)
    if len(data) != wanted:
        raise Reject(CUT, broken=True)
    return as_slices(np.frombuffer(data, dtype).reshape(shape, order="F" if in_columns else "C"))


def _of_zip(file: BinaryIO) -> Float:
    with zipfile.ZipFile(file) as archive:
        names = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
        with archive.open(names[_choose(list(names))]) as member:
            return _of_numpy(member, os.fstat(file.fileno()).st_size * MOST_INFLATION)


def _of_hdf5(file: BinaryIO) -> Float:
    with open_hdf5(file) as opened:
        names = [name for name in opened if isinstance(opened.get(name, getlink=True), h5py.HardLink)]
        array = array_at(opened, _choose(names))
        _check(tuple(array.shape), array.dtype)
        return as_slices(np.stack([array[k] for k in range(array.shape[0])]))


def _choose(names: Sequence[str]) -> str:
    """The one name, or that of the image among several."""
    if IMAGE in names:
        return IMAGE
    if len(names) != 1:
        raise Reject(SEVERAL, broken=False)
    return names[0]
