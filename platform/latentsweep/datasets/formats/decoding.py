"""DICOM pixel data → stored values, by transfer syntax (PS3.5, section 8.2 and annex A).

The JPEG family is decoded by the libraries that ``imagecodecs`` holds: libjpeg-turbo, CharLS and OpenJPEG. No plugin
of pydicom that happens to be installed takes their place: GDCM, which pydicom asks first, ends the process at one of
two hundred damaged streams.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import uid
from pydicom.pixels.decoders.base import DecodeRunner, get_decoder
from pydicom.pixels.utils import iter_pixels

from latentsweep.datasets.formats.headers import UNREADABLE
from latentsweep.datasets.formats.limits import MAX_RLE_BYTES, MAX_STREAM_HEAD, MAX_STREAM_SHARE
from latentsweep.datasets.formats.reject import Reject

Size = tuple[int, int, int]
"""What a compressed image claims of itself: rows, columns and samples a pixel."""
PLUGIN = "latentsweep"
"""The name under which pydicom knows :func:`decode_frame`."""


@dataclass(frozen=True)
class Codec:
    """A kind of compressed image."""

    decode: Callable[[bytes], npt.NDArray[Any]]
    trim: Callable[[bytes], bytes]
    """The stream itself, without what lies before and behind it."""
    measure: Callable[[bytes], Size]
    """Reads the size off the stream, before memory is taken for it. Both raise :class:`ValueError` for no stream."""


def trim_jpeg(data: bytes) -> bytes:
    """A JPEG or JPEG-LS stream to its end of image. One without is cut short: libjpeg fills it, CharLS may hang."""
    if (end := data.rfind(b"\xff\xd9")) < 0:
        raise ValueError("no end of image")
    return data[: end + 2]


def measure_jpeg(stream: bytes) -> Size:
    """The size in the frame header of a JPEG or JPEG-LS stream (ITU-T T.81, B.2.2 and T.87, C.2.2)."""
    place = 2
    while place + 10 <= len(stream):
        if stream[place] != 0xFF or stream[place + 1] in (0x00, 0xFF):
            place += 1
            continue
        marker = stream[place + 1]
        if marker in FRAMES:
            rows, columns = (int.from_bytes(stream[at : at + 2]) for at in (place + 5, place + 7))
            return rows, columns, stream[place + 9]
        alone = marker == 0x01 or 0xD0 <= marker <= 0xD9
        place += 2 if alone else 2 + int.from_bytes(stream[place + 2 : place + 4])
    raise ValueError("no frame header")


FRAMES = (0xC0, 0xC1, 0xC3, 0xF7)
"""The markers of baseline, extended, lossless and JPEG-LS frames: one scan each, unlike progressive ones."""


def trim_jpeg2000(data: bytes) -> bytes:
    """A JPEG 2000 codestream, which some programs wrap into the boxes of a JP2 file."""
    if (begin := data.find(b"\xff\x4f\xff\x51")) < 0:
        raise ValueError("no codestream")
    return data[begin:]


def measure_jpeg2000(stream: bytes) -> Size:
    """The size of a JPEG 2000 codestream (ITU-T T.800, A.5.1): of its image, less the offset."""
    if len(stream) < 42:
        raise ValueError("no image size")
    right, bottom, left, top = (int.from_bytes(stream[at : at + 4]) for at in (8, 12, 16, 20))
    return bottom - top, right - left, int.from_bytes(stream[40:42])


JPEG = Codec(imagecodecs.jpeg8_decode, trim_jpeg, measure_jpeg)
JPEG_LS = Codec(imagecodecs.jpegls_decode, trim_jpeg, measure_jpeg)
JPEG_2000 = Codec(imagecodecs.jpeg2k_decode, trim_jpeg2000, measure_jpeg2000)

CODECS: dict[str, Codec] = {
    uid.JPEGBaseline8Bit: JPEG,
    uid.JPEGExtended12Bit: JPEG,
    uid.JPEGLossless: JPEG,
    uid.JPEGLosslessSV1: JPEG,
    uid.JPEGLSLossless: JPEG_LS,
    uid.JPEGLSNearLossless: JPEG_LS,
    uid.JPEG2000Lossless: JPEG_2000,
    uid.JPEG2000: JPEG_2000,
    uid.HTJ2KLossless: JPEG_2000,
    uid.HTJ2KLosslessRPCL: JPEG_2000,
    uid.HTJ2K: JPEG_2000,
}
"""What decodes the images of each compressed transfer syntax. Run lengths and plain pixels are pydicom's."""


