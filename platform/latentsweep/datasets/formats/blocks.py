"""Voxels as a header describes them: a block of so many bytes, packed or not, in the header's file or beside it."""

from __future__ import annotations

import bz2
import gzip
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from latentsweep.datasets.formats import limits
from latentsweep.datasets.formats.limits import MAX_NIFTI_BYTES, MAX_VOXELS, MOST_INFLATION, open_scan
from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.volumes import Float, fill_background

ELSEWHERE = "a header whose data are in another folder, a link or several files: put one data file beside it"
MISSING = "a header whose data file is missing: put it beside it"
CUT = "a volume that is cut short or damaged"
GZIP = b"\x1f\x8b"
BLOCK = 2**20
MOST_BEHIND = 4 * BLOCK
"""Bytes that a stream may hold behind the voxels."""
DEFLATE, BZIP2 = "deflate", "bzip2"
ZLIB_OR_GZIP = 47
"""zlib's window of bits that tells either by its first bytes."""


@dataclass(frozen=True)
class Block:
    """Where the voxels of a volume are and what they are."""

    shape: tuple[int, ...]
    """The first axis runs fastest."""
    dtype: np.dtype[Any]
    offset: int
    """Bytes before it; below 0 where it ends the file."""
    packing: str = ""
    """:data:`DEFLATE`, :data:`BZIP2` or nothing."""


def check_block(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """The three sides of a volume, without last axes of one element; raises :class:`Reject` for none or too large."""
    sides = tuple(shape)
    while len(sides) > 3 and sides[-1] == 1:
        sides = sides[:-1]
    if len(sides) != 3:
        raise Reject(
            f"a volume of {len(sides)} dimensions where 3 are needed: split it by channel or time", broken=False
        )
    if min(sides) < 1 or dtype.kind not in "iuf":
        raise Reject("a volume without real-valued voxels", broken=False)
    voxels = int(np.prod(sides, dtype=object))
    if voxels > MAX_VOXELS:
        raise Reject(f"a volume of more than {MAX_VOXELS:,} voxels", broken=False)
    if voxels * dtype.itemsize > MAX_NIFTI_BYTES:
        raise Reject(f"a volume of more than {MAX_NIFTI_BYTES // 2**20} MiB", broken=False)
    return sides


def read_block(file: BinaryIO, block: Block) -> Float:
    """The voxels (X, Y, Z) float32; raises :class:`Reject`, before memory is taken for what no such file can hold."""
    sides = check_block(block.shape, block.dtype)
    wanted = int(np.prod(sides)) * block.dtype.itemsize
    size = os.fstat(file.fileno()).st_size
    if not block.packing:
        offset = block.offset if block.offset >= 0 else size - wanted
        if offset < 0 or offset + wanted > size:
            raise Reject(CUT, broken=True)
        file.seek(offset)
        data = file.read(wanted)
    else:
        if block.offset < 0 or (block.packing == DEFLATE and wanted > size * MOST_INFLATION):
            raise Reject(CUT, broken=True)
        file.seek(block.offset)
        data = _unpack(file, block.packing, wanted)
    if len(data) != wanted:
        raise Reject(CUT, broken=True)
    return fill_background(np.frombuffer(data, block.dtype).reshape(sides, order="F").astype(np.float32))


def _unpack(file: BinaryIO, packing: str, wanted: int) -> bytes:
    """The ``wanted`` bytes; others where as many are not packed, or their checksum is wrong."""
    unpacking = zlib.decompressobj(ZLIB_OR_GZIP) if packing == DEFLATE else bz2.BZ2Decompressor()
    try:
        data = unpacking.decompress(file.read(MAX_NIFTI_BYTES), wanted + 1)
    except limits.UNREADABLE:
        raise Reject(CUT, broken=True) from None
    return data if unpacking.eof else b""


def unzipped(file: BinaryIO) -> tuple[BinaryIO, int]:
    """What is in a file, inflated where it is gzip, from its beginning, and how many bytes that may be at most."""
    zipped = file.read(len(GZIP)) == GZIP
    file.seek(0)
    size = os.fstat(file.fileno()).st_size
    return (cast(BinaryIO, gzip.GzipFile(fileobj=file)), size * MOST_INFLATION) if zipped else (file, size)


def read_stream(stream: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any], most: int) -> Float:
    """The voxels (X, Y, Z) float32 at the place of a stream that holds ``most`` more bytes or fewer.

    It is read to its end, where gzip has a checksum. Raises :class:`Reject`.
    """
    sides = check_block(shape, dtype)
    wanted = int(np.prod(sides)) * dtype.itemsize
    if wanted > most:
        raise Reject(CUT, broken=True)
    try:
        data = stream.read(wanted)
        behind = sum(len(stream.read(BLOCK)) for _ in range(MOST_BEHIND // BLOCK))
    except limits.UNREADABLE:
        raise Reject(CUT, broken=True) from None
    if len(data) != wanted or behind >= MOST_BEHIND:
        raise Reject(CUT, broken=True)
    return fill_background(np.frombuffer(data, dtype).reshape(sides, order="F").astype(np.float32))


def open_beside(header: Path, name: str) -> BinaryIO:
    """The data file that a header names; raises :class:`Reject` where it does not lie beside it."""
    plain = name.removeprefix("./")
    path = header.parent / plain
    if (
        not plain
        or plain in (".", "..")
        or any(mark in plain for mark in ("/", "\\", "\0", "%"))
        or path.is_symlink()
    ):
        raise Reject(ELSEWHERE, broken=False)
    try:
        return open_scan(path)
    except OSError:
        raise Reject(MISSING, broken=True) from None


def affine_of(directions: npt.ArrayLike, origin: npt.ArrayLike, flips: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The affine to RAS of a volume whose ``directions`` (3, 3) are the steps along its axes, a row for each."""
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(directions, np.float64).T
    affine[:3, 3] = np.asarray(origin, np.float64)
    return np.diag([*np.asarray(flips, np.float64), 1.0]) @ affine
