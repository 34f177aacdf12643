"""Whether a generator repeats its training slices: distances to the nearest ones, and how near a copy is.

Legend: N images and M training slices (H, W) uint8; K candidates for each image.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.errors import DataError
from trainables.loop.watchdog import beat

logger = logging.getLogger(__name__)

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

NEAR_COPY_QUANTILE = 0.01
NEAR_COPY_FRACTION = 0.5
"""A near copy is nearer than this quantile of held-out slices, and than this fraction of their median distance."""

COPYING_LEVEL = 0.95
"""How sure it must be that a generator has more near copies than held-out slices have."""

FINE, COARSE = 1.5, 4.0
"""Standard deviations in pixels of the Gaussians whose difference is the band of frequencies that is compared."""

REACH = 4
"""The largest shift in pixels, up, down, left or right, that alignment undoes."""

THUMBNAIL = 32
CANDIDATES = 16
CHUNK_IMAGES = 16
CHUNK_TRAINING = 2048
CHUNK_COMPARED = 1024
"""Images whose scores against all training slices are in memory at once."""
ROUNDING = 1e-6


@dataclass(frozen=True)
class Nearest:
    """Distance (N,) of each image to its nearest training slice, and the slice's index (N,)."""

    distances: Floats
    indices: Indices

    def __len__(self) -> int:
        return len(self.distances)

    def __getitem__(self, chosen: Indices) -> Nearest:
        return Nearest(self.distances[chosen], self.indices[chosen])


def nearest(images: Bytes, training: Bytes) -> Nearest:
    """The nearest of the training slices (M, H, W) to each image (N, H, W), and its distance after alignment.

    The distance is the root-mean-square difference of the two images, each band-passed and brought to a mean of 0
    and a standard deviation of 1, the smallest over a left-right flip and shifts of up to :data:`REACH` pixels. It is
    √(2 - 2ρ), with ρ their largest normalised cross-correlation (Lewis 1995): 0 for a copy, also of another
    brightness or contrast, and about √2 for images with nothing in common. The band, a difference of Gaussians (Marr
    and Hildreth 1980, equation 8), leaves out slight noise, and the outline that all brains share.

    First thumbnails of about 32×32 are compared, over the flip and shifts of one of their pixels. Then the
    ``CANDIDATES`` nearest slices are aligned at full resolution by Fourier transform. Of 300 planted copies of real
    slices, 99.3 % had their source among the candidates. Raises :class:`DataError` for no training slices, two sizes
    or other than uint8 images.
    """
    if images.ndim != 3 or images.dtype != np.uint8 or training.dtype != np.uint8:
        raise DataError(
            f"memorisation needs uint8 images (N, H, W), got {images.shape} of {images.dtype} and training slices of "
            f"{training.dtype}: convert them to 8-bit grey first"
        )
    if len(training) == 0 or images.shape[1:] != training.shape[1:]:
        raise DataError(
            f"memorisation compares images with training slices of the same size, got {images.shape} and "
            f"{training.shape}: give the slices that the generator was trained on"
        )
    starts = range(0, max(1, len(images)), CHUNK_COMPARED)
    candidates = np.concatenate([_candidates(images[at : at + CHUNK_COMPARED], training) for at in starts])
    found = Nearest(np.empty(len(images)), np.empty(len(images), dtype=np.intp))
    for start in range(0, len(images), CHUNK_IMAGES):
        chunk = slice(start, start + CHUNK_IMAGES)
        laid, found.indices[chunk] = _aligned(images[chunk], training, candidates[chunk])
        difference = _standardised(laid) - _standardised(training[found.indices[chunk]])
        found.distances[chunk] = np.sqrt(np.mean(difference**2, axis=(1, 2)))
        beat()
    found.distances[found.distances < ROUNDING] = 0
    return found


def align(images: Bytes, training: Bytes, indices: Indices) -> Bytes:
    """The images (N, H, W), each flipped and shifted to fit the training slice of its index (N,) best."""
    return _aligned(images, training, indices[:, None])[0] if len(images) else images


