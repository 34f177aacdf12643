"""MINC files (``.mnc``), of version 1 (netCDF) and of version 2 (HDF5) → volumes."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.externals.netcdf import netcdf_file
from nibabel.minc1 import Minc1File, MincError
from nibabel.minc2 import Minc2File

from latentsweep.datasets.formats import limits
from latentsweep.datasets.formats.blocks import check_block
from latentsweep.datasets.formats.hdf5 import HDF5_SIGNATURE, array_at, check_links, open_hdf5
from latentsweep.datasets.formats.limits import MAX_NIFTI_BYTES, guard_reading, open_scan, silence
from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.volumes import Volume

ARRAYS = ("minc-2.0/image/0/image", "minc-2.0/image/0/image-max", "minc-2.0/image/0/image-min")
DIMENSIONS = "minc-2.0/dimensions"
UNREADABLE = (
    *limits.UNREADABLE,
    IndexError,
    AttributeError,
    AssertionError,
    RuntimeError,
    ArithmeticError,
    MincError,
)
open_netcdf: Any = netcdf_file  # nibabel's functions carry no types


def minc_volume(paths: Sequence[Path]) -> tuple[list[Volume], list[Reject]]:
    """The volume of the one file of a scan; raises :class:`Reject`."""
    return [read_minc(paths[0])], []


@guard_reading()
def read_minc(path: Path) -> Volume:
    """The volume of a ``.mnc``; raises :class:`Reject` where there is none."""
    try:
        with silence("nibabel.global"), np.errstate(all="ignore"), open_scan(path) as file:
            if os.fstat(file.fileno()).st_size > MAX_NIFTI_BYTES:
                raise Reject(f"a MINC file of more than {MAX_NIFTI_BYTES // 2**20} MiB", broken=False)
            if file.peek(len(HDF5_SIGNATURE)).startswith(HDF5_SIGNATURE):  # type: ignore[attr-defined]
                with open_hdf5(file) as opened:
                    for name in ARRAYS:
                        array_at(opened, name)
                    check_links(opened, DIMENSIONS)
                    return _volume(Minc2File, opened)
            return _volume(Minc1File, open_netcdf(io.BytesIO(file.read()), mmap=False))
    except UNREADABLE:
        raise Reject("not a readable MINC file", broken=True) from None


def _volume(kind: Any, opened: Any) -> Volume:
    image = kind(opened)
    shape = tuple(int(side) for side in image.get_data_shape())
    if check_block(shape, image.get_data_dtype()) != shape:
        raise Reject("a MINC of 4 dimensions: convert it to NIfTI", broken=False)
    voxels = np.empty(shape, np.float32)
    for k in range(shape[0]):
        voxels[k] = image.get_scaled_data((k,))
    return Volume(voxels, np.asarray(image.get_affine(), np.float64))
