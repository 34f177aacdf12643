"""NRRD files (``.nrrd``, ``.nhdr``) → volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import nrrd
import numpy as np
import numpy.typing as npt
from nrrd.reader import _determine_datatype

from latentsweep.datasets.formats import limits
from latentsweep.datasets.formats.blocks import (
    BZIP2,
    DEFLATE,
    ELSEWHERE,
    Block,
    affine_of,
    check_block,
    open_beside,
    read_block,
)
from latentsweep.datasets.formats.limits import guard_reading, open_scan
from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.volumes import Float, Volume

SPACES = {
    "right-anterior-superior": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "ras": (1, 1, 1),
    "las": (-1, 1, 1),
    "lps": (-1, -1, 1),
}
"""Spaces of a patient → which of their axes run against those of RAS."""
UNTOLD = (-1, -1, 1)
"""Without a space, axes run as those of pictures do."""
PACKINGS = {"raw": "", "gzip": DEFLATE, "gz": DEFLATE, "bzip2": BZIP2, "bz2": BZIP2}
DATA_FILE = ("data file", "datafile")
MOST_HEADER_BYTES = 2**16
MOST_LINES = 1000
"""Lines that a header may say are to be skipped before the data."""
UNREADABLE = (*limits.UNREADABLE, IndexError, AttributeError, StopIteration, nrrd.NRRDError)


def nrrd_volume(paths: Sequence[Path]) -> tuple[list[Volume], list[Reject]]:
    """The volume of the one file of a scan; raises :class:`Reject`."""
    return [read_nrrd(paths[0])], []


@guard_reading()
def read_nrrd(path: Path) -> Volume:
    """The volume of a NRRD; raises :class:`Reject` where there is none, before memory is taken for it."""
    try:
        with limits.silence("nrrd"), open_scan(path) as file:
            header, end = _header(file.read(MOST_HEADER_BYTES))
            dtype = np.dtype(_determine_datatype(header))
            check_block(_sides(header), dtype)
            affine, told = _affine(header)
            names = [header[field] for field in DATA_FILE if field in header]
            if not names:
                return Volume(_voxels(file, header, dtype, end), affine, told)
        if not isinstance(names[0], str) or names[0].lower().startswith("list"):
            raise Reject(ELSEWHERE, broken=False)
        with open_beside(path, names[0]) as data:
            return Volume(_voxels(data, header, dtype, 0), affine, told)
    except UNREADABLE:
        raise Reject("not a readable NRRD file", broken=True) from None


def _header(head: bytes) -> tuple[Mapping[str, Any], int]:
    """The fields of a header, and where it ends; a header without data behind it need not end with an empty line."""
    lines = head.splitlines(keepends=True)
    count = next((number for number, line in enumerate(lines) if not line.strip()), len(lines))
    header: Mapping[str, Any] = nrrd.read_header(lines[:count])
    return header, sum(len(line) for line in lines[: count + 1])


def _voxels(file: BinaryIO, header: Mapping[str, Any], dtype: np.dtype[Any], start: int) -> Float:
    if header["encoding"] not in PACKINGS:
        raise Reject("a NRRD of text: convert it to NIfTI", broken=False)
    packing = PACKINGS[header["encoding"]]
    file.seek(start)
    lines, skipped = (int(header.get(f"{what} skip", header.get(f"{what}skip", 0))) for what in ("line", "byte"))
    for _ in range(min(lines, MOST_LINES)):
        file.readline(MOST_HEADER_BYTES)
    if packing and skipped:
        raise Reject("a compressed NRRD whose data begin later: convert it to NIfTI", broken=False)
    return read_block(file, Block(_sides(header), dtype, -1 if skipped < 0 else file.tell() + skipped, packing))


def _sides(header: Mapping[str, Any]) -> tuple[int, ...]:
    """The sizes of the axes, without those of one element that run nowhere."""
    sizes = [int(size) for size in header["sizes"]]
    directions = header.get("space directions")
    if directions is None or len(directions) != len(sizes):
        return tuple(sizes)
    return tuple(size for size, row in zip(sizes, directions, strict=True) if size != 1 or np.all(np.isfinite(row)))


def _affine(header: Mapping[str, Any]) -> tuple[npt.NDArray[np.float64], bool]:
    """The affine to RAS of the axes that run somewhere, and whether the header tells how they run."""
    sizes = np.asarray(header["sizes"])
    directions = header.get("space directions")
    if directions is None or np.shape(directions) != (len(sizes), 3):
        spacings = np.asarray(header.get("spacings", np.ones(len(sizes))), np.float64)[:3]
        return affine_of(np.diag(np.where(np.isfinite(spacings), spacings, 1.0)), np.zeros(3), UNTOLD), False
    steps = np.asarray([row for row in np.asarray(directions, np.float64) if np.all(np.isfinite(row))])
    space = str(header.get("space", "")).lower()
    origin = np.asarray(header.get("space origin", np.zeros(3)), np.float64)
    return affine_of(steps, origin, SPACES.get(space, UNTOLD)), space in SPACES
