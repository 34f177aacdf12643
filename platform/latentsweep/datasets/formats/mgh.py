"""FreeSurfer's volumes (``.mgh``, ``.mgz``) → volumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.freesurfer.mghformat import MGHError, MGHHeader
from nibabel.spatialimages import HeaderDataError

from latentsweep.datasets.formats import limits
from latentsweep.datasets.formats.blocks import read_stream, unzipped
from latentsweep.datasets.formats.limits import guard_reading, open_scan, silence
from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.volumes import Volume

DATA_START = 284
UNREADABLE = (*limits.UNREADABLE, MGHError, HeaderDataError)


def mgh_volume(paths: Sequence[Path]) -> tuple[list[Volume], list[Reject]]:
    """The volume of the one file of a scan; raises :class:`Reject`."""
    return [read_mgh(paths[0])], []


@guard_reading()
def read_mgh(path: Path) -> Volume:
    """The volume of a ``.mgh`` or ``.mgz``; raises :class:`Reject` where there is none."""
    try:
        with silence("nibabel.global"), open_scan(path) as file:
            stream, most = unzipped(file)
            opened: Any = MGHHeader
            header = opened(stream.read(DATA_START))
            shape = tuple(int(side) for side in header.get_data_shape())
            dtype = np.dtype(header.get_data_dtype()).newbyteorder(">")
            voxels = read_stream(stream, shape, dtype, most - DATA_START)
            affine = np.asarray(header.get_affine(), np.float64)
            return Volume(voxels, affine, bool(header["goodRASFlag"]))
    except UNREADABLE:
        raise Reject("not a readable MGH file", broken=True) from None
