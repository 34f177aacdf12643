"""The table of file formats: how a file is recognised, what reads it, and what it tells of its patient.

A new format is a module that reads it and a row here.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from latentsweep.datasets.formats import (
    analyze,
    arrays,
    cheng,
    dicom,
    headers,
    metaimage,
    mgh,
    minc,
    nifti,
    nrrd,
    pictures,
)
from latentsweep.datasets.formats.limits import open_regular
from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.volumes import Volume
from trainables import plugins

HEAD_BYTES = 1024
"""So many first bytes tell the format of a file."""
GZIP = b"\x1f\x8b"
INDEX_OF_A_DISK = "DICOMDIR"
"""This file begins as DICOM does, but is an index and holds no image."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A file format."""

    label: str
    suffixes: tuple[str, ...]
    """The ends of names that tell the format of a file whose first bytes tell none."""
    signature: bytes | None = None
    """A pattern of :mod:`re` that the first bytes of its files fit; None where they tell nothing."""
    zipped: bool = False
    """Whether a gzip file around it is read. Its first bytes are then those inside."""
    read: Callable[[Sequence[Path]], tuple[list[Volume], list[Reject]]]
    """The volumes in files of one scan, and a reject for each file that is left out; may raise :class:`Reject`."""
    read_channel: Callable[[Sequence[Path], int], tuple[list[Volume], list[Reject]]] | None = None
    """The same of one channel of files that hold several, counted from 0; None where no file does."""
    read_masks: Callable[[Sequence[Path]], tuple[list[Volume], list[Reject]]] | None = None
    """The same of the lesion masks that lie in the files themselves; None where masks are files as scans are."""
    one_file: bool = False
    """Whether a scan is one file. In other formats it is all files of a folder."""
    minor: bool = False
    """Whether such files may lie beside scans of another format, and are then left out."""
    recognises: Callable[[Path], bool] | None = None
    """Whether a file is of this format by more than its first bytes, where these and its name tell none."""
    patient: Callable[[Path], str | None] | None = None
    """The patient that a file's header names, to be hashed and never shown. Only a format of series has it."""
    describe: Callable[[Path], str | None] | None = None
    """How a file's header describes its series: it tells the contrast, and is never shown."""


READERS = {
    "nifti": Reader(
        label="NIfTI",
        suffixes=(".nii", ".nii.gz"),
        signature=rb".{344}n\+1\0|.{4}n\+2\0",
        zipped=True,
        read=nifti.nifti_volume,
        read_channel=nifti.nifti_volume,
        one_file=True,
    ),
    "dicom": Reader(
        label="DICOM",
        suffixes=(".dcm", ".dicom", ".ima"),
        signature=rb".{128}DICM",
        read=dicom.dicom_volumes,
        recognises=headers.is_dicom,
        patient=headers.patient_id,
        describe=headers.series_description,
    ),
    "metaimage": Reader(
        label="MetaImage",
        suffixes=(".mha", ".mhd"),
        signature=rb"\s*(ObjectType|NDims)\s*=",
        read=metaimage.metaimage_volume,
        one_file=True,
    ),
    "nrrd": Reader(
        label="NRRD",
        suffixes=(".nrrd", ".nhdr"),
        signature=rb"NRRD000\d",
        read=nrrd.nrrd_volume,
        one_file=True,
    ),
    "mgh": Reader(
        label="MGH",
        suffixes=(".mgh", ".mgz"),
        signature=rb"\x00\x00\x00\x01(\x00\x00..){4}\x00\x00\x00[\x00\x01\x03\x04\x0a]",
        zipped=True,
        read=mgh.mgh_volume,
        one_file=True,
    ),
    "minc": Reader(
        label="MINC",
        suffixes=(".mnc",),
        signature=rb"CDF[\x01\x02]|\x89HDF\r\n\x1a\n",
        read=minc.minc_volume,
        one_file=True,
    ),
    "analyze": Reader(
        label="Analyze",
        suffixes=(".hdr", ".hdr.gz"),
        read=analyze.analyze_volume,
        one_file=True,
    ),
    "cheng": Reader(
        label="MATLAB 7.3",
        suffixes=(),
        signature=rb"MATLAB 7\.3 MAT-file",
        read=cheng.cheng_volumes,
        read_masks=cheng.cheng_masks,
        minor=True,
        patient=cheng.patient_of,
    ),
    "array": Reader(
        label="array",
        suffixes=(".npy", ".npz", ".h5", ".hdf5"),
        signature=rb"\x93NUMPY|\x89HDF\r\n\x1a\n|PK\x03\x04.{26}[^\0]{1,100}?\.npy",
        read=arrays.array_volumes,
        minor=True,
    ),
    "picture": Reader(
        label="picture",
        suffixes=(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp", ".bmp", ".gif"),
        signature=rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|II[*+]\0|MM\0[*+]|RIFF.{4}WEBP|GIF8[79]a|BM.{4}\0{4}.{4}[(4@lx|]\0\0\0",
        read=pictures.picture_volumes,
        read_channel=pictures.picture_volumes,
        minor=True,
    ),
}
"""Every format by its name, the preferred ones first."""

PLUGINS = plugins.rows("readers", Reader, READERS)
"""The rows that installed packages add, by name."""
READERS |= {name: plugin.target for name, plugin in PLUGINS.items()}

*_LABELS, _LAST = (reader.label for reader in READERS.values())
FORMATS = f"{', '.join(_LABELS)} or {_LAST}"


def format_by_name(path: Path) -> str | None:
    """The format that the end of a file's name tells, or None."""
    name = path.name.lower()
    return next((kind for kind, reader in READERS.items() if name.endswith(reader.suffixes)), None)


def format_of(path: Path) -> str | None:
    """The format of a file by its first bytes, else by its name, else by more of its content, or None.

    Where formats begin with the same bytes, the name chooses.
    """
    if path.name.upper() == INDEX_OF_A_DISK:
        return None
    head, zipped = _first_bytes(path)
    fitting = [
        kind
        for kind, reader in READERS.items()
        if reader.signature and (reader.zipped or not zipped) and re.match(reader.signature, head, re.DOTALL)
    ]
    named = format_by_name(path)
    if fitting:
        return named if named in fitting else fitting[0]
    by_content = (kind for kind, reader in READERS.items() if reader.recognises and reader.recognises(path))
    return named or next(by_content, None)


def _first_bytes(path: Path) -> tuple[bytes, bool]:
    """The first bytes of a file, or of what is in it where it is a gzip file, and whether it is one."""
    try:
        with open_regular(path) as file:
            head = file.read(HEAD_BYTES)
        if not head.startswith(GZIP):
            return head, False
        return zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES), True
    except OSError:
        return b"", False
    except zlib.error:
        return b"", True
