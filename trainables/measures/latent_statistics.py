"""What a latent space holds: divergence from the prior, active channels, principal components.

Legend: N latents of C channels and h×w positions; arrays are (N, C, h, w), not whitened. All is computed in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.errors import DataError

Arrays = npt.NDArray[np.floating[Any]]
Floats = npt.NDArray[np.float64]

ACTIVE_VARIANCE = 0.01
"""Variance of the posterior mean over the data above which a latent is active (Burda et al. 2016, section 5.3)."""


def kl_by_channel(mean: Arrays, log_variance: Arrays) -> Floats:
    """KL divergence (C,), in nats a latent, of the diagonal Gaussian posteriors from the standard normal prior.

    ½(μ² + σ² - 1 - log σ²) (Kingma and Welling 2014, appendix B), summed over positions and averaged over the N
    latents. Raises :class:`DataError` for other than finite arrays of one shape (N, C, h, w), N ≥ 1.
    """
    means = _checked(mean, at_least=1)
    logs = _checked(log_variance, at_least=1)
    if means.shape != logs.shape:
        raise DataError(
            f"means and log-variances must have one shape, got {means.shape} and {logs.shape}: take both from one "
            "encoding"
        )
    return np.asarray((means**2 + np.exp(logs) - 1 - logs).sum(axis=(2, 3)).mean(axis=0) / 2)


def active_channels(mean: Arrays) -> npt.NDArray[np.bool_]:
    """Which channels (C,) differ between images: their activity (Burda et al. 2016) is above :data:`ACTIVE_VARIANCE`.

    The activity of a channel is the variance over the data of its posterior mean, averaged over positions.
    Raises :class:`DataError` for other than finite means (N, C, h, w), N ≥ 2.
    """
    return np.asarray(_checked(mean, at_least=2).var(axis=0, ddof=1).mean(axis=(1, 2)) > ACTIVE_VARIANCE)


def principal_components(real: Arrays, generated: Arrays | None = None) -> tuple[Floats, Floats | None, Floats]:
    """Coordinates of real (N, 2) and generated latents (M, 2) on their first two principal components, and the share
    of the variance (2,) that each explains.

    The components (Pearson 1901) are those of both sets together, centred on their common mean; without
    ``generated``, of the real latents alone, and None comes back in its place. A component's coordinate of largest
    size is positive.

    Raises :class:`DataError` for other than finite latents (N, C, h, w) and (M, C, h, w) of 2 numbers or more, and
    for fewer than 2 of them in all.
    """
    from scipy.linalg import eigh

    sets = [_checked(latents, at_least=1) for latents in (real, generated) if latents is not None]
    if len({latents.shape[1:] for latents in sets}) != 1:
        raise DataError(f"latents of two shapes have no common components, got {real.shape} and {sets[-1].shape}")
    rows = np.concatenate([latents.reshape(len(latents), -1) for latents in sets])
    if min(rows.shape) < 2:
        raise DataError(f"two principal components need 2 latents of 2 numbers or more, got {rows.shape}")
    rows -= rows.mean(axis=0)
    few = len(rows) <= rows.shape[1]
    gram = rows @ rows.T if few else rows.T @ rows  # the smaller of the two
    values, vectors = eigh(gram, subset_by_index=(len(gram) - 2, len(gram) - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    coordinates = vectors * np.sqrt(np.maximum(values, 0)) if few else rows @ vectors
    largest = np.take_along_axis(coordinates, np.abs(coordinates).argmax(axis=0)[None], axis=0)
    coordinates *= np.where(largest < 0, -1, 1)
    whole = float(np.sum(rows**2))
    shares = np.sum(coordinates**2, axis=0) / whole if whole > 0 else np.zeros(2)
    return coordinates[: len(real)], None if generated is None else coordinates[len(real) :], shares


def _checked(latents: Arrays, *, at_least: int) -> Floats:
    if latents.ndim != 4 or len(latents) < at_least:
        raise DataError(f"latents must be (N, C, h, w) with N of {at_least} or more, got {latents.shape}")
    if not np.isfinite(latents).all():
        raise DataError("latents must be finite, got NaN or infinity: the autoencoder or the denoiser has diverged")
    return latents.astype(np.float64)
