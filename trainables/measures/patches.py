"""Sliced Wasserstein distance between patches of a Laplacian pyramid: a comparison of images without a network.

Legend: N images (N, H, W) uint8, scaled to [-1, 1]; L levels of the pyramid, the finest first; D directions; P
patches of each level.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.errors import DataError

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Places = npt.NDArray[np.integer]

PATCH = 7
"""Side of a patch in pixels of its level (Karras et al. 2018, section 5)."""

COARSEST = 16
"""The least side in pixels of a level (Karras et al. 2018, section 5)."""

PATCHES = 8192
DIRECTIONS = 256
CHUNK = 256
DIRECTIONS_SEED = 0
BLUR = np.array([1, 4, 6, 4, 1], dtype=np.float32) / 16
FAINTEST = (2 / 255) / np.sqrt(12)
"""Standard deviation of the error of rounding to 8 bits: the least that a level is divided by."""


@dataclass(frozen=True)
class Patches:
    """What :func:`describe` keeps of a set of images, so that a set is described once and compared often."""

    projections: Singles
    """(L, D, P), the patches of each level along each direction, sorted."""
    deviations: Floats
    """(L,), the standard deviation of the pixels of all patches of each level."""
    size: tuple[int, int]
    """(H, W) of the images."""


def describe(images: Bytes, seed: int) -> Patches:
    """``PATCHES`` patches of each level of the pyramid, drawn from ``seed`` and spread evenly over the images.

    Their number is the same for any N, so that sets of different numbers can be compared. Sets that are compared need
    one seed. Raises :class:`DataError` for other than uint8 images (N, H, W), N ≥ 1, of at least 16 pixels a side.
    """
    if images.ndim != 3 or images.dtype != np.uint8 or len(images) == 0 or min(images.shape[1:]) < COARSEST:
        raise DataError(
            f"patches need uint8 images (N, H, W), one or more and {COARSEST} pixels a side or larger, got "
            f"{images.shape} of {images.dtype}: convert them to 8-bit grey first"
        )
    generator = np.random.default_rng(seed)
    directions = np.random.default_rng(DIRECTIONS_SEED).normal(size=(DIRECTIONS, PATCH * PATCH))
    directions = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)
    projections, deviations = [], []
    for patches in _patches(images, generator):
        deviations.append(float(patches.std(dtype=np.float64)))
        projections.append(np.sort(directions @ patches.T, axis=1))
    return Patches(np.stack(projections), np.array(deviations), (images.shape[1], images.shape[2]))


def sliced_wasserstein(first: Patches, second: Patches) -> float:
    """Sliced Wasserstein distance ×1000 between the patches of two sets, the mean over the levels; 0 where equal.

    Karras et al. 2018, section 5: the mean over random directions of the Wasserstein-1 distance of the projected
    patches (Rabin et al. 2012). Patches are in units of the standard deviation of both sets together; the paper
    scales each set by its own, which hides changes of contrast. Raises :class:`DataError` for images of two sizes.
    """
    if first.size != second.size:
        raise DataError(
            f"patches are compared between images of one size, got {first.size} and {second.size}: resize one set"
        )
    scale = np.maximum(np.sqrt((first.deviations**2 + second.deviations**2) / 2), FAINTEST)
    distances = np.abs(first.projections - second.projections).mean(axis=(1, 2), dtype=np.float64)
    return float(1000 * np.mean(distances / scale))


def _pyramid(images: Singles) -> Iterator[Singles]:
    """Levels of the Laplacian pyramid (Burt and Adelson 1983) of (N, H, W); the last is the blurred rest."""
    while min(images.shape[1:]) >= 2 * COARSEST:
        smaller = _blurred(images)[:, ::2, ::2]
        spread = np.zeros_like(images)
        spread[:, ::2, ::2] = 4 * smaller
        yield images - _blurred(spread)
        images = smaller
    yield images


def _blurred(images: Singles) -> Singles:
    from scipy.ndimage import convolve1d

    across: Singles = convolve1d(images, BLUR, axis=2, mode="mirror")
    blurred: Singles = convolve1d(across, BLUR, axis=1, mode="mirror")
    return blurred


def draw_places(count: int, size: tuple[int, int], generator: np.random.Generator) -> tuple[Places, Places, Places]:
    """The image, row and column (P,) of each of PATCHES patches at random places, spread evenly over the images."""
    images = np.resize(generator.permutation(count), PATCHES)
    down, across = (generator.integers(0, side - PATCH + 1, PATCHES) for side in size)
    return images, down, across


def _patches(images: Bytes, generator: np.random.Generator) -> list[Singles]:
    """PATCHES patches (P, 49) of each level, from the pyramids of CHUNK images at a time."""
    blank = np.zeros((1, *images.shape[1:]), dtype=np.float32)
    places = [draw_places(len(images), (level.shape[1], level.shape[2]), generator) for level in _pyramid(blank)]
    patches = [np.empty((PATCHES, PATCH * PATCH), dtype=np.float32) for _ in places]
    for start in range(0, len(images), CHUNK):
        chunk = (images[start : start + CHUNK] / np.float32(127.5) - 1).astype(np.float32)
        for level, (drawn, down, across), kept in zip(_pyramid(chunk), places, patches, strict=True):
            windows = np.lib.stride_tricks.sliding_window_view(level, (PATCH, PATCH), axis=(1, 2))
            here = (drawn >= start) & (drawn < start + CHUNK)
            kept[here] = windows[drawn[here] - start, down[here], across[here]].reshape(-1, PATCH * PATCH)
    return patches
