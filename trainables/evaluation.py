"""What a trained run is worth, in image space: named numbers from images.

Legend: N generated images, n real slices of the reference; images are (N, H, W) uint8, features (N, 2048) float32.
KID is ×1000 everywhere here. torch and torchmetrics are imported inside the functions that measure similarity,
so that reading a configuration stays quick.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from trainables.config import Config, setting
from trainables.distances import bootstrap_error, frechet_distance, kernel_distance
from trainables.errors import DataError, StoreError
from trainables.memorisation import memorisation

logger = logging.getLogger(__name__)

Bytes = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]

SIMILARITY_PAIRS = 100


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Config):
    """How many images are compared, and how often on the way."""

    samples: int = setting(200, "generated slices, and real ones where the split holds as many", low=2)
    rungs: int = setting(
        3, "how many times a trial is scored on the way, at equal distances, so that it can be pruned", low=0
    )
    rung_samples: int = setting(64, "generated slices at each rung", low=2)
    bootstrap: int = setting(200, "bootstrap resamples behind a standard error", low=10)


class Extractor(Protocol):
    """What turns images into features; :class:`trainables.inception.InceptionExtractor` is the one that FID names."""

    @property
    def id(self) -> str: ...

    def features(self, images: Bytes, /) -> Features: ...


@dataclass(frozen=True)
class Reference:
    """Real held-out slices that generated ones are compared with, and how far real slices are from them.

    ``features`` (n, 2048) of ``images`` (n, H, W), each of one of ``subjects``. ``floor_features`` (m, 2048) are
    those of training slices, if possible all of other subjects, in an order in which each prefix is spread over
    the subjects; ``floor`` is what all m score as if they were generated: ``fid``, ``kid``, ``kid_se``, ``samples``
    and ``shared_subjects``, which is 1 where they are of the same subjects, as in a split by slice. ``extractor``
    is the extractor's id, ``sha`` a hash of the images.
    """

    features: Features
    images: Bytes
    subjects: list[str]
    floor_features: Features
    floor: dict[str, float]
    extractor: str
    sha: str

    def floor_at(self, samples: int) -> dict[str, float]:
        """``fid`` and ``kid`` of as many real slices as generated ones, or of all m, and their number as ``samples``.

        Empty with fewer than 2.
        """
        features = self.floor_features[:samples]
        if len(features) < 2:
            return {}
        fid = frechet_distance(features, self.features)
        return {"fid": fid, "kid": 1000 * kernel_distance(features, self.features), "samples": float(len(features))}

    def save(self, folder: Path) -> None:
        """Writes ``reference.safetensors`` and then ``reference.json`` into ``folder``."""
        from safetensors.numpy import save_file

        arrays = {
            name: np.ascontiguousarray(getattr(self, name)) for name in ("features", "images", "floor_features")
        }
        described = {key: value for key, value in asdict(self).items() if key not in arrays}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(arrays, folder / "reference.safetensors")
            (folder / "reference.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
        except OSError as error:
            raise StoreError(
                f"the reference cannot be written to {folder}: {error.strerror or error}; make the folder writable"
            ) from error

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The inverse of :meth:`save`; raises :class:`StoreError` for a folder that is absent or damaged."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            described = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
            arrays: dict[str, Any] = load_file(folder / "reference.safetensors")
            reference = cls(**arrays, **described)
        except (OSError, ValueError, TypeError, SafetensorError) as error:
            raise StoreError(
                f"the reference in {folder} cannot be read ({error}); remove it to build it again"
            ) from error
        lengths = {len(reference.features), len(reference.images), len(reference.subjects)}
        if len(lengths) != 1 or image_hash(reference.images) != reference.sha:
            raise StoreError(f"the reference in {folder} is damaged; remove it to build it again")
        return reference


def build_reference(
    images: Bytes,
    subjects: Sequence[str],
    other_images: Bytes,
    other_subjects: Sequence[str],
    extractor: Extractor,
    config: EvaluationConfig,
    seed: int,
) -> Reference:
    """A reference from a seeded draw of at most ``config.samples`` of the held-out ``images``, all where fewer.

    The floor is drawn from ``other_images``, the training slices, one subject after the other in turn. Where those
    of subjects outside the reference are fewer than half of it, as in a split by slice, all training slices are
    used and ``floor["shared_subjects"]`` is 1. Raises :class:`DataError` for fewer than 2 held-out slices.
    """
    if len(images) < 2:
        raise DataError(f"an evaluation needs at least 2 held-out slices, got {len(images)}: prepare more subjects")
    generator = np.random.default_rng(seed)
    count = min(config.samples, len(images))
    chosen = np.sort(generator.choice(len(images), count, replace=False))
    held_out, held_out_subjects = images[chosen], [subjects[int(i)] for i in chosen]

    apart = np.flatnonzero(~np.isin(np.asarray(other_subjects), held_out_subjects))
    shared = len(apart) < count / 2
    candidates = np.arange(len(other_images)) if shared else apart
    order = _spread([other_subjects[int(i)] for i in candidates], generator)[: config.samples]
    real = candidates[order]

    features = extractor.features(held_out)
    floor_features = extractor.features(other_images[real])
    floor: dict[str, float] = {}
    if len(real) >= 2:
        error = bootstrap_error(
            floor_features,
            features,
            resamples=config.bootstrap,
            seed=seed,
            groups_x=[other_subjects[int(i)] for i in real],
            groups_y=held_out_subjects,
        )
        floor = {
            "fid": frechet_distance(floor_features, features),
            "kid": 1000 * kernel_distance(floor_features, features),
            "kid_se": 1000 * error,
            "samples": float(len(real)),
            "shared_subjects": float(shared),
        }
    else:
        logger.warning("no floor: there are fewer than 2 training slices to compare the held-out slices with")
    return Reference(
        features=features,
        images=held_out,
        subjects=held_out_subjects,
        floor_features=floor_features,
        floor=floor,
        extractor=extractor.id,
        sha=image_hash(held_out),
    )


def distances(
    features: Features, reference: Reference, config: EvaluationConfig, *, seed: int = 0
) -> dict[str, float]:
    """``fid``, ``kid`` ×1000 and its bootstrap standard error ``kid_se`` (by subject) of features (N, d)."""
    error = bootstrap_error(
        features, reference.features, resamples=config.bootstrap, seed=seed, groups_y=reference.subjects
    )
    return {
        "fid": frechet_distance(features, reference.features),
        "kid": 1000 * kernel_distance(features, reference.features),
        "kid_se": 1000 * error,
    }


def evaluate_generated(
    images: Bytes,
    features: Features,
    reference: Reference,
    training: Bytes,
    config: EvaluationConfig,
    *,
    steps_used: npt.NDArray[Any] | Sequence[int] | None = None,
    seconds: float | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Generated ``images`` and their ``features`` against the reference and the ``training`` slices (M, H, W).

    ===========================  ==================================================================================
    ``gen/fid``                  Fréchet distance to the reference
    ``gen/kid``, ``gen/kid_se``  kernel distance ×1000, and its bootstrap standard error, real slices by subject
    ``gen/*_floor``              what as many real slices of the training split score in place of the generated ones;
                                 ``gen/samples_floor``: how many those were
    ``gen/samples``              N; ``gen/reference_samples``: n
    ``gen/diversity``            mean pairwise RMS distance, in units of [-1, 1]; with ``_real``: of the reference
    ``gen/ms_ssim``              mean MS-SSIM of at most 100 seeded pairs; with ``_real``: of the reference
    ``gen/memorisation``         median distance to the nearest training slice over that of the reference's slices
    ``gen/near_copies``          share nearer than 1 % of the reference's slices are: 0.01 is the null
    ``gen/steps_mean``           mean of ``steps_used`` (N,), denoiser evaluations
    ``gen/seconds_per_image``    ``seconds``, the wall time of the whole sampling, over N
    ``gen/paper_ssim``           SSIM of generated i with real i, two images that have nothing to do with each other:
    ``gen/paper_psnr``           the paper's numbers (PSNR in dB) under its own name, never an objective
    ===========================  ==================================================================================

    Raises :class:`DataError` for fewer than 2 images, or images and features that don't belong together.
    """
    from trainables.similarity import mean_pairwise_distance, psnr, ssim

    if len(images) != len(features) or images.shape[1:] != reference.images.shape[1:] or images.dtype != np.uint8:
        raise DataError(
            f"generated images must be uint8, of the reference's size {reference.images.shape[1:]} and as many as "
            f"their features, got {images.shape} of {images.dtype} and {len(features)} features: sample them again"
        )
    result = {f"gen/{name}": value for name, value in distances(features, reference, config, seed=seed).items()}
    result |= {"gen/samples": float(len(images)), "gen/reference_samples": float(len(reference.images))}
    result |= {f"gen/{name}_floor": value for name, value in reference.floor_at(len(images)).items()}
    for suffix, pictures in (("", images), ("_real", reference.images)):
        result[f"gen/diversity{suffix}"] = mean_pairwise_distance(pictures)
        result[f"gen/ms_ssim{suffix}"] = _mean_similarity_of_pairs(pictures, seed)

    copied = memorisation(images, reference.images, training)
    result |= {f"gen/{name}": value for name, value in copied.items()}

    if steps_used is not None:
        result["gen/steps_mean"] = float(np.mean(np.asarray(steps_used, dtype=np.float64)))
    if seconds is not None:
        result["gen/seconds_per_image"] = seconds / len(images)

    paired = min(len(images), len(reference.images))
    result["gen/paper_ssim"] = float(ssim(images[:paired], reference.images[:paired]).mean())
    result["gen/paper_psnr"] = float(psnr(images[:paired], reference.images[:paired]).mean())
    return result


