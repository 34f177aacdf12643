"""NIfTI files → volumes."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from latentsweep.datasets.silence import silenced
from latentsweep.datasets.volumes import Reject, Volume

MAX_VOLUME_BYTES = 2 * 1024**3
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    OverflowError,
    KeyError,
    struct.error,
    zlib.error,
    ImageFileError,
    HeaderDataError,
)


def read_nifti(path: Path) -> Volume:
    """The volume of one ``.nii`` or ``.nii.gz``; raises :class:`Reject` where there is none."""
    try:
        with silenced("nibabel.global"):
            image: Any = nib.load(path)
            shape = tuple(int(side) for side in image.shape)
            dtype = image.get_data_dtype()
            affine = np.asarray(image.affine, dtype=np.float64)
    except UNREADABLE:
        raise Reject("not a readable NIfTI file", broken=True) from None
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise Reject(f"a NIfTI of {len(shape)} dimensions where 3 are needed", broken=False)
    if min(shape) < 1 or dtype.kind not in "iuf":
        raise Reject("a NIfTI without real-valued voxels", broken=False)
    if int(np.prod(shape, dtype=object)) * 4 > MAX_VOLUME_BYTES:
        raise Reject("a NIfTI of more than 2 GiB of voxels", broken=False)
    try:
        with silenced("nibabel.global"):
            voxels = np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
    except UNREADABLE:
        raise Reject("a NIfTI file that is cut short or damaged", broken=True) from None
    except MemoryError:
        raise Reject("a NIfTI too large for this machine's memory", broken=False) from None
    return Volume(voxels, affine)