def near_copy_threshold(null: Floats) -> float:
    """The distance up to which an image is a near copy, from the distances (n,) of held-out slices to training ones.

    The smaller of their :data:`NEAR_COPY_QUANTILE` and :data:`NEAR_COPY_FRACTION` of their median. With few subjects
    the quantile alone varies too much: on random subject splits of real slices (about 130 of 10 subjects) it was 0.48
    to 0.67, and up to 10 % of other subjects' slices came below it. The median was 0.81 to 0.98, and at most 1.3 % of
    other subjects' slices came below half of it. These shares of changed training slices came below half of it:
    flipped, shifted by up to 3 pixels and under noise of 10 grey levels 99 %; blurred by a Gaussian of 1 pixel 100 %,
    of 2 pixels 75 %; turned by 3° 74 %, by 6° 4 %. Raises :class:`DataError` for no distances.
    """
    if len(null) == 0:
        raise DataError("a near copy is told by held-out slices, got none: prepare more subjects")
    return float(min(np.quantile(null, NEAR_COPY_QUANTILE), NEAR_COPY_FRACTION * np.median(null)))


def near_copy_bound(null: Floats, count: int) -> float:
    """The largest share of near copies of ``count`` images that chance explains, from held-out distances (n,).

    k of the n held-out slices are within :func:`near_copy_threshold`. The number of near copies in ``count`` further
    ones has the beta-binomial distribution of ``count``, k + 1 and n − k + 1: a binomial one whose rate is known only
    from k of n, before which every rate was as likely (Laplace's rule of succession). The bound is its
    :data:`COPYING_LEVEL` point over ``count``. For k = 0 of n = 139 it is 1 of 8, 1 of 32, 2 of 64 and 5 of 200. It
    takes slices for independent, which those of one subject aren't. On 60 and 40 random partitions of the 70 subjects
    of 865 real slices, draws of 8, 32, 64 and 200 slices of 10 other subjects exceeded it in 0, 0, 0 and 0 % at 64
    pixels, and in 0.1, 0.8, 1.0 and 3.0 % at 32. Raises :class:`DataError` for no distances or no images.
    """
    from scipy.special import betaln  # scipy.stats has this distribution, and takes half a second to import

    if count < 1:
        raise DataError("a bound on near copies is for one image or more, got none: sample some first")
    copies = int(np.sum(null <= near_copy_threshold(null)))
    more, others = copies + 1, len(null) - copies + 1
    found = np.arange(count + 1)
    ways = -np.log(count + 1) - betaln(count - found + 1, found + 1)
    chances = np.exp(ways + betaln(found + more, count - found + others) - betaln(more, others))
    return int(np.searchsorted(np.cumsum(chances), COPYING_LEVEL)) / count


def memorisation(distances: Floats, null: Floats) -> dict[str, float]:
    """How near generated images are to the training slices (N,), against how near held-out slices are to them (n,).

    ``memorisation`` is the ratio of the two medians: about 1 for a generator that has learnt the distribution,
    towards 0 for one that copies. It is left out, with a warning, where most held-out slices are copies of training
    slices. ``near_copies`` is the share of generated images within :func:`near_copy_threshold`: 0.01 or less where
    nothing is copied. ``near_copies_bound`` is :func:`near_copy_bound` of as many images: a larger share is a
    copyist's. Raises :class:`DataError` for no distances on a side.
    """
    if len(distances) == 0:
        raise DataError("memorisation is measured on generated images, got none: sample some first")
    result = {
        "near_copies": float(np.mean(distances <= near_copy_threshold(null))),
        "near_copies_bound": near_copy_bound(null, len(distances)),
    }
    typical = float(np.median(null))
    if typical > 0:
        result["memorisation"] = float(np.median(distances)) / typical
    else:
        logger.warning("memorisation is undefined: most held-out slices are exact copies of training slices")
    return result


