"""MetaImage files (``.mha``, ``.mhd``) → volumes. ITK's MetaIO says what their fields mean."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from latentsweep.datasets.formats import limits
from latentsweep.datasets.formats.blocks import DEFLATE, Block, affine_of, check_block, open_beside, read_block
from latentsweep.datasets.formats.limits import guard_reading, open_scan
from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.volumes import Volume

TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
LAST = "ElementDataFile"
"""The header ends with this field."""
LOCAL = "local"
"""What it says where the voxels follow it."""
MOST_HEADER_BYTES = 2**16
LPS = (-1, -1, 1)
UNREADABLE = (*limits.UNREADABLE, IndexError)


def metaimage_volume(paths: Sequence[Path]) -> tuple[list[Volume], list[Reject]]:
    """The volume of the one file of a scan; raises :class:`Reject`."""
    return [read_metaimage(paths[0])], []


@guard_reading()
def read_metaimage(path: Path) -> Volume:
    """The volume of a MetaImage; raises :class:`Reject` where there is none, before memory is taken for it."""
    try:
        with open_scan(path) as file:
            fields, end = _fields(file.read(MOST_HEADER_BYTES))
            block = _block(fields, end)
            affine, told = _affine(fields)
            name = fields[LAST]
            if name.lower() == LOCAL:
                return Volume(read_block(file, block), affine, told)
        with open_beside(path, name) as data:
            return Volume(read_block(data, block), affine, told)
    except UNREADABLE:
        raise Reject("not a readable MetaImage file", broken=True) from None


def _fields(head: bytes) -> tuple[dict[str, str], int]:
    """The fields of a header, and where it ends."""
    fields: dict[str, str] = {}
    end = 0
    for line in head.splitlines(keepends=True):
        end += len(line)
        name, _, value = line.decode("latin-1").partition("=")
        fields[name.strip()] = value.strip()
        if name.strip() == LAST:
            return fields, end
    raise ValueError("a header without its last field")


def _block(fields: Mapping[str, str], end: int) -> Block:
    if fields.get("BinaryData", "True").lower() == "false" or int(fields.get("ElementNumberOfChannels", "1")) != 1:
        raise Reject("a MetaImage of text or of several channels: convert it to NIfTI", broken=False)
    shape = tuple(int(side) for side in fields["DimSize"].split())
    swapped = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False")).lower() == "true"
    dtype = np.dtype(TYPES[fields["ElementType"]]).newbyteorder(">" if swapped else "<")
    check_block(shape, dtype)
    packed = fields.get("CompressedData", "False").lower() == "true"
    skipped = int(fields.get("HeaderSize", "0"))
    offset = end if fields[LAST].lower() == LOCAL else skipped
    return Block(shape, dtype, offset, DEFLATE if packed else "")


def _affine(fields: Mapping[str, str]) -> tuple[npt.NDArray[np.float64], bool]:
    """The affine to RAS, and whether the header tells how the axes run."""

    def numbers(*names: str) -> list[float] | None:
        text = next((fields[name] for name in names if name in fields), None)
        return None if text is None else [float(number) for number in re.split(r"[\s,]+", text)]

    axes = len(fields["DimSize"].split())
    spacing = np.array((numbers("ElementSpacing", "ElementSize") or [1.0] * axes)[:3])
    origin = (numbers("Offset", "Origin", "Position") or [0.0] * axes)[:3]
    turned = numbers("TransformMatrix", "Rotation", "Orientation")
    directions = np.reshape(turned or np.eye(axes), (axes, axes))[:3, :3]
    return affine_of(directions * spacing[:, None], origin, LPS), turned is not None
