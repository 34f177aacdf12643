"""DICOM images in every transfer syntax of the JPEG family, made by the encoders of ``imagecodecs``."""

from __future__ import annotations

from collections.abc import Callable

import imagecodecs
import numpy as np
import pydicom
from pydicom import uid
from pydicom.encaps import encapsulate

Encoder = Callable[[np.ndarray], bytes]


def jpeg_lossless(predictor: int) -> Encoder:
    return lambda pixels: imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=predictor, bitspersample=16)


LOSSLESS: dict[str, Encoder] = {
    uid.JPEGLossless: jpeg_lossless(5),
    uid.JPEGLosslessSV1: jpeg_lossless(1),
    uid.JPEGLSLossless: imagecodecs.jpegls_encode,
    uid.JPEG2000Lossless: lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True),
    uid.HTJ2KLossless: lambda pixels: imagecodecs.htj2k_encode(pixels, reversible=True),
    uid.HTJ2KLosslessRPCL: lambda pixels: imagecodecs.htj2k_encode(pixels, reversible=True),
}
LOSSY: dict[str, Encoder] = {
    uid.JPEGExtended12Bit: lambda pixels: imagecodecs.jpeg8_encode(pixels, level=98, bitspersample=12),
    uid.JPEGLSNearLossless: lambda pixels: imagecodecs.jpegls_encode(pixels, level=3),
    uid.JPEG2000: lambda pixels: imagecodecs.jpeg2k_encode(pixels, level=60, codecformat="j2k", reversible=False),
    uid.HTJ2K: lambda pixels: imagecodecs.htj2k_encode(pixels, level=0.0005, reversible=False),
}


def compress(image: pydicom.Dataset, syntax: str, encode: Encoder | None = None) -> None:
    """The same image in another transfer syntax. Signed pixels are encoded as the bits that they are stored as."""
    stored = np.frombuffer(image.PixelData, "<u2").reshape(image.Rows, image.Columns)
    image.PixelData = encapsulate([(encode or {**LOSSLESS, **LOSSY}[syntax])(stored)])
    image["PixelData"].VR = "OB"
    image.file_meta.TransferSyntaxUID = uid.UID(syntax)
