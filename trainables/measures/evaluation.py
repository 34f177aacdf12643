"""What a trained run is worth, in image space: named numbers from images.

Legend: N generated images, n real slices of the reference; images are (N, H, W) uint8, features (N, 2048) float32.
KID is ×1000 everywhere here. torch and torchmetrics are imported inside the functions that measure similarity,
so that reading a configuration stays quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.config import Config, setting
from trainables.errors import DataError
from trainables.measures.memorisation import Nearest, memorisation
from trainables.measures.reference import SIMILARITY_PAIRS, Bytes, Features, Reference, compared


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Config):
    """How many images are compared, and how often on the way."""

    samples: int = setting(200, "generated slices, and real ones where the split holds as many", low=2)
    rungs: int = setting(
        3, "how many times a trial is scored on the way, at equal distances, so that it can be pruned", low=0
    )
    rung_samples: int = setting(64, "generated slices at each rung", low=2)
    bootstrap: int = setting(200, "bootstrap resamples behind a standard error", low=10)


def evaluate_generated(
    images: Bytes,
    features: Features,
    nearest: Nearest,
    reference: Reference,
    config: EvaluationConfig,
    *,
    steps_used: npt.NDArray[Any] | Sequence[int] | None = None,
    steps: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Generated ``images``, their ``features`` and ``nearest`` training slices, against the reference.

    =====================================  ========================================================================
    ``gen/fid`` … ``gen/swd``              all that :func:`~reference.compared` measures; with ``_floor``
                                           what real slices of the training split score in place of the generated
                                           ones, ``gen/samples_floor`` of them
    ``gen/samples``                        N; ``gen/reference_samples``: n
    ``gen/diversity``                      mean pairwise RMS distance, in units of [-1, 1]
    ``gen/ms_ssim``                        mean MS-SSIM of at most 100 seeded pairs: lower is more diverse
    ``gen/high_frequency_share``           of the power (:func:`~spectra.high_frequency_share`); these
                                           three also with ``_real``, of the reference
    ``gen/memorisation``                   median distance to the nearest training slice over that of real slices
    ``gen/near_copies``                    share of images nearer to one than real slices are
                                           (:func:`trainables.measures.memorisation.memorisation`)
    ``gen/steps_mean``, ``gen/stopped``    mean of ``steps_used`` (N,), denoiser evaluations; share of images that
                                           took fewer than ``steps``
    ``gen/seconds_per_image``              ``seconds``, the wall time of the whole sampling, over N
    ``gen/paper_ssim``, ``gen/paper_psnr``  SSIM and PSNR (dB) of generated i with real i, two images that have
                                           nothing to do with each other: under the paper's name, never an objective
    =====================================  ========================================================================

    Raises :class:`DataError` for fewer than 2 images, or images and features that don't belong together.
    """
    from trainables.measures.similarity import mean_pairwise_distance, mean_similarity, psnr, ssim
    from trainables.measures.spectra import high_frequency_share

    if not len(images) == len(features) == len(nearest.distances) or (
        images.shape[1:] != reference.images.shape[1:] or images.dtype != np.uint8
    ):
        raise DataError(
            f"generated images must be uint8, of the reference's size {reference.images.shape[1:]} and as many as "
            f"their features, got {images.shape} of {images.dtype} and {len(features)} features: sample them again"
        )
    result = compared(images, features, reference, bootstrap=config.bootstrap, seed=seed)
    result |= {f"{name}_floor": reference.floor[name] for name in (*result, "samples") if name in reference.floor}
    result |= {
        "samples": float(len(images)),
        "reference_samples": float(len(reference.images)),
        "diversity": mean_pairwise_distance(images),
        "ms_ssim": mean_similarity(images, pairs=SIMILARITY_PAIRS, seed=seed),
        "high_frequency_share": float(high_frequency_share(images).mean()),
    }
    result |= {f"{name}_real": value for name, value in reference.real.items()}
    if len(reference.null):
        result |= memorisation(nearest.distances, reference.null)

    if steps_used is not None:
        used = np.asarray(steps_used, dtype=np.float64)
        result["steps_mean"] = float(used.mean())
        if steps is not None:
            result["stopped"] = float((used < steps).mean())
    if seconds is not None:
        result["seconds_per_image"] = seconds / len(images)

    paired = min(len(images), len(reference.images))
    result["paper_ssim"] = float(ssim(images[:paired], reference.images[:paired]).mean())
    result["paper_psnr"] = float(psnr(images[:paired], reference.images[:paired]).mean())
    return {f"gen/{name}": value for name, value in result.items()}


def evaluate_reconstructions(images: Bytes, reconstructions: npt.NDArray[np.floating[Any]]) -> dict[str, float]:
    """Held-out ``images`` against the autoencoder's ``reconstructions`` (N, H, W) in [-1, 1].

    ``recon/ssim``, ``recon/psnr`` (dB, at most 100 for an identical image), each measured per image on the range
    [0, 1], mean over images, with ``_sd`` the standard deviation between images (0 for a single one); ``recon/mse``
    in units of [-1, 1], as the training loss has it. Reconstructions are clipped to their range first.

    Raises :class:`DataError` for no images, different shapes, or reconstructions that are not finite.
    """
    from trainables.measures.similarity import psnr, ssim

    if len(images) == 0 or images.shape != reconstructions.shape:
        raise DataError(
            f"reconstructions must be as many and as large as their images, at least one, got {images.shape} and "
            f"{reconstructions.shape}: decode the same slices"
        )
    if not np.isfinite(reconstructions).all():
        raise DataError("reconstructions must be finite, got NaN or infinity: the autoencoder has diverged")
    clipped = np.clip(reconstructions.astype(np.float64), -1, 1)
    unit = (clipped + 1) / 2
    result = {"recon/mse": float(np.mean((clipped - (images / 127.5 - 1)) ** 2))}
    for name, values in (("ssim", ssim(images, unit)), ("psnr", psnr(images, unit))):
        result[f"recon/{name}"] = float(values.mean())
        result[f"recon/{name}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return result


def evaluate_ceiling(
    reconstructed: Bytes, features: Features, reference: Reference, config: EvaluationConfig, *, seed: int = 0
) -> dict[str, float]:
    """What the autoencoder alone loses: ``recon/fid``, ``recon/kid`` … ``recon/swd`` of :func:`compared`.

    ``reconstructed`` (m, H, W) are the reference's ``floor_images`` after encoding and decoding, so the difference
    from ``gen/*_floor`` is the autoencoder's, and no denoiser that learns these latents can score better.
    """
    scores = compared(reconstructed, features, reference, bootstrap=config.bootstrap, seed=seed)
    return {f"recon/{name}": value for name, value in scores.items()}
