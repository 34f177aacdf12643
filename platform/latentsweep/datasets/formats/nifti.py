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

from latentsweep.datasets.formats import limits
from latentsweep.datasets.formats.limits import (
    MAX_NIFTI_BYTES,
    MAX_VOXELS,
    MOST_INFLATION,
    guard_reading,
    open_scan,
    silence,
)
from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.volumes import Float, Volume, fill_background

HEADERS: dict[int, Any] = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
"""By their length in bytes, which is also their first field."""
GZIP_SIGNATURE = b"\x1f\x8b"
EXTENSION_BYTES = 4
"""Between a header and its voxels, where there are no extensions."""
BLOCK = 2**20
MOST_BEHIND = 4 * BLOCK
"""Bytes that a ``.gz`` may hold behind the voxels."""
SPLIT = ": prepare MSD's Task01 as msd, or split another set's files by channel or time, as with fslsplit"
LONGEST_QUATERNION = 1.001
"""The square of the length of a quaternion's three stored numbers: 1 or less, but for rounding."""
UNREADABLE = (*limits.UNREADABLE, ZeroDivisionError, ImageFileError, HeaderDataError, WrapStructError)


def nifti_volume(paths: Sequence[Path], channel: int | None = None) -> tuple[list[Volume], list[Reject]]:
    """The volume of the one file of a scan; raises :class:`Reject`."""
    return [read_nifti(paths[0], channel)], []


@guard_reading()
def read_nifti(path: Path, channel: int | None = None) -> Volume:
    """The volume of one ``.nii`` or ``.nii.gz``, or that ``channel`` of a file of 4 dimensions.

    Raises :class:`Reject` where there is none.

    Whether it is zipped is told by its first bytes, not by its name. The header's extensions are not read. The size
    that it states is checked before memory is taken, against the limits and against what the file's bytes can hold.
    A ``.gz`` is inflated to its end, where its checksum is, but for no more than MOST_BEHIND bytes behind the voxels,
    which are not kept. Voxels that are NaN are background: 0, or the least voxel where that is below 0.
    """
    try:
        with silence("nibabel.global"), open_scan(path) as file:
            zipped = file.read(2) == GZIP_SIGNATURE
            file.seek(0)
            most = os.fstat(file.fileno()).st_size * (MOST_INFLATION if zipped else 1)
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if zipped else file
            header = _header(stream.read(max(HEADERS)))
            shape, channels = _check_shape(header, most, channel)
            affine, told = affine_of_header(header)
            voxels = _voxels(stream, header, shape, channel or 0)
            if zipped:
                behind = channels - 1 - (channel or 0)
                _read_to_end(stream, MOST_BEHIND + behind * voxels.size * header.get_data_dtype().itemsize)
            return Volume(fill_background(voxels), affine, told)
    except UNREADABLE:
        raise Reject("not a readable NIfTI file", broken=True) from None


def _header(block: bytes) -> Any:
    """The header that the block begins with; raises one of :data:`UNREADABLE`."""
    for order in "<>":
        (length,) = struct.unpack(f"{order}i", block[:4])
        if length in HEADERS:
            return _mended(HEADERS[length](block[:length]), length)
    raise ImageFileError("neither of NIfTI's lengths")


def _mended(header: Any, length: int) -> Any:
    """The header, whose voxels begin behind it and whose intercept is a number, also where it states none."""
    if 0 <= header.get_data_offset() < length:
        header.set_data_offset(length + EXTENSION_BYTES)
    if not np.isfinite(header["scl_inter"]):
        header["scl_inter"] = 0
    return header


def affine_of_header(header: Any) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float64]], bool]:
    """The first transform of the header that is one, sform before qform, and whether there is any (else NIfTI's own
    for files without)."""
    _round_quaternion(header)
    for code, transform in (("sform_code", header.get_sform), ("qform_code", header.get_qform)):
        if header[code]:
            affine = np.asarray(transform(), dtype=np.float64)
            if np.all(np.isfinite(affine)) and np.linalg.det(affine):
                return affine, True
    return np.asarray(header.get_base_affine(), dtype=np.float64), False


