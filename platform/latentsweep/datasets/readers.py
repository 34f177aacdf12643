"""The table of file formats: how a file is recognised, what reads it, and what it tells of its patient.

A new format is a module that reads it and a row here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from latentsweep.datasets import dicom, headers, nifti, pictures
from latentsweep.datasets.volumes import Reject, Volume


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A file format."""

    label: str
    suffixes: tuple[str, ...]
    read: Callable[[Sequence[Path]], tuple[list[Volume], list[Reject]]]
    """The volumes in files of one scan, and a reject for each file that is left out; may raise :class:`Reject`."""
    one_file: bool = False
    """Whether a scan is one file. In other formats it is all files of a folder."""
    minor: bool = False
    """Whether such files may lie beside scans of another format, and are then left out."""
    recognises: Callable[[Path], bool] | None = None
    """Whether a file is of this format by its content, whatever its name."""
    patient: Callable[[Path], str | None] | None = None
    """The patient that a file's header names, to be hashed and never shown. Only a format of series has it."""
    describe: Callable[[Path], str | None] | None = None
    """How a file's header describes its series: it tells the contrast, and is never shown."""


READERS = {
    "nifti": Reader(label="NIfTI", suffixes=(".nii", ".nii.gz"), read=nifti.nifti_volume, one_file=True),
    "dicom": Reader(
        label="DICOM",
        suffixes=(".dcm", ".dicom", ".ima"),
        read=dicom.dicom_volumes,
        recognises=headers.is_dicom,
        patient=headers.patient_id,
        describe=headers.series_description,
    ),
    "picture": Reader(
        label="PNG or JPEG", suffixes=(".png", ".jpg", ".jpeg"), read=pictures.picture_volumes, minor=True
    ),
}
"""Every format by its name, the preferred ones first."""

FORMATS = ", ".join(reader.label for reader in READERS.values())


def format_by_name(path: Path) -> str | None:
    """The format that the end of a file's name tells, or None."""
    name = path.name.lower()
    return next((kind for kind, reader in READERS.items() if name.endswith(reader.suffixes)), None)


def format_of(path: Path) -> str | None:
    """The format of a file by its name, else by its content, or None."""
    by_content = (kind for kind, reader in READERS.items() if reader.recognises and reader.recognises(path))
    return format_by_name(path) or next(by_content, None)