def evaluate_reconstructions(images: Bytes, reconstructions: npt.NDArray[np.floating[Any]]) -> dict[str, float]:
    """Held-out ``images`` against the autoencoder's ``reconstructions`` (N, H, W) in [-1, 1].

    ``recon/ssim``, ``recon/psnr`` (dB, at most 100 for an identical image), each measured per image on the range
    [0, 1], mean over images, with ``_sd`` the standard deviation between images (0 for a single one); ``recon/mse``
    in units of [-1, 1], as the training loss has it. Reconstructions are clipped to their range first.

    Raises :class:`DataError` for no images, different shapes, or reconstructions that are not finite.
    """
    from trainables.similarity import psnr, ssim

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


def image_hash(images: Bytes) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the images' shape and pixels."""
    digest = hashlib.sha256(repr(images.shape).encode())
    digest.update(images.tobytes())
    return digest.hexdigest()[:16]


def _mean_similarity_of_pairs(images: Bytes, seed: int) -> float:
    from trainables.similarity import ms_ssim, random_pairs

    first, second = random_pairs(len(images), limit=SIMILARITY_PAIRS, seed=seed).T
    return float(ms_ssim(images[first], images[second]).mean())


def _spread(subjects: Sequence[str], generator: np.random.Generator) -> npt.NDArray[np.intp]:
    """A random order of positions that takes one of each subject in turn, so that each prefix is spread over them."""
    shuffled = generator.permutation(len(subjects))
    turns: dict[str, int] = {}
    rank = np.empty(len(subjects), dtype=np.intp)
    for position, index in enumerate(shuffled):
        turn = turns.get(subjects[index], 0)
        turns[subjects[index]] = turn + 1
        rank[position] = turn
    return np.asarray(shuffled[np.argsort(rank, kind="stable")])