def _candidates(images: Bytes, training: Bytes) -> Indices:
    """Indices (N, K) of the training slices whose thumbnails correlate best, over the flip and 9 shifts."""
    mine = _thumbnails(images)
    variants = [
        np.roll(oriented, (down, across), axis=(1, 2)).reshape(len(mine), -1)
        for oriented in (mine, mine[:, :, ::-1])
        for down in (-1, 0, 1)
        for across in (-1, 0, 1)
    ]
    scores = np.full((len(images), len(training)), -np.inf, dtype=np.float32)
    for start in range(0, len(training), CHUNK_TRAINING):
        part = scores[:, start : start + CHUNK_TRAINING]
        theirs = _thumbnails(training[start : start + CHUNK_TRAINING]).reshape(part.shape[1], -1).T
        for variant in variants:
            np.maximum(part, variant @ theirs, out=part)
        beat()
    count = min(CANDIDATES, len(training))
    return np.asarray(np.argpartition(-scores, count - 1, axis=1)[:, :count])


def _thumbnails(images: Bytes) -> Singles:
    """Means over square cells, about THUMBNAIL a side, with mean 0 and length 1."""
    count, height, width = images.shape
    cell = max(1, min(height, width) // THUMBNAIL)
    rows, columns = height // cell, width // cell
    cells = images[:, : rows * cell, : columns * cell].reshape(count, rows, cell, columns, cell)
    small = cells.mean(axis=(2, 4), dtype=np.float32)
    small -= small.mean(axis=(1, 2), keepdims=True)
    lengths = np.sqrt(np.sum(small**2, axis=(1, 2), keepdims=True))
    return np.asarray(small / np.maximum(lengths, ROUNDING))


def _aligned(images: Bytes, training: Bytes, candidates: Indices) -> tuple[Bytes, Indices]:
    """The images, flipped and shifted as fits the best of their candidates (n, K), and its index (n,)."""
    from scipy import fft

    unique, place = np.unique(candidates, return_inverse=True)
    place = place.reshape(candidates.shape)
    size = images.shape[1:]
    shifts = np.arange(-REACH, REACH + 1)
    theirs = fft.rfft2(_standardised(training[unique]).astype(np.float32))
    scores = np.empty((len(images), 2, candidates.shape[1], len(shifts), len(shifts)), dtype=np.float32)
    for orientation, oriented in enumerate((images, images[:, :, ::-1])):
        mine = fft.rfft2(_standardised(oriented).astype(np.float32)).conj()
        for k in range(candidates.shape[1]):
            correlation = fft.irfft2(mine * theirs[place[:, k]], s=size)
            near = correlation.take(shifts, axis=1, mode="wrap").take(shifts, axis=2, mode="wrap")
            scores[:, orientation, k] = near
    best = np.unravel_index(scores.reshape(len(images), -1).argmax(axis=1), scores.shape[1:])
    laid = np.empty_like(images)
    for i, (flipped, _, down, across) in enumerate(zip(*best, strict=True)):
        oriented = images[i, :, ::-1] if flipped else images[i]
        laid[i] = np.roll(oriented, (shifts[down], shifts[across]), axis=(0, 1))
    return laid, candidates[np.arange(len(images)), best[1]]


def _standardised(images: Bytes) -> Floats:
    """The band between FINE and COARSE of each image, at mean 0 and standard deviation 1, or 0 for a blank one."""
    from scipy import fft

    height, width = images.shape[1:]
    squared = fft.fftfreq(height)[:, None] ** 2 + fft.rfftfreq(width)[None, :] ** 2
    fine, coarse = (np.exp(-2 * (np.pi * deviation) ** 2 * squared) for deviation in (FINE, COARSE))
    band = fft.irfft2(fft.rfft2(images / 127.5 - 1) * (fine - coarse), s=(height, width))
    deviation = np.sqrt(np.mean(band**2, axis=(1, 2), keepdims=True))
    return np.asarray(np.where(deviation > ROUNDING, band / np.maximum(deviation, ROUNDING), 0))
