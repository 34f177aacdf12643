"""Writers of volumes in the formats that scans come in."""

from __future__ import annotations

import zlib

import nrrd
import numpy as np

METAIMAGE = {
    "u1": "MET_UCHAR",
    "i2": "MET_SHORT",
    "u2": "MET_USHORT",
    "i4": "MET_INT",
    "f4": "MET_FLOAT",
    "f8": "MET_DOUBLE",
}


def metaimage(path, voxels, affine, *, packed=False, detached=None, swapped=False, claimed=None, **fields):
    """Writes a MetaImage as ITK does: rows of the matrix are the directions of the axes in LPS+."""
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    data = voxels.astype(voxels.dtype.newbyteorder(">" if swapped else "<")).tobytes(order="F")
    header = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": swapped,
        "CompressedData": packed,
        "TransformMatrix": (lps[:3, :3] / spacing).T,
        "Offset": lps[:3, 3],
        "ElementSpacing": spacing,
        "DimSize": voxels.shape if claimed is None else claimed,
        "ElementType": METAIMAGE[voxels.dtype.str[1:]],
        **fields,
        "ElementDataFile": detached or "LOCAL",
    }
    lines = [f"{name} = {text(value)}\n" for name, value in header.items() if value is not None]
    data = zlib.compress(data) if packed else data
    path.write_bytes("".join(lines).encode() + (b"" if detached else data))
    if detached:
        (path.parent / detached).write_bytes(data)
    return path


def text(value):
    return " ".join(repr(float(v)) for v in np.ravel(value)) if isinstance(value, np.ndarray) else (
        " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    )  # fmt: skip


def nrrd_file(path, voxels, affine, *, space="left-posterior-superior", **options):
    flips = {"right": 1, "left": -1}[space.split("-")[0]], {"anterior": 1, "posterior": -1}[space.split("-")[1]], 1
    placed = np.diag([*flips, 1]) @ affine
    header = {"space": space, "space directions": placed[:3, :3].T, "space origin": placed[:3, 3]}
    nrrd.write(str(path), voxels, header, **options)
    return path


def write_metaimage(folder, voxels, **options):
    return metaimage(folder / "a.mha", voxels.astype(np.int16), np.eye(4), **options)


def write_nrrd(folder, voxels, encoding="raw"):
    nrrd.write(str(folder / "a.nrrd"), voxels.astype(np.int16), {"encoding": encoding, "space": "RAS"})
    return folder / "a.nrrd"


WRITERS = {"metaimage": write_metaimage, "nrrd": write_nrrd}
"""A format → the function that writes a volume (X, Y, Z) into a folder and returns its path."""
