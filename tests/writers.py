"""Writers of volumes in the formats that scans come in."""

from __future__ import annotations

import zlib

import h5py
import nibabel as nib
import nrrd
import numpy as np
from scipy.io import netcdf_file

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


def write_mgh(folder, voxels, affine=None, suffix=".mgz"):
    nib.save(nib.MGHImage(voxels.astype(np.int16), np.eye(4) if affine is None else affine), folder / f"a{suffix}")
    return folder / f"a{suffix}"


def write_pair(folder, voxels, affine=None, kind=nib.Spm99AnalyzeImage):
    nib.save(kind(voxels.astype(np.int16), affine), folder / "a.img")
    (folder / "a.mat").unlink(missing_ok=True)
    return folder / "a.hdr"


AXES = {"xspace": (0, 2), "yspace": (1, 1), "zspace": (2, 0)}
"""The axes of a MINC file: which one of the patient's it is, and its place in the array."""


def write_minc2(folder, voxels, spacing=(1.0, 1.0, 1.0), start=(0.0, 0.0, 0.0), **options):
    """Version 2, an array (Z, Y, X) of int16 whose values are its own."""
    with h5py.File(folder / "a.mnc", "w") as file:
        for name, (axis, _) in AXES.items():
            dimension = file.create_dataset(f"minc-2.0/dimensions/{name}", data=0)
            dimension.attrs.update({"step": spacing[axis], "start": start[axis], "spacing": np.bytes_("regular__")})
            dimension.attrs["direction_cosines"] = np.eye(3)[axis]
        image = file.create_dataset(
            "minc-2.0/image/0/image", data=voxels.astype(np.int16).transpose(2, 1, 0), **options
        )
        image.attrs.update({"dimorder": np.bytes_("zspace,yspace,xspace"), "valid_range": [-32768.0, 32767.0]})
        for name, value in (("image-max", 32767.0), ("image-min", -32768.0)):
            file.create_dataset(f"minc-2.0/image/0/{name}", data=value)
    return folder / "a.mnc"


def write_minc1(folder, voxels, spacing=(1.0, 1.0, 1.0), start=(0.0, 0.0, 0.0)):
    """Version 1, as :func:`write_minc2`."""
    with netcdf_file(str(folder / "a.mnc"), "w") as file:
        for name, (axis, _) in sorted(AXES.items(), key=lambda entry: entry[1][1]):
            file.createDimension(name, voxels.shape[axis])
            dimension = file.createVariable(name, "i", ())
            dimension.spacing, dimension.step, dimension.start = b"regular__", spacing[axis], start[axis]
            dimension.direction_cosines = np.eye(3)[axis]
        image = file.createVariable("image", "h", ("zspace", "yspace", "xspace"))
        image[:] = voxels.astype(np.int16).transpose(2, 1, 0)
        image.signtype, image.valid_range = b"signed__", np.array([-32768.0, 32767.0])
        for name, value in (("image-max", 32767.0), ("image-min", -32768.0)):
            file.createVariable(name, "d", ("zspace",))[:] = value
    return folder / "a.mnc"


def write_array(folder, voxels, suffix=".npy"):
    """A stack (N, rows, columns) of the slices of a volume of RAS+."""
    stack = voxels[::-1, ::-1].transpose(2, 1, 0).astype(np.int16)
    path = folder / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, stack)
    elif suffix == ".npz":
        np.savez_compressed(path, scan=stack)
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("scan", data=stack, compression="gzip")
    return path


def write_cheng(folder, voxels, name="1.mat", patient="PLANTED", mask=None):
    """The slice in the middle of a volume of RAS+, as MATLAB 7.3 writes Cheng's files."""
    plane = voxels[::-1, ::-1, voxels.shape[2] // 2].T.astype(np.int16)
    with h5py.File(folder / name, "w", userblock_size=512) as file:
        file["cjdata/image"] = plane.T
        file["cjdata/tumorMask"] = (np.zeros_like(plane) if mask is None else mask).T.astype(np.uint8)
        file["cjdata/PID"] = np.array([[ord(letter)] for letter in patient], np.uint16)
        file["cjdata/label"] = np.array([[1.0]])
    content = bytearray((folder / name).read_bytes())
    head = b"MATLAB 7.3 MAT-file, Platform: PCWIN64"
    content[: len(head)] = head
    (folder / name).write_bytes(content)
    return folder / name


WRITERS = {
    "array": write_array,
    "cheng": write_cheng,
    "mgh": write_mgh,
    "minc": write_minc2,
    "analyze": write_pair,
    "metaimage": write_metaimage,
    "nrrd": write_nrrd,
}
"""A format → the function that writes a volume (X, Y, Z) into a folder and returns its path."""
