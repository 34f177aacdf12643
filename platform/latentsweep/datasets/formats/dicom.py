"""DICOM files → volumes: series told apart, sorted by position, rescaled.

A file's own window (WindowCenter, WindowWidth) is ignored: ``volumes.apply_window`` later maps all formats to 8 bits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import uid
from pydicom.tag import Tag

from latentsweep.datasets.formats.decoding import stored_frames
from latentsweep.datasets.formats.enhanced import GROUPS, NO_PLACES, frame_headers, is_enhanced
from latentsweep.datasets.formats.frames import Frame, families, part_frames, stack_frames
from latentsweep.datasets.formats.headers import UNREADABLE, number, numbers, read_header, text
from latentsweep.datasets.formats.limits import (
    MAX_PIXELS,
    MAX_SIDE,
    MAX_VOXELS,
    TOO_MANY_VOXELS,
    guard_reading,
    silence,
)
from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.formats.series import SERIES_TAGS, SeriesFacts, reason_left_out
from latentsweep.datasets.volumes import Volume

TAGS = [
    Tag(name)
    for name in (
        *SERIES_TAGS,
        *("SeriesInstanceUID", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
        *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames"),
        *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept"),
        *("PixelPaddingValue", "PixelPaddingRangeLimit", *GROUPS),
        *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData", "FloatPixelData", "DoubleFloatPixelData"),
    )
]
"""What is read of a file: the image and what says how to decode it, whose it is, and where it lies."""


def dicom_volumes(paths: Sequence[Path]) -> tuple[list[Volume], list[Reject]]:
    """The volumes in these files, and a reject for each other file.

    A volume is of one series, contrast, matrix and orientation, and has one image at a position. The images of a
    folder whose series UID differs in every file are one series.
    """
    frames: list[Frame] = []
    rejects: list[Reject] = []
    room = MAX_VOXELS
    for path in paths:
        try:
            found, left_out = read_frames(path, room)
        except Reject as reject:
            rejects.append(reject)
            continue
        frames += found
        rejects += left_out
        room -= sum(frame.pixels.size for frame in found)
    volumes: list[Volume] = []
    for family in families(frames):
        try:
            parts, copies = part_frames(family)
            rejects += [Reject("a copy of another image of its series", broken=False)] * copies
            rejects += [Reject("a second image at the same position of a series", broken=False)] * (
                len(family) - copies - sum(map(len, parts))
            )
            for part in parts:
                volumes.append(stack_frames(part))
        except Reject as reject:
            rejects += [reject] * len(family)
    return volumes, rejects


@guard_reading()
def read_frames(path: Path, room: int) -> tuple[list[Frame], list[Reject]]:
    """The grey frames of a DICOM file, of ``room`` pixels together at most, and why others are left out.

    Raises :class:`Reject` where all are.

    Sizes that the header claims, and that compressed data inflates to, are held against the limits beforehand.
    """
    header = read_header(path, TAGS)
    with silence("pydicom"):
        rows, columns, count = (int(number(header, tag, 1)) for tag in ("Rows", "Columns", "NumberOfFrames"))
        if "Rows" not in header and is_no_image(text(header, "SOPClassUID")):
            raise Reject("a DICOM file without an image, such as a report or a plan", broken=False)
        if rows * columns > MAX_PIXELS:
            raise Reject(f"a DICOM image of more than {MAX_SIDE}×{MAX_SIDE} pixels", broken=False)
        if number(header, "SamplesPerPixel", 1) > 1:
            raise Reject("a DICOM image in colours: convert it to NIfTI first", broken=False)
        singles = list(frame_headers(header, count)) if is_enhanced(header) else [header]
        facts = [_series_facts(single) for single in singles]
        left_out = [reason_left_out(fact) for fact in facts]
        if all(left_out):
            raise Reject(str(left_out[0]), broken=False)
        if count > len(singles):
            raise Reject(NO_PLACES, broken=False)
        if rows * columns * len(singles) > room:
            raise Reject(TOO_MANY_VOXELS, broken=False)
        digits = re.findall(r"\d+", path.stem)
        first = number(header, "InstanceNumber", float(digits[-1][-15:]) if digits else 0)
        frames = [
            _frame(stored, single, facts[place], first + place / len(singles))
            for place, (stored, single) in enumerate(zip(stored_frames(header, len(singles)), singles, strict=True))
            if not left_out[place]
        ]
        return frames, [Reject(reason, broken=False) for reason in left_out if reason]


def _frame(stored: npt.NDArray[Any], header: pydicom.Dataset, facts: SeriesFacts, order: float) -> Frame:
    """One image with its place. MONOCHROME1 is turned to bright-is-high."""
    if stored.ndim != 2:
        raise Reject("a DICOM file without a two-dimensional image", broken=True)
    pixels = stored.astype(np.float32)
    pixels *= number(header, "RescaleSlope", 1) or 1.0  # a slope of 0 is none, as NIfTI has it
    pixels += number(header, "RescaleIntercept", 0)
    if text(header, "PhotometricInterpretation") == "MONOCHROME1":
        np.negative(pixels, out=pixels)
    if (padding := padding_range(header)) is not None:
        pixels[(stored >= padding[0]) & (stored <= padding[1])] = np.nan
    spacing = numbers(header, "PixelSpacing", 2)
    if spacing is None or np.any(spacing <= 0):
        spacing = np.ones(2)
    return Frame(
        pixels=pixels,
        facts=facts,
        number=order,
        position=numbers(header, "ImagePositionPatient", 3),
        orientation=_directions(numbers(header, "ImageOrientationPatient", 6)),
        spacing=(float(spacing[0]), float(spacing[1])),
    )


def is_no_image(storage: str) -> bool:
    """Whether a class of files holds no pixels, by its name in the standard (PS3.4, B.5)."""
    known = uid.UID(storage)
    return bool(known.type) and "Image Storage" not in known.name


def padding_range(header: pydicom.Dataset) -> tuple[float, float] | None:
    """The least and largest stored value that pad an image to its matrix (PS3.3, C.7.5.1.1.2), or None.

    Files write them signed or unsigned, whatever their pixels are: they are taken as the bits that a pixel has.
    """
    first = number(header, "PixelPaddingValue", np.nan)
    if np.isnan(first):
        return None
    bits = int(min(16, max(1, number(header, "BitsStored", 16))))
    signed = number(header, "PixelRepresentation", 0) == 1
    least = -(2 ** (bits - 1)) if signed else 0
    ends = [(end - least) % 2**bits + least for end in (first, number(header, "PixelPaddingRangeLimit", first))]
    return min(ends), max(ends)


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
        uid=text(header, "SeriesInstanceUID"),
        number=text(header, "SeriesNumber"),
        stack=text(header, "StackID"),
        echo=(text(header, "EchoNumbers"), round(number(header, "EchoTime", 0), 1)),
        kinds=kinds,
        storage=text(header, "SOPClassUID"),
        modality=text(header, "Modality"),
    )
