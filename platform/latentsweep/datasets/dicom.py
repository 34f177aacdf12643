"""DICOM files → volumes: series told apart, sorted by position, rescaled. Geometry is PS3.3 section C.7.6.2.

A file's own window (WindowCenter, WindowWidth) is ignored: ``volumes.apply_window`` later maps all formats to 8 bits.
"""

from __future__ import annotations

import io
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.tag import Tag

from latentsweep.datasets import limits
from latentsweep.datasets.decoding import stored_values
from latentsweep.datasets.limits import (
    MAX_DICOM_BYTES,
    MAX_PIXELS,
    MAX_SIDE,
    MAX_VOXELS,
    TOO_MANY_VOXELS,
    guard_reading,
    inflates_beyond,
    open_regular,
    open_scan,
    silence,
)
from latentsweep.datasets.series import SERIES_TAGS, SeriesFacts, is_scattered, part_by_place, reason_left_out
from latentsweep.datasets.volumes import DISPLAY_AFFINE, Float, Reject, Volume

HEADER_BYTES = 2**24
"""A PatientID is looked for in this number of bytes from the beginning of a file."""
UNREADABLE = (
    *limits.UNREADABLE,
    IndexError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    BytesLengthException,
    InvalidDicomError,
)
TAGS = [
    Tag(name)
    for name in (
        *SERIES_TAGS,
        *("SeriesInstanceUID", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
        *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames"),
        *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept"),
        *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData", "FloatPixelData", "DoubleFloatPixelData"),
    )
]
"""What is read of a file: the image and what says how to decode it, whose it is, and where it lies."""
MAX_GAP = 1.5
"""Slices of a sagittal or coronal series may lie this many times the usual distance apart, no more."""


SAME_DIRECTION = 0.02
"""Parts of the unit vectors of one orientation differ by no more."""


@dataclass(frozen=True)
class Frame:
    """One image: ``pixels`` (rows, columns) float32 rescaled; what its header tells of its place, or None."""

    pixels: Float
    facts: SeriesFacts
    number: float
    position: npt.NDArray[np.float64] | None
    orientation: npt.NDArray[np.float64] | None
    spacing: tuple[float, float]


def is_dicom(path: Path) -> bool:
    """Whether the file has the DICOM prefix. A DICOMDIR has it, too, but is an index and holds no image."""
    if path.name.upper() == "DICOMDIR":
        return False
    try:
        with open_regular(path) as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def patient_id(path: Path) -> str | None:
    """The PatientID tag, to be hashed and never shown; None where it is empty, absent or unreadable."""
    return _tag(path, "PatientID")


def series_description(path: Path) -> str | None:
    """The SeriesDescription tag, never to be shown; None where it is empty, absent or unreadable."""
    return _tag(path, "SeriesDescription")


def _tag(path: Path, tag: str) -> str | None:
    try:
        with guard_reading(), silence("pydicom"):
            content = _content(path, HEADER_BYTES)
            header = pydicom.dcmread(content, stop_before_pixels=True, specific_tags=[tag])
            return _text(header, tag) or None
    except (Reject, *UNREADABLE):
        return None


def dicom_volumes(paths: Sequence[Path]) -> tuple[list[Volume], list[Reject]]:
    """The volumes in these files, and a reject for each other file.

    A volume is of one series, contrast, matrix and orientation, and has one image at a position. The images of a
    folder whose series UID differs in every file are one series.
    """
    frames: list[Frame] = []
    rejects: list[Reject] = []
    pixels = 0
    for path in paths:
        try:
            frame = read_frame(path)
            if pixels + frame.pixels.size > MAX_VOXELS:
                raise Reject(TOO_MANY_VOXELS, broken=False)
            pixels += frame.pixels.size
            frames.append(frame)
        except Reject as reject:
            rejects.append(reject)
    volumes: list[Volume] = []
    for family in _families(frames):
        try:
            parts, copies = _part(family)
            rejects += [Reject("a copy of another image of its series", broken=False)] * copies
            rejects += [Reject("a second image at the same position of a series", broken=False)] * (
                len(family) - copies - sum(map(len, parts))
            )
            for part in parts:
                volumes.append(stack_frames(part))
        except Reject as reject:
            rejects += [reject] * len(family)
    return volumes, rejects


def _families(frames: Sequence[Frame]) -> list[list[Frame]]:
    """The frames that can be stacked: of one series, contrast and matrix, and of about one orientation."""
    orientations: list[npt.NDArray[np.float64]] = []

    def plane(frame: Frame) -> int:
        if frame.orientation is None:
            return -1
        for known, orientation in enumerate(orientations):
            if np.abs(orientation - frame.orientation).max() <= SAME_DIRECTION:
                return known
        orientations.append(frame.orientation)
        return len(orientations) - 1

    groups: dict[tuple[Any, ...], dict[str, list[Frame]]] = defaultdict(lambda: defaultdict(list))
    for frame in frames:
        groups[frame.facts.contrast, frame.pixels.shape, plane(frame)][frame.facts.uid].append(frame)
    families: list[list[Frame]] = []
    for by_uid in groups.values():
        together = [frame for family in by_uid.values() for frame in family]
        places = [None if frame.position is None else tuple(np.round(frame.position, 3)) for frame in together]
        scattered = is_scattered([frame.facts.uid for frame in together], places)
        families += [together] if scattered else list(by_uid.values())
    return sorted(families, key=lambda family: family[0].facts.uid)


def _part(frames: Sequence[Frame]) -> tuple[list[list[Frame]], int]:
    """The frames of a family by the volume that they are of, and how many are copies of others at their place."""
    frames = sorted(frames, key=lambda frame: frame.number)
    places = _places(frames)
    if places is None:
        return [frames], 0
    kept: list[tuple[Frame, float]] = []
    for frame, place in zip(frames, np.round(places, 3).tolist(), strict=True):
        if not any(place == other and np.array_equal(frame.pixels, before.pixels) for before, other in kept):
            kept.append((frame, place))
    parts = part_by_place([frame for frame, _ in kept], [place for _, place in kept])
    return parts, len(frames) - len(kept)


@guard_reading()
def read_frame(path: Path) -> Frame:
    """One single-frame grey DICOM image; raises :class:`Reject`. MONOCHROME1 is turned to bright-is-high.

    Sizes that the header claims, and that compressed data inflates to, are held against the limits beforehand.
    """
    try:
        with silence("pydicom"):
            header = pydicom.dcmread(_content(path), specific_tags=TAGS)
    except UNREADABLE:
        raise Reject("not a readable DICOM file", broken=True) from None
    with silence("pydicom"):
        rows, columns = _number(header, "Rows", 0), _number(header, "Columns", 0)
        if rows * columns > MAX_PIXELS:
            raise Reject(f"a DICOM image of more than {MAX_SIDE}×{MAX_SIDE} pixels", broken=False)
        if _number(header, "NumberOfFrames", 1) > 1 or _number(header, "SamplesPerPixel", 1) > 1:
            raise Reject("a multi-frame or colour DICOM: convert it to NIfTI first", broken=False)
        facts = _series_facts(header)
        if reason := reason_left_out(facts):
            raise Reject(reason, broken=False)
        pixels = stored_values(header).astype(np.float32)
        if pixels.ndim != 2:
            raise Reject("a DICOM file without a two-dimensional image", broken=True)
        pixels *= _number(header, "RescaleSlope", 1) or 1.0  # a slope of 0 is none, as NIfTI has it
        pixels += _number(header, "RescaleIntercept", 0)
        if _text(header, "PhotometricInterpretation") == "MONOCHROME1":
            np.negative(pixels, out=pixels)
        spacing = _numbers(header, "PixelSpacing", 2)
        if spacing is None or np.any(spacing <= 0):
            spacing = np.ones(2)
        digits = re.findall(r"\d+", path.stem)
        return Frame(
            pixels=pixels,
            facts=facts,
            number=_number(header, "InstanceNumber", float(digits[-1][-15:]) if digits else 0),
            position=_numbers(header, "ImagePositionPatient", 3),
            orientation=_directions(_numbers(header, "ImageOrientationPatient", 6)),
            spacing=(float(spacing[0]), float(spacing[1])),
        )


def _content(path: Path, head: int = MAX_DICOM_BYTES) -> io.BytesIO:
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


def stack_frames(frames: Sequence[Frame]) -> Volume:
    """The frames of one volume, sorted along the slice normal.

    Without usable positions the order is that of the instance numbers, feet first. Without an orientation the
    images are taken to be axial as displayed.
    """
    frames = sorted(frames, key=lambda frame: frame.number)
    row_mm, column_mm = frames[0].spacing
    directions = frames[0].orientation
    places = _places(frames)
    step = 1.0
    if places is not None:
        _, first = np.unique(np.round(places, 3), return_index=True)
        frames, places = [frames[i] for i in first], places[first]
        gaps = np.diff(places)
        step = float(np.median(gaps)) if len(gaps) else 1.0
    if directions is None:
        affine = DISPLAY_AFFINE @ np.diag([column_mm, row_mm, step, 1.0])
    else:
        along_row, along_column = directions[:3], directions[3:]
        normal = np.cross(along_row, along_column)
        if np.argmax(np.abs(normal)) != 2 and (places is None or np.any(np.diff(places) > MAX_GAP * step)):
            raise Reject("a sagittal or coronal series with gaps, which cannot be reformatted to axial", broken=False)
        affine = np.eye(4)
        affine[:3, :3] = np.stack([along_row * column_mm, along_column * row_mm, normal * step], axis=1)
        affine[:2] *= -1  # DICOM's axes run to the left and posterior, RAS+ to the right and anterior
    voxels = np.stack([frame.pixels for frame in frames]).transpose(2, 1, 0)
    return Volume(voxels, affine, told=directions is not None)


def _places(frames: Sequence[Frame]) -> npt.NDArray[np.float64] | None:
    """Each frame's distance along the slice normal in mm; None where not all of them tell, or all tell the same."""
    orientation = frames[0].orientation
    normal = np.array([0.0, 0.0, 1.0]) if orientation is None else np.cross(orientation[:3], orientation[3:])
    positions = [frame.position for frame in frames if frame.position is not None]
    if len(positions) < len(frames):
        return None
    places = np.array([float(position @ normal) for position in positions])
    if len(np.unique(np.round(places, 3))) == 1 and len(frames) > 1:
        return None
    return places


def _directions(values: npt.NDArray[np.float64] | None) -> npt.NDArray[np.float64] | None:
    """Unit row and column directions, or None where they do not span a plane."""
    if values is None:
        return None
    lengths = np.linalg.norm(values.reshape(2, 3), axis=1)
    if np.any(lengths < 0.1):
        return None
    unit = (values.reshape(2, 3) / lengths[:, None]).ravel()
    return unit if abs(float(unit[:3] @ unit[3:])) < 0.1 else None


def _series_facts(header: pydicom.Dataset) -> SeriesFacts:
    try:
        kinds = tuple(str(kind).strip().upper() for kind in header["ImageType"].value)
    except UNREADABLE:
        kinds = ()
    return SeriesFacts(
        uid=_text(header, "SeriesInstanceUID"),
        number=_text(header, "SeriesNumber"),
        echo=(_text(header, "EchoNumbers"), round(_number(header, "EchoTime", 0), 1)),
        kinds=kinds,
        storage=_text(header, "SOPClassUID"),
        modality=_text(header, "Modality"),
    )


def _numbers(header: pydicom.Dataset, tag: str, count: int) -> npt.NDArray[np.float64] | None:
    try:
        values = np.array([float(value) for value in header[tag].value], dtype=np.float64)
    except UNREADABLE:
        return None
    return values if len(values) == count and np.all(np.isfinite(values)) else None


def _number(header: pydicom.Dataset, tag: str, default: float) -> float:
    try:
        value = float(header[tag].value)
    except UNREADABLE:
        return default
    return value if np.isfinite(value) else default


def _text(header: pydicom.Dataset, tag: str) -> str:
    try:
        return str(header[tag].value).strip()
    except UNREADABLE:
        return ""
