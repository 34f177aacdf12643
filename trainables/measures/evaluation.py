"""How good a run's images are: named numbers from generated and from reconstructed images.

Legend: N generated images, n real slices of the reference; images are (N, H, W) uint8, features (N, 2048) float32.
KID is ×1000. The functions that measure similarity import torch and torchmetrics inside, since a configuration is
read without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.config import Config, setting
from trainables.errors import DataError
from trainables.measures.collapse import LEAST_DIVERSITY, collapse
from trainables.measures.memorisation import Nearest, memorisation
from trainables.measures.reference import Bytes, Features, Reference, compare, describe_set, spread_over
from trainables.plugins import with_plugins

UNFINISHED = 0.15
"""An image is unfinished where the early stop left its latent further from the sampler's end than this share of the
end's norm. On real slices the largest threshold of a search space, 0.1, leaves 0.11 at most, and noise 0.9."""

PAIR_SEED = 0
"""Seed of the order in which real slices are paired with generated ones."""


MEASURES = (
    "kid",
    "fid",
    "swd",
    "spectrum_distance",
    "precision",
    "recall",
    "near_copies",
    "memorisation",
    "alike",
    "diversity",
    "ms_ssim",
    "high_frequency_share",
    "samples",
    "reference_samples",
    "steps_mean",
    "stopped",
    "unfinished",
    "seconds_per_image",
    "paper_ssim",
    "paper_psnr",
    "downstream_dice",
    "downstream_dice_loss",
    "downstream_hd95",
    "downstream_ratio",
    "downstream_gain",
    "downstream_copies",
)
"""What is measured of generated slices, without ``gen/``: by :func:`evaluate_generated`, and the last six by
:func:`trainables.measures.downstream.scores.measure_arms`."""
PARTNERS = ("", "_floor", "_low", "_high", "_se", "_sd", "_real", "_bound", "_low_floor", "_high_floor", "_se_floor")
"""What may stand behind these names: of a measure's floor, interval, error, spread, real value or bound."""


@dataclass(frozen=True, kw_only=True)
@with_plugins
class EvaluationConfig(Config):
    """How many images are compared, and how often during a training."""

    samples: int = setting(
        200, "generated slices, and real ones in the floor; all of a split are the reference", low=2
    )
    rungs: int = setting(
        3, "how many times a trial is scored on the way, at equal distances, so that it can be pruned", low=0
    )
    rung_samples: int = setting(64, "generated slices at each rung", low=2)
    bootstrap: int = setting(200, "bootstrap resamples behind a standard error", low=10)
    metrics: tuple[str, ...] = setting(
        (),
        "further metrics, by the names of plug-ins",
        choices=(),
        plugins="metrics",
        taken={measure + partner for measure in MEASURES for partner in PARTNERS},
        later=True,
    )


def evaluate_generated(
    images: Bytes,
    features: Features,
    nearest: Nearest,
    reference: Reference,
    config: EvaluationConfig,
    *,
    steps_used: npt.NDArray[Any] | Sequence[int] | None = None,
    steps: int | None = None,
    remaining: npt.NDArray[Any] | Sequence[float] | None = None,
    seconds: float | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Generated ``images``, their ``features`` and ``nearest`` training slices, against the reference.

    The metrics are named ``gen/…`` and defined in docs/metrics.md: those of :func:`~.reference.compare`, also with
    ``_floor``; of :func:`~.reference.describe_set`, also with ``_real``; of
    :func:`~trainables.measures.memorisation.memorisation` and :func:`~trainables.measures.collapse.collapse`;
    ``diversity_bound``, the least diversity of a generator that hasn't collapsed; mean and early stops of
    ``steps_used`` (N,), out of ``steps``; the share of ``remaining`` (N,), how far each latent is from the sampler's
    end over the end's norm, above :data:`UNFINISHED`; the wall time of the sampling, ``seconds``, over N; SSIM and
    PSNR of generated i with real i, two unrelated images, as the paper reports them, with ``_sd`` their standard
    deviation between pairs; and what the plug-ins of ``config.metrics`` give for (images, real slices). The real
    slices are in a fixed order that takes one of each subject in turn. Raises
    :class:`DataError` for fewer than 2 images, or images and features that don't belong together.
    """
    from trainables.measures.similarity import psnr, ssim

    if not len(images) == len(features) == len(nearest.distances) or (
        images.shape[1:] != reference.images.shape[1:] or images.dtype != np.uint8
    ):
        raise DataError(
            f"generated images must be uint8, of the reference's size {reference.images.shape[1:]} and as many as "
            f"their features, got {images.shape} of {images.dtype} and {len(features)} features: sample them again"
        )
    result = compare(images, features, reference, bootstrap=config.bootstrap, seed=seed)
    result |= {f"{name}_floor": reference.floor[name] for name in (*result, "samples") if name in reference.floor}
    result |= {"samples": float(len(images)), "reference_samples": float(len(reference.images))}
    result |= describe_set(images, seed)
    result |= {f"{name}_real": value for name, value in reference.real.items()}
    result["diversity_bound"] = LEAST_DIVERSITY * reference.real["diversity"]
    result |= collapse(images, reference.images, reference.subjects, reference.floor_images)
    if len(reference.null):
        result |= memorisation(nearest.distances, reference.null)

    if steps_used is not None:
        used = np.asarray(steps_used, dtype=np.float64)
        result["steps_mean"] = float(used.mean())
        if steps is not None:
            result["stopped"] = float((used < steps).mean())
    if remaining is not None:
        result["unfinished"] = float((np.asarray(remaining) > UNFINISHED).mean())
    if seconds is not None:
        result["seconds_per_image"] = seconds / len(images)

    partners = reference.images[spread_over(reference.subjects, np.random.default_rng(PAIR_SEED))[: len(images)]]
    for name, measure in (("paper_ssim", ssim), ("paper_psnr", psnr)):
        values = measure(images[: len(partners)], partners)
        result |= {name: float(values.mean()), f"{name}_sd": float(values.std(ddof=1))}
    for name, further in config.chosen_plugins("metrics").items():
        result[name] = float(further(images, reference.images))
    return {f"gen/{name}": value for name, value in result.items()}


def evaluate_reconstructions(images: Bytes, reconstructions: npt.NDArray[np.floating[Any]]) -> dict[str, float]:
    """Held-out ``images`` against the autoencoder's ``reconstructions`` (N, H, W) in [-1, 1].

    ``recon/ssim`` and ``recon/psnr`` (dB, at most 100) are means over images, measured on the range [0, 1]; with
    ``_sd`` their standard deviation between images (0 for a single one). ``recon/mse`` is in units of [-1, 1], as in
    the training's loss. Reconstructions are clipped to their range first. Raises :class:`DataError` for no images,
    different shapes, or reconstructions that are not finite.
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


def compare_reconstructions(
    reconstructed: Bytes, features: Features, reference: Reference, config: EvaluationConfig, *, seed: int = 0
) -> dict[str, float]:
    """What the autoencoder alone loses: ``recon/fid``, ``recon/kid`` … ``recon/swd`` of :func:`compare`.

    ``reconstructed`` (m, H, W) are the reference's ``floor_images`` after encoding and decoding, of the same
    subjects. It is no bound: a denoiser of these latents can score better.
    """
    groups = reference.floor_subjects
    scores = compare(reconstructed, features, reference, bootstrap=config.bootstrap, seed=seed, groups=groups)
    return {f"recon/{name}": value for name, value in scores.items()}
