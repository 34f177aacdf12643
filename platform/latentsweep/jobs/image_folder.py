"""A folder of images, read to be measured."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from latentsweep.datasets.formats.pictures import read_picture
from latentsweep.datasets.formats.readers import READERS, format_of
from latentsweep.datasets.formats.reject import Reject
from trainables.errors import DataError

PICTURE = "picture"
"""The format of :data:`latentsweep.datasets.formats.readers.READERS` that a folder of images is of."""
WIDE, LEAST_WIDE = 65535, 16384
"""The white of 16-bit pictures, and what the brightest pixel of a set of them must reach."""
MAX_SET_BYTES = 2**30
"""Pixels of all pictures together, a byte each."""
GRID = "grid.png"
"""The overview that ``sample`` writes beside its images; it is not one of them."""


def read_images(folder: Path) -> np.ndarray:
    """The pictures of a folder as grey uint8 (N, S, S), sorted by name, read as ``data prepare`` reads pictures.

    The values of 16-bit pictures are mapped from 0..65535 to 0..255.
    Raises :class:`DataError` where they are not square and of one size. It does so before a picture is decoded where
    the picture has more pixels than :mod:`~latentsweep.datasets.formats.limits` allow, all have more than
    ``MAX_SET_BYTES``, a link leads out of the folder, or something is no regular file.
    """
    if not folder.is_dir():
        raise DataError(f"--images must be a folder of {READERS[PICTURE].label} files, and {folder} is none")
    paths = sorted(path for path in folder.iterdir() if format_of(path) == PICTURE and path.name != GRID)
    if len(paths) < 2:
        label = READERS[PICTURE].label
        raise DataError(f"--images needs two pictures or more ({label}), and {folder} holds {len(paths)}")
    brightest = 0.0
    images: list[np.ndarray] = []
    for path in paths:
        image = _read_image(path, folder)
        shapes = sorted({image.shape, *(first.shape for first in images[:1])})
        if len(shapes) > 1 or image.shape[0] != image.shape[1]:
            raise DataError(f"all pictures must be square and of one size, got {shapes}")
        if image.size * len(paths) > MAX_SET_BYTES:
            raise DataError(f"--images takes up to {MAX_SET_BYTES:,} pixels in all, got {image.size * len(paths):,}")
        if image.max() > 255:
            brightest = max(brightest, float(image.max()))
            image = image * (255 / WIDE)
        images.append(np.clip(np.rint(image), 0, 255).astype(np.uint8))
    if 0 < brightest < LEAST_WIDE:
        raise DataError(
            f"16-bit pictures must use their range, 0 to {WIDE}, got at most {brightest:.0f} in all: scale them, or "
            "save them with 8 bits"
        )
    return np.stack(images)


def _read_image(path: Path, folder: Path) -> np.ndarray:
    """One picture as grey float32 (rows, columns); raises :class:`DataError` for what can't be used."""
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise DataError(f"{path.name} is a link out of the folder of --images; put the picture itself there")
    try:
        return read_picture(path)
    except Reject as reject:
        what = "is not a whole picture" if reject.broken else "cannot be used"
        raise DataError(f"{path.name} {what} ({reject.reason}); take it out of the folder") from None


def images_name(dataset: str, images: np.ndarray) -> str:
    """What the ledger calls the measurement of images uint8 (N, S, S): the same for the same pictures."""
    digest = hashlib.sha256(str(images.shape).encode() + images.tobytes()).hexdigest()
    return f"{dataset}-images-{digest[:8]}"
