"""PNG and JPEG files → volumes, each picture an axial slice that is already the right way up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from latentsweep.datasets import limits
from latentsweep.datasets.limits import (
    MAX_SIDE,
    MAX_VOXELS,
    TOO_MANY_PIXELS,
    TOO_MANY_VOXELS,
    guard_reading,
    limit_pixels,
    open_scan,
    silence,
)
from latentsweep.datasets.volumes import DISPLAY_AFFINE, Float, Reject, Volume

UNREADABLE = (*limits.UNREADABLE, SyntaxError, IndexError, AttributeError, ZeroDivisionError, RuntimeError)


@guard_reading()
def read_picture(path: Path) -> Float:
    """One picture as (rows, columns) float32: its grey values, 8 or 16 bits; colours become luminance (ITU-R 601-2).

    What is transparent is black. Raises :class:`Reject`, before decoding for a picture of too many pixels.
    """
    try:
        with silence("PIL"), open_scan(path) as file, limit_pixels():
            image = Image.open(file, formats=("PNG", "JPEG"))
            with image:
                return _turn_upright(image)
    except TOO_MANY_PIXELS:
        raise Reject(f"a picture of more than {MAX_SIDE}×{MAX_SIDE} pixels", broken=False) from None
    except UNREADABLE:
        raise Reject("not a readable PNG or JPEG picture", broken=True) from None


def _turn_upright(image: Image.Image) -> Float:
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.has_transparency_data and upright.mode in ("LA", "PA", "P", "RGBA"):
            seen = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", seen.size, (0, 0, 0, 255)), seen)
        if upright.mode not in ("L", "I;16", "I;16B", "I", "F"):
            upright = upright.convert("RGB").convert("L")
        return np.asarray(upright).astype(np.float32)
    except TOO_MANY_PIXELS:
        raise
    except UNREADABLE:
        raise Reject("a picture that is cut short or damaged", broken=True) from None


def picture_volumes(paths: Sequence[Path]) -> tuple[list[Volume], list[Reject]]:
    """The pictures in the given order, stacked to one volume for each image size, and a reject for each other."""
    planes: dict[tuple[int, ...], list[Float]] = defaultdict(list)
    rejects: list[Reject] = []
    pixels = 0
    for path in paths:
        try:
            plane = read_picture(path)
            if pixels + plane.size > MAX_VOXELS:
                raise Reject(TOO_MANY_VOXELS, broken=False)
            pixels += plane.size
            planes[plane.shape].append(plane)
        except Reject as reject:
            rejects.append(reject)
    volumes = [Volume(np.stack(group).transpose(2, 1, 0), DISPLAY_AFFINE) for _, group in sorted(planes.items())]
    return volumes, rejects
