"""Pairs of files (``.hdr`` and ``.img``), of Analyze and of NIfTI → volumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1PairHeader
from nibabel.spatialimages import HeaderDataError
from nibabel.spm99analyze import Spm99AnalyzeHeader
from nibabel.wrapstruct import WrapStructError

from latentsweep.datasets.formats import limits
from latentsweep.datasets.formats.blocks import MISSING, open_beside, read_stream, unzipped
from latentsweep.datasets.formats.limits import guard_reading, open_scan, silence
from latentsweep.datasets.formats.nifti import affine_of_header
from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.volumes import Volume

HEADER_BYTES = 348
NIFTI_PAIR = b"ni1\0"
"""A header ends with it where the pair is NIfTI. One of Analyze doesn't tell how its axes run."""
UNREADABLE = (*limits.UNREADABLE, HeaderDataError, WrapStructError)


def analyze_volume(paths: Sequence[Path]) -> tuple[list[Volume], list[Reject]]:
    """The volume of the one header of a scan; raises :class:`Reject`."""
    return [read_analyze(paths[0])], []


@guard_reading()
def read_analyze(path: Path) -> Volume:
    """The volume of a ``.hdr`` and the ``.img`` beside it; raises :class:`Reject` where there is none."""
    try:
        with silence("nibabel.global"), open_scan(path) as file:
            block = unzipped(file)[0].read(HEADER_BYTES)
        is_nifti = block.endswith(NIFTI_PAIR)
        kind: Any = Nifti1PairHeader if is_nifti else Spm99AnalyzeHeader
        with silence("nibabel.global"):
            header = kind(block)
            shape = tuple(int(side) for side in header.get_data_shape())
            slope, inter = header.get_slope_inter()
            offset = int(header.get_data_offset())
            affine, told = affine_of_header(header) if is_nifti else (header.get_base_affine(), False)
        with _data_beside(path) as data:
            stream, most = unzipped(data)
            if offset:
                stream.seek(offset)
            voxels = read_stream(stream, shape, np.dtype(header.get_data_dtype()), most - offset)
        if slope not in (None, 1.0) or inter not in (None, 0.0):
            voxels = voxels * np.float32(1.0 if slope is None else slope) + np.float32(inter or 0.0)
        return Volume(voxels, np.asarray(affine, np.float64), told)
    except UNREADABLE:
        raise Reject("not a readable Analyze file", broken=True) from None


def _data_beside(path: Path) -> Any:
    """The file of a header's voxels, in either case, zipped or not; raises :class:`Reject` where there is none."""
    name = path.name.removesuffix(".gz")
    stem, ending = name[:-4], ".IMG" if name.endswith(".HDR") else ".img"
    for candidate in (stem + ending, f"{stem}{ending}.gz"):
        if (path.parent / candidate).exists():
            return open_beside(path, candidate)
    raise Reject(MISSING, broken=True)
