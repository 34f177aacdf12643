"""Pictures (PNG, JPEG, TIFF, WebP, BMP, GIF) → volumes, each an axial slice that is already the right way up."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from latentsweep.datasets.formats import limits
from latentsweep.datasets.formats.limits import (
    MAX_PIXELS,
    MAX_SIDE,
    TOO_MANY_PIXELS,
    guard_reading,
    limit_pixels,
    open_scan,
    silence,
    silence_native,
)
from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.formats.stacks import stack_files
from latentsweep.datasets.volumes import Float, Volume

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")
"""As Pillow calls them."""
JPEG_WITH_PREVIEWS = "MPO"
"""Pillow's name for a JPEG that holds smaller copies of itself: the first picture is the one."""
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
TILE_SIDES = (322, 323)
"""Tags of TIFF."""
TOO_LARGE = f"a picture of more than {MAX_SIDE}×{MAX_SIDE} pixels"
UNREADABLE = (*limits.UNREADABLE, SyntaxError, IndexError, AttributeError, ZeroDivisionError, RuntimeError)


@guard_reading()
def read_picture(path: Path, channel: int | None = None) -> Float:
    """One picture as (rows, columns) float32: its grey values, 8 or 16 bits; colours become luminance (ITU-R 601-2).

    With a ``channel``, it is red (0), green (1) or blue (2). What is transparent is black. Raises :class:`Reject`,
    before decoding for a picture of too many pixels or of several pages or frames.
    """
    try:
        with silence("PIL"), open_scan(path) as file, limit_pixels():
            image = Image.open(file, formats=FORMATS)
            with image:
                _check_pages(image)
                return _turn_upright(image, channel)
    except TOO_MANY_PIXELS:
        raise Reject(TOO_LARGE, broken=False) from None
    except UNREADABLE:
        raise Reject("not a readable picture", broken=True) from None


def _check_pages(image: Image.Image) -> None:
    """Raises :class:`Reject` for a picture of several pages or frames, and for a TIFF of too large tiles."""
    if getattr(image, "n_frames", 1) > 1 and image.format != JPEG_WITH_PREVIEWS:
        raise Reject("a picture of several pages or frames: save each as a file, or all as NIfTI", broken=False)
    width, height = (int(_tag(image, side) or 1) for side in TILE_SIDES)
    if width * height > MAX_PIXELS:
        raise Reject(TOO_LARGE, broken=False)


def _tag(image: Image.Image, number: int) -> Any:
    """A tag of a TIFF; None where there is none."""
    return getattr(image, "tag_v2", {}).get(number)


def _turn_upright(image: Image.Image, channel: int | None) -> Float:
    try:
        with silence_native() if image.format == "TIFF" else contextlib.nullcontext():
            image.load()
        inverted = image.mode.startswith("I;16") and _tag(image, PHOTOMETRIC) == WHITE_IS_ZERO
        upright = ImageOps.exif_transpose(image)
        if upright.has_transparency_data and upright.mode in ("LA", "PA", "P", "RGBA"):
            seen = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", seen.size, (0, 0, 0, 255)), seen)
        if channel is not None:
            return np.asarray(upright.convert("RGB"))[..., channel].astype(np.float32)
        if upright.mode not in ("L", "I;16", "I;16B", "I", "F"):
            upright = upright.convert("RGB").convert("L")
        grey = np.asarray(upright).astype(np.float32)
        return 65535 - grey if inverted else grey
    except TOO_MANY_PIXELS:
        raise
    except UNREADABLE:
        raise Reject("a picture that is cut short or damaged", broken=True) from None


def picture_volumes(paths: Sequence[Path], channel: int | None = None) -> tuple[list[Volume], list[Reject]]:
    """The pictures in the given order, stacked to one volume for each image size, and a reject for each other."""
    return stack_files(paths, lambda path: read_picture(path, channel))
