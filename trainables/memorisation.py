"""Does a generator repeat its training slices? Distances to the nearest ones, calibrated by held-out slices."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

from trainables.errors import DataError

logger = logging.getLogger(__name__)

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

NEAR_COPY_QUANTILE = 0.01
CHUNK_BYTES = 1 << 28


def nearest_distances(images: Bytes, training: Bytes) -> Floats:
    """Root-mean-square difference, in units of [-1, 1], of each image (N, H, W) to the nearest of ``training``
    (M, H, W): (N,), exactly 0 for an exact copy.

    Raises :class:`DataError` for no training slices or another size.
    """
    if len(training) == 0 or images.shape[1:] != training.shape[1:]:
        raise DataError(
            f"memorisation compares images with training slices of the same size, got {images.shape} and "
            f"{training.shape}: give the slices that the generator was trained on"
        )
    pixels = images.reshape(len(images), -1)
    references = training.reshape(len(training), -1)
    nearest = np.zeros(len(images), dtype=np.intp)
    smallest = np.full(len(images), np.inf)
    queries = pixels.astype(np.float32) - 127.5
    rows = max(1, CHUNK_BYTES // (4 * pixels.shape[1]))
    for start in range(0, len(references), rows):
        chunk = references[start : start + rows].astype(np.float32) - 127.5
        squares = np.einsum("nd,nd->n", chunk, chunk) - 2 * queries @ chunk.T
        best = squares.argmin(axis=1)
        values = np.take_along_axis(squares, best[:, None], axis=1)[:, 0]
        closer = values < smallest
        smallest[closer], nearest[closer] = values[closer], best[closer] + start
    differences = (pixels.astype(np.float64) - references[nearest]) / 127.5
    return np.asarray(np.sqrt(np.mean(differences**2, axis=1)))


def memorisation(generated: Bytes, held_out: Bytes, training: Bytes) -> dict[str, float]:
    """How near generated images are to the training slices, against how near held-out slices are to them.

    ``memorisation`` is the median distance to the nearest training slice over the median of the held-out slices:
    about 1 for a generator that has learnt the distribution, towards 0 for one that copies. ``near_copies`` is the
    share of generated images no farther than the 1 % quantile of the held-out slices: about 0.01 where nothing is
    copied.
    The ratio is left out, with a warning, where most held-out slices are themselves copies of training slices.
    """
    theirs = nearest_distances(generated, training)
    null = nearest_distances(held_out, training)
    result = {"near_copies": float(np.mean(theirs <= np.quantile(null, NEAR_COPY_QUANTILE)))}
    typical = float(np.median(null))
    if typical > 0:
        result["memorisation"] = float(np.median(theirs)) / typical
    else:
        logger.warning("memorisation is undefined: most held-out slices are exact copies of training slices")
    return result