def _check_shape(header: Any, most: int, channel: int | None) -> tuple[tuple[int, ...], int]:
    """The three sides of a volume, and how many the file holds.

    Raises :class:`Reject` where no file of ``most`` bytes has, or may have, them, and where the channel is none.
    """
    shape = tuple(int(side) for side in header.get_data_shape())
    dtype = header.get_data_dtype()
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if channel is None and len(shape) != 3:
        raise Reject(
            f"a NIfTI of {len(shape)} dimensions where 3 are needed" + SPLIT * (len(shape) > 3), broken=False
        )
    if channel is not None and (len(shape) != 4 or not 0 <= channel < shape[3]):
        raise Reject("a NIfTI without the channel of that number", broken=False)
    if min(shape) < 1 or dtype.kind not in "iuf":
        raise Reject("a NIfTI without real-valued voxels", broken=False)
    voxels = int(np.prod(shape[:3], dtype=object))
    channels = int(np.prod(shape[3:], dtype=object))
    claimed = header.get_data_offset() + voxels * channels * dtype.itemsize
    if voxels > MAX_VOXELS:
        raise Reject(f"a NIfTI of more than {MAX_VOXELS:,} voxels", broken=False)
    if claimed > MAX_NIFTI_BYTES:
        raise Reject(f"a NIfTI of more than {MAX_NIFTI_BYTES // 2**20} MiB", broken=False)
    if claimed > most:
        raise Reject("a NIfTI file that is cut short or damaged", broken=True)
    return shape[:3], channels


def _voxels(stream: BinaryIO, header: Any, shape: tuple[int, ...], channel: int) -> Float:
    """The scaled voxels (X, Y, Z) of a channel, scaled a plane at a time since nibabel does that in float64."""
    try:
        opened: Any = ArrayProxy
        dtype = header.get_data_dtype()
        start = header.get_data_offset() + channel * int(np.prod(shape)) * dtype.itemsize
        slope, inter = header.get_slope_inter()
        scaling = (1.0 if slope is None else slope, 0.0 if inter is None else inter)
        proxy = opened(stream, (shape, dtype, start, *scaling), mmap=False)
        stored = proxy.get_unscaled().reshape(shape, order="F")
        voxels = np.empty(shape, np.float32, order="F")
        scaled: Any = volumeutils.apply_read_scaling
        for k in range(shape[2]):
            voxels[..., k] = scaled(stored[..., k], np.asanyarray(proxy.slope), np.asanyarray(proxy.inter))
        return voxels
    except UNREADABLE:
        raise Reject("a NIfTI file that is cut short or damaged", broken=True) from None


def _read_to_end(stream: BinaryIO, most: int) -> None:
    """Reads what is behind the voxels of a ``.gz``; raises :class:`Reject` for a wrong checksum, and for more than
    ``most`` bytes."""
    try:
        for _ in range(0, most, BLOCK):
            if not stream.read(BLOCK):
                return
    except UNREADABLE:
        raise Reject("a NIfTI file that is cut short or damaged", broken=True) from None
    raise Reject(f"a NIfTI file with more than {MOST_BEHIND // 2**20} MiB behind its voxels", broken=True)


def _round_quaternion(header: Any) -> None:
    """Shortens the header's quaternion where rounding made it a little longer than 1, which nibabel refuses."""
    parts = ("quatern_b", "quatern_c", "quatern_d")
    quaternion = np.array([header[part] for part in parts], np.float64)
    square = float(quaternion @ quaternion)
    if 1 + header.quaternion_threshold <= square <= LONGEST_QUATERNION:
        for part, value in zip(parts, quaternion / np.sqrt(square), strict=True):
            header[part] = value
