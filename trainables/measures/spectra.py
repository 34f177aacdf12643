"""Power spectra of images: which spatial frequencies they hold, and how far two sets are apart in them.

Legend: N images (N, H, W) uint8, scaled to [-1, 1]; B rings of spatial frequency. The discrete Fourier transform is
the orthonormal one. There is no window: slices end in background, so that their edges join without a step.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from trainables.errors import DataError

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

HIGH_FREQUENCY = 0.25
"""Cycles a pixel from which a frequency counts as high: half of the Nyquist frequency."""

ROUNDING_POWER = (2 / 255) ** 2 / 12
"""Power at each frequency of the error of rounding to 8 bits: a spectrum has no meaning below it."""

CHUNK = 256


def radial_spectrum(images: Bytes) -> tuple[Floats, Floats]:
    """Frequencies (B,) in cycles a pixel, and the mean power (N, B) of each image in the ring around each of them.

    A ring is the mean of |F(u, v)|² of the image less its mean, over the frequencies within half a ring of
    k / min(H, W) from 0, for k from 1 to min(H, W) // 2. The corners beyond the Nyquist frequency are left out.

    Raises :class:`DataError` for other than uint8 images (N, H, W), N ≥ 1, of at least 4 pixels a side.
    """
    height, width = _checked(images)
    side = min(height, width)
    ring = np.rint(_radius(height, width) * side).astype(np.intp).ravel()
    inside = (ring >= 1) & (ring <= side // 2)
    weights = np.where(inside, _multiplicity(height, width).ravel(), 0)
    counts = np.bincount(ring, weights)[1 : side // 2 + 1]
    means = [
        np.bincount(ring, weights * image.ravel())[1 : side // 2 + 1] / counts
        for chunk in _power(images)
        for image in chunk
    ]
    return np.arange(1, side // 2 + 1) / side, np.stack(means)


def high_frequency_share(images: Bytes) -> Floats:
    """Share (N,), 0 to 1, of the power of each image less its mean at :data:`HIGH_FREQUENCY` and above.

    An image of one grey value has a share of 0. Raises :class:`DataError` as :func:`radial_spectrum` does.
    """
    height, width = _checked(images)
    multiplicity = _multiplicity(height, width)
    high = np.where(_radius(height, width) >= HIGH_FREQUENCY, multiplicity, 0)
    shares = []
    for power in _power(images):
        whole = np.tensordot(power, multiplicity, axes=2)
        shares.append(np.tensordot(power, high, axes=2) / np.where(whole > 0, whole, 1))
    return np.concatenate(shares)


def spectrum_distance(first: Bytes, second: Bytes) -> float:
    """Log-spectral distance in dB between two sets of images of one size, 0 for identical sets.

    The root-mean-square over the rings of 10·log₁₀ of the ratio of the sets' mean :func:`radial_spectrum` (Gray and
    Markel 1976, for speech), each at least :data:`ROUNDING_POWER`. Raises :class:`DataError` as
    :func:`radial_spectrum` does, and for two sizes.
    """
    if first.shape[1:] != second.shape[1:]:
        raise DataError(
            f"spectra are compared between images of one size, got {first.shape} and {second.shape}: resize one set"
        )
    levels = [
        10 * np.log10(np.maximum(radial_spectrum(images)[1].mean(axis=0), ROUNDING_POWER))
        for images in (first, second)
    ]
    return float(np.sqrt(np.mean((levels[0] - levels[1]) ** 2)))


def _checked(images: Bytes) -> tuple[int, int]:
    """Height and width of usable images."""
    if images.ndim != 3 or images.dtype != np.uint8 or len(images) == 0 or min(images.shape[1:]) < 4:
        raise DataError(
            f"a spectrum needs uint8 images (N, H, W), one or more and 4 pixels a side or larger, got {images.shape} "
            f"of {images.dtype}: convert them to 8-bit grey first"
        )
    return images.shape[1], images.shape[2]


def _power(images: Bytes) -> Iterator[Floats]:
    """|F|² of up to CHUNK images at a time, (n, H, W // 2 + 1), 0 at frequency 0."""
    for start in range(0, len(images), CHUNK):
        pixels = images[start : start + CHUNK] / 127.5 - 1
        transformed = np.fft.rfft2(pixels - pixels.mean(axis=(1, 2), keepdims=True), norm="ortho")
        power = transformed.real**2 + transformed.imag**2
        power[:, 0, 0] = 0  # what rounding has left of the mean
        yield power


def _radius(height: int, width: int) -> Floats:
    """Distance from frequency 0 in cycles a pixel, (H, W // 2 + 1)."""
    return np.asarray(np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]))


def _multiplicity(height: int, width: int) -> Floats:
    """How often each frequency of the half plane is in the whole plane, (H, W // 2 + 1)."""
    multiplicity = np.full((height, width // 2 + 1), 2.0)
    multiplicity[:, 0] = 1
    if width % 2 == 0:
        multiplicity[:, -1] = 1
    return multiplicity
