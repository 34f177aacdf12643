"""A DICOM file's header: whether it is one, what of it is read, and whose it is."""

from __future__ import annotations

import functools
import io
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.datadict import dictionary_has_tag
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

from latentsweep.datasets.formats import limits
from latentsweep.datasets.formats.limits import (
    MAX_DICOM_BYTES,
    guard_reading,
    inflates_beyond,
    open_regular,
    open_scan,
    silence,
)
from latentsweep.datasets.formats.reject import Reject

UNREADABLE = (
    *limits.UNREADABLE,
    IndexError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    BytesLengthException,
    InvalidDicomError,
)
PREFIX = b"DICM"
HEAD_BYTES = 1024
"""So many first bytes tell whether a file without the prefix is DICOM."""
LEAST_ELEMENTS = 3
"""So many elements, each of the dictionary and in order, are the beginning of a data set."""
FIRST_GROUPS = (0x0002, 0x0008)
IDENTITY_TAGS = [Tag("SeriesDescription"), Tag("PatientID")]
IDENTITY_BYTES = (2**16, 2**24)
"""Whose a file is, is looked for in so many first bytes, and where these end too soon in so many."""
KEPT_IDENTITIES = 2**17


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its first bytes. A DICOMDIR is, too, but is an index and holds no image."""
    if path.name.upper() == "DICOMDIR":
        return False
    try:
        with open_regular(path) as file:
            return begins_as_dicom(file.read(HEAD_BYTES))
    except OSError:
        return False


def begins_as_dicom(head: bytes) -> bool:
    """Whether a file begins with the DICOM prefix or, as old exports leave it out, with elements of a data set."""
    return head[128:132] == PREFIX or any(
        _elements(head, order, explicit) >= LEAST_ELEMENTS
        for order, explicit in (("<", True), ("<", False), (">", True))
    )


def _elements(head: bytes, order: str, explicit: bool) -> int:
    """How many elements of a data set in one encoding (PS3.5, section 7.1) these bytes begin with, LEAST at most."""
    place, last = 0, 0
    for count in range(LEAST_ELEMENTS):
        if place + 12 > len(head):
            return count
        group, element = struct.unpack_from(f"{order}HH", head, place)
        tag = group << 16 | element
        known = dictionary_has_tag(tag) or element == 0
        if tag <= last or not known or (group not in FIRST_GROUPS if count == 0 else group == 0):
            return count
        vr = head[place + 4 : place + 6].decode("latin-1")
        if not explicit:
            if group == FIRST_GROUPS[0]:  # these elements tell the encoding, and are always explicit themselves
                return count
            (length,) = struct.unpack_from(f"{order}I", head, place + 4)
            start = 8
        elif vr not in VRS:
            return count
        elif vr in EXPLICIT_VR_LENGTH_32:
            (length,) = struct.unpack_from(f"{order}I", head, place + 8)
            start = 12
        else:
            (length,) = struct.unpack_from(f"{order}H", head, place + 6)
            start = 8
        place, last = place + start + length, tag
    return LEAST_ELEMENTS


VRS = {vr.value for vr in VR if len(vr.value) == 2}


@guard_reading()
def read_header(path: Path, tags: Sequence[BaseTag]) -> pydicom.Dataset:
    """These tags of a whole file, the image among them; raises :class:`Reject` where it is no DICOM file."""
    try:
        content = _content(path)
        if begins_as_dicom(content.getvalue()[:HEAD_BYTES]):
            with silence("pydicom"):
                return pydicom.dcmread(content, specific_tags=list(tags), force=True)
    except UNREADABLE:
        pass
    raise Reject("not a readable DICOM file", broken=True)


@dataclass(frozen=True)
class Identity:
    """Whose a file is and what it shows; empty where it does not tell. To be hashed or matched, never shown."""

    patient: str = field(repr=False, default="")
    description: str = field(repr=False, default="")


def patient_id(path: Path) -> str | None:
    """The PatientID tag, to be hashed and never shown; None where it is empty, absent or unreadable."""
    return identity(path).patient or None


def series_description(path: Path) -> str | None:
    """The SeriesDescription tag, never to be shown; None where it is empty, absent or unreadable."""
    return identity(path).description or None


def identity(path: Path) -> Identity:
    """Both from one reading of the first elements, kept for as long as the file is the same."""
    try:
        status = path.stat()
    except OSError:
        return Identity()
    return _identity(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(KEPT_IDENTITIES)
def _identity(path: Path, changed: int, size: int) -> Identity:
    passed: list[BaseTag] = []

    def is_passed(tag: BaseTag, vr: str | None, length: int) -> bool:
        if tag > IDENTITY_TAGS[-1]:
            passed.append(tag)
        return bool(passed)

    found = Identity()
    for head in IDENTITY_BYTES:
        try:
            with guard_reading(), silence("pydicom"):
                content = _content(path, head)
                if not begins_as_dicom(content.getvalue()[:HEAD_BYTES]):
                    return found
                header = read_partial(content, is_passed, specific_tags=list(IDENTITY_TAGS), force=True)
                found = Identity(text(header, "PatientID"), text(header, "SeriesDescription"))
        except (Reject, *UNREADABLE):
            continue
        if passed or size <= head:
            break
    return found


def _content(path: Path, head: int = MAX_DICOM_BYTES) -> _Content:
    """The file's bytes in memory, so that a length which a tag claims takes no more than there is.

    No more than the first ``head`` bytes. Raises :class:`Reject` for a file of more than ``MAX_DICOM_BYTES`` that is
    wanted whole, and :class:`OSError`.
    """
    with open_scan(path) as file:
        if head == MAX_DICOM_BYTES and os.fstat(file.fileno()).st_size > head:
            raise Reject(f"a DICOM file of more than {MAX_DICOM_BYTES // 2**20} MiB", broken=False)
        return _Content(file.read(head))


class _Content(io.BytesIO):
    """A DICOM file in memory that pydicom may inflate: the one thing that it reads without a length."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if (size is None or size < 0) and inflates_beyond(data, MAX_DICOM_BYTES):
            raise Reject(f"a deflated DICOM file of more than {MAX_DICOM_BYTES // 2**20} MiB", broken=False)
        return data


def numbers(header: pydicom.Dataset, tag: str, count: int) -> npt.NDArray[np.float64] | None:
    """The numbers of a tag; None where there are not ``count`` finite ones."""
    try:
        values = np.array([float(value) for value in header[tag].value], dtype=np.float64)
    except UNREADABLE:
        return None
    return values if len(values) == count and np.all(np.isfinite(values)) else None


def number(header: pydicom.Dataset, tag: str, default: float) -> float:
    """The number of a tag, or else ``default``."""
    try:
        value = float(header[tag].value)
    except UNREADABLE:
        return default
    return value if np.isfinite(value) else default


def text(header: pydicom.Dataset, tag: str) -> str:
    """What a tag says, without the spaces around it, or an empty text."""
    try:
        return str(header[tag].value).strip()
    except UNREADABLE:
        return ""
