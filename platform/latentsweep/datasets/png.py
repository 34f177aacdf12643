"""A slice as a PNG, and its digest."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode(image: npt.NDArray[np.uint8]) -> bytes:
    """A (S, S) uint8 slice as an 8-bit grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def encode_stored(image: npt.NDArray[np.uint8]) -> bytes:
    """The same for a shard, filtered and not compressed: the shard is, which costs a tenth of the time.

    Each row is the difference to the one above it (PNG's filter 2, "Up"), which compresses as well as
    :func:`encode` does, within 5 %.
    """
    height, width = image.shape
    lines = np.empty((height, width + 1), np.uint8)
    lines[:, 0] = 2
    lines[0, 1:] = image[0]
    np.subtract(image[1:], image[:-1], out=lines[1:, 1:])
    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)  # 8 bits of grey, not interlaced
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 0)), (b"IEND", b""))
    return PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def decode(png: bytes, size: int | None = None) -> npt.NDArray[np.uint8]:
    """The slice of a PNG; raises what Pillow raises, and :class:`ValueError` for a wrong ``size``."""
    image = Image.open(io.BytesIO(png), formats=("PNG",))
    if size is not None and image.size != (size, size):
        raise ValueError(f"a picture of {image.size} pixels")
    return np.asarray(image, dtype=np.uint8)


def image_hash(image: npt.NDArray[np.uint8]) -> str:
    """The SHA-256 of a slice's side and pixels."""
    return hashlib.sha256(f"{image.shape[0]}x{image.shape[1]}\0".encode() + image.tobytes()).hexdigest()
