"""Multi-frame DICOM → a header for each frame, as a single image has one (PS3.3, C.7.6.16)."""

from __future__ import annotations

from collections.abc import Iterator

import pydicom

from latentsweep.datasets.formats.headers import UNREADABLE
from latentsweep.datasets.formats.reject import Reject

SHARED, BY_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
GROUPS = (SHARED, BY_FRAME)
OF_THE_FILE = (*GROUPS, "PixelData")
TOLD = (
    ("PlanePositionSequence", "ImagePositionPatient", "ImagePositionPatient"),
    ("PlaneOrientationSequence", "ImageOrientationPatient", "ImageOrientationPatient"),
    ("PixelMeasuresSequence", "PixelSpacing", "PixelSpacing"),
    ("PixelValueTransformationSequence", "RescaleSlope", "RescaleSlope"),
    ("PixelValueTransformationSequence", "RescaleIntercept", "RescaleIntercept"),
    ("MRImageFrameTypeSequence", "FrameType", "ImageType"),
    ("MREchoSequence", "EffectiveEchoTime", "EchoTime"),
    ("FrameContentSequence", "StackID", "StackID"),
)
"""What is read of a functional group: the sequence, the tag in it, and the tag in which a single image tells it."""
NO_PLACES = "a multi-frame DICOM that does not tell where its frames lie: convert it to NIfTI first"


def is_enhanced(header: pydicom.Dataset) -> bool:
    """Whether the file tells of each frame what a single image tells in its header."""
    return BY_FRAME in header


def frame_headers(header: pydicom.Dataset, count: int) -> Iterator[pydicom.Dataset]:
    """The header of each of ``count`` frames: that of the file, with what all frames and this one tell.

    Raises :class:`Reject` where a frame doesn't tell its place.
    """
    try:
        groups = header[BY_FRAME].value
        shared = header[SHARED].value[:1] if SHARED in header else []
        common = pydicom.Dataset()
        common.update({element.tag: element for element in header if element.keyword not in OF_THE_FILE})
        told = len(groups) == count > 0
    except UNREADABLE:
        told = False
    if not told:
        raise Reject(NO_PLACES, broken=False)
    for group in groups:
        single = pydicom.Dataset()
        single.update(common)  # the elements of all frames: what this one tells replaces them and doesn't change them
        try:
            for part in (*shared, group):
                for sequence, tag, single_tag in TOLD:
                    if sequence in part and len(part[sequence].value) and tag in (item := part[sequence].value[0]):
                        single.add_new(single_tag, item[tag].VR, item[tag].value)
        except UNREADABLE:
            raise Reject(NO_PLACES, broken=True) from None
        if count > 1 and "ImagePositionPatient" not in single:
            raise Reject(NO_PLACES, broken=False)
        yield single