def decode_frame(data: bytes, runner: DecodeRunner) -> bytes:
    """One image, as pydicom asks its plugins for it; :class:`ValueError` for another size or too many bytes."""
    codec = CODECS[runner.transfer_syntax]
    stream = codec.trim(data)
    if codec.measure(stream) != (runner.rows, runner.columns, runner.samples_per_pixel):
        raise ValueError("the stream and the header tell two sizes")
    if len(stream) > MAX_STREAM_HEAD + MAX_STREAM_SHARE * runner.frame_length(unit="bytes"):
        raise ValueError("the stream is longer than any encoder writes it")
    pixels = codec.decode(stream)
    width = pixels.dtype.itemsize
    runner.set_option("bits_allocated", 8 * width)
    if runner.pixel_representation == 1:  # the highest of the bits that are stored is the sign
        unused = max(0, 8 * width - runner.bits_stored)
        pixels = np.right_shift(np.left_shift(pixels, unused).view(f"i{width}"), unused)
    return pixels.tobytes()


def is_available(syntax: str) -> bool:
    """Whether :func:`decode_frame` decodes a transfer syntax: pydicom asks."""
    return syntax in CODECS


for syntax in CODECS:
    get_decoder(syntax).add_plugin(PLUGIN, (__name__, decode_frame.__name__))


def stored_frames(header: pydicom.Dataset, count: int) -> Iterator[npt.NDArray[Any]]:
    """The pixels of ``count`` frames as they are stored, signed where the header says so; raises :class:`Reject`.

    The size that the header claims was held against the limits. What the pixel data claims is held against it here.
    """
    syntax = transfer_syntax(header)
    name = syntax_name(syntax)
    if syntax not in CODECS and syntax not in DECODED_BY_PYDICOM:
        raise Reject(f"a DICOM image in {name}, which is not read: convert it first", broken=False)
    try:
        if syntax == uid.RLELossless and len(header.PixelData) > MAX_RLE_BYTES:
            raise Reject(f"a DICOM image of more than {MAX_RLE_BYTES // 2**20} MiB in run lengths", broken=False)
        header.file_meta.TransferSyntaxUID = syntax
        plugin = PLUGIN if syntax in CODECS else "pydicom"
        given = 0
        for frame in itertools.islice(iter_pixels(header, decoding_plugin=plugin), count):
            yield frame
            given += 1
        if given < count:
            raise ValueError("fewer frames than the header tells")
    except UNREADABLE:
        raise Reject(f"a DICOM image that is cut short or damaged ({name})", broken=True) from None


def transfer_syntax(header: pydicom.Dataset) -> uid.UID:
    """The transfer syntax that a file tells, or else the plain one that it was found to be written in."""
    told = str(header.file_meta.get("TransferSyntaxUID", None) or "").strip()
    if told:
        return uid.UID(told)
    implicit, little = header.original_encoding
    if implicit:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian


DECODED_BY_PYDICOM = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.RLELossless,
)
"""The transfer syntaxes without a codec: pixels as they are, and run lengths."""


def syntax_name(syntax: str) -> str:
    """A transfer syntax in words. One that is not the standard's is not shown: a header may hold anything there."""
    known = uid.UID(syntax)
    return known.name if known.type else "an unknown transfer syntax"
