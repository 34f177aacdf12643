"""NIfTI files → volumes."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from nibabel import volumeutils
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from latentsweep.datasets import limits
from latentsweep.datasets.limits import (
    MAX_NIFTI_BYTES,
    MAX_VOXELS,
    MOST_INFLATION,
    STAND_IN_BYTES,
    guard_reading,
    name_stand_in,
    open_regular,
    silence,
)
from latentsweep.datasets.volumes import Float, Reject, Volume

HEADERS: dict[int, Any] = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
"""By their length in bytes, which is also their first field."""
GZIP_SIGNATURE = b"\x1f\x8b"
UNREADABLE = (*limits.UNREADABLE, ZeroDivisionError, ImageFileError, HeaderDataError, WrapStructError)


def nifti_volume(paths: Sequence[Path]) -> tuple[list[Volume], list[Reject]]:
    """The volume of the one file of a scan; raises :class:`Reject`."""
    return [read_nifti(paths[0])], []


@guard_reading()
def read_nifti(path: Path) -> Volume:
    """The volume of one ``.nii`` or ``.nii.gz``; raises :class:`Reject` where there is none.

    Whether it is zipped is told by its first bytes, not by its name. The header's extensions are not read. The size
    that it states is checked before memory is taken, against the limits and against what the file's bytes can hold;
    what a ``.gz`` holds behind the voxels is never inflated.
    """
    try:
        with silence("nibabel.global"), open_regular(path) as file:
            if stand_in := name_stand_in(file.read(STAND_IN_BYTES)):
                raise Reject(stand_in, broken=True)
            file.seek(0)
            zipped = file.read(2) == GZIP_SIGNATURE
            file.seek(0)
            most = os.fstat(file.fileno()).st_size * (MOST_INFLATION if zipped else 1)
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if zipped else file
            header = _header(stream.read(max(HEADERS)))
            shape = _check_shape(header, most)
            affine = np.asarray(header.get_best_affine(), dtype=np.float64)
            told = bool(header["sform_code"] or header["qform_code"])
            if not np.all(np.isfinite(affine)) or not np.linalg.det(affine):
                affine, told = np.asarray(header.get_base_affine(), dtype=np.float64), False
            return Volume(_voxels(stream, header, shape), affine, told)
    except UNREADABLE:
        raise Reject("not a readable NIfTI file", broken=True) from None


def _header(block: bytes) -> Any:
    """The header that the block begins with; raises one of :data:`UNREADABLE`."""
    for order in "<>":
        (length,) = struct.unpack(f"{order}i", block[:4])
        if length in HEADERS:
            return HEADERS[length](block[:length])
    raise ImageFileError("neither of NIfTI's lengths")


def _check_shape(header: Any, most: int) -> tuple[int, ...]:
    """The three sides of the volume; raises :class:`Reject` where no file of ``most`` bytes has, or may have, it."""
    shape = tuple(int(side) for side in header.get_data_shape())
    dtype = header.get_data_dtype()
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise Reject(f"a NIfTI of {len(shape)} dimensions where 3 are needed", broken=False)
    if min(shape) < 1 or dtype.kind not in "iuf":
        raise Reject("a NIfTI without real-valued voxels", broken=False)
    voxels = int(np.prod(shape, dtype=object))
    claimed = header.get_data_offset() + voxels * dtype.itemsize
    if voxels > MAX_VOXELS:
        raise Reject(f"a NIfTI of more than {MAX_VOXELS:,} voxels", broken=False)
    if claimed > MAX_NIFTI_BYTES:
        raise Reject(f"a NIfTI of more than {MAX_NIFTI_BYTES // 2**20} MiB", broken=False)
    if claimed > most:
        raise Reject("a NIfTI file that is cut short or damaged", broken=True)
    return shape


def _voxels(stream: BinaryIO, header: Any, shape: tuple[int, ...]) -> Float:
    """The scaled voxels (X, Y, Z), scaled a plane at a time since nibabel does that in float64."""
    try:
        opened: Any = ArrayProxy
        proxy = opened(stream, header, mmap=False)
        stored = proxy.get_unscaled().reshape(shape, order="F")
        voxels = np.empty(shape, np.float32, order="F")
        scaled: Any = volumeutils.apply_read_scaling
        for k in range(shape[2]):
            voxels[..., k] = scaled(stored[..., k], np.asanyarray(proxy.slope), np.asanyarray(proxy.inter))
        return voxels
    except UNREADABLE:
        raise Reject("a NIfTI file that is cut short or damaged", broken=True) from None
