"""Real held-out slices that generated ones are compared with, and what real slices score against them.

Legend: n held-out slices, m training slices of the floor; images are (N, H, W) uint8, features (N, 2048) float32.
KID is ×1000 everywhere here. torch is imported inside the functions that need it, so that reading a configuration
stays quick.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from trainables.errors import DataError, StoreError
from trainables.measures.distances import (
    bootstrap_distances,
    bootstrap_frechet,
    frechet_distance,
    interval,
    kernel_distance,
)

if TYPE_CHECKING:
    from trainables.measures.patches import Patches

logger = logging.getLogger(__name__)

Bytes = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]

SIMILARITY_PAIRS = 100
"""Pairs of images behind a mean MS-SSIM."""


PATCH_SEED = 0
"""Of the patches and projections, which both sides of a sliced Wasserstein distance must share."""


class Extractor(Protocol):
    """What turns images into features; ``inception.InceptionExtractor`` is the one that FID names."""

    @property
    def id(self) -> str: ...

    def features(self, images: Bytes, /) -> Features: ...


@dataclass(frozen=True)
class Reference:
    """Real held-out slices, and how far other real slices are from them.

    ``features`` (n, 2048) of ``images`` (n, H, W), each of one of ``subjects``; ``null`` (n,) is the distance of
    each to the nearest training slice (:func:`trainables.measures.memorisation.nearest`), and ``real`` what these
    slices score in the measures that need no second set: ``diversity``, ``ms_ssim``, ``high_frequency_share``.

    ``floor_images`` (m, H, W) and ``floor_features`` are training slices, if possible all of other subjects;
    ``floor`` is what they score as if they were generated, in the measures of :func:`compared`, with ``samples``
    their number and ``shared_subjects``, which is 1 where they are of the same subjects, as in a split by slice.
    ``extractor`` is the extractor's id, ``sha`` a hash of the images.
    """

    images: Bytes
    features: Features
    subjects: list[str]
    null: npt.NDArray[np.float64]
    floor_images: Bytes
    floor_features: Features
    real: dict[str, float]
    floor: dict[str, float]
    extractor: str
    sha: str

    @cached_property
    def patches(self) -> Patches:
        """The slices as the sliced Wasserstein distance sees them."""
        from trainables.measures.patches import describe

        return describe(self.images, seed=PATCH_SEED)

    def save(self, folder: Path) -> None:
        """Writes ``reference.safetensors`` and then ``reference.json`` into ``folder``."""
        from safetensors.numpy import save_file

        described = asdict(self)
        names = [name for name, value in described.items() if isinstance(value, np.ndarray)]
        arrays = {name: np.ascontiguousarray(described.pop(name)) for name in names}
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
        lengths = {len(reference.features), len(reference.images), len(reference.subjects), len(reference.null)}
        if len(lengths) != 1 or image_hash(reference.images) != reference.sha:
            raise StoreError(f"the reference in {folder} is damaged; remove it to build it again")
        return reference


def build_reference(
    images: Bytes,
    subjects: Sequence[str],
    other_images: Bytes,
    other_subjects: Sequence[str],
    extractor: Extractor,
    *,
    samples: int,
    bootstrap: int,
    seed: int,
) -> Reference:
    """A reference from a seeded draw of at most ``samples`` of the held-out ``images``, all where fewer.

    The floor is drawn from ``other_images``, the training slices, one subject after the other in turn. Where those
    of subjects outside the reference are fewer than half of it, as in a split by slice, all training slices are
    used and ``floor["shared_subjects"]`` is 1. Raises :class:`DataError` for fewer than 2 held-out slices.
    """
    from trainables.measures.memorisation import nearest
    from trainables.measures.similarity import mean_pairwise_distance, mean_similarity
    from trainables.measures.spectra import high_frequency_share

    if len(images) < 2:
        raise DataError(f"an evaluation needs at least 2 held-out slices, got {len(images)}: prepare more subjects")
    generator = np.random.default_rng(seed)
    count = min(samples, len(images))
    chosen = np.sort(generator.choice(len(images), count, replace=False))
    held_out, held_out_subjects = images[chosen], [subjects[int(i)] for i in chosen]

    apart = np.flatnonzero(~np.isin(np.asarray(other_subjects), held_out_subjects))
    shared = len(apart) < count / 2
    candidates = np.arange(len(other_images)) if shared else apart
    order = _spread([other_subjects[int(i)] for i in candidates], generator)[:samples]
    training = candidates[order]

    reference = Reference(
        images=held_out,
        features=extractor.features(held_out),
        subjects=held_out_subjects,
        null=nearest(held_out, other_images).distances if len(other_images) else np.zeros(0),
        floor_images=other_images[training],
        floor_features=extractor.features(other_images[training]),
        real={
            "diversity": mean_pairwise_distance(held_out),
            "ms_ssim": mean_similarity(held_out, pairs=SIMILARITY_PAIRS, seed=seed),
            "high_frequency_share": float(high_frequency_share(held_out).mean()),
        },
        floor={},
        extractor=extractor.id,
        sha=image_hash(held_out),
    )
    if len(training) < 2:
        logger.warning("no floor: there are fewer than 2 training slices to compare the held-out slices with")
        return reference
    groups = [other_subjects[int(i)] for i in training]
    reference.floor.update(
        compared(
            reference.floor_images,
            reference.floor_features,
            reference,
            bootstrap=bootstrap,
            seed=seed,
            groups=groups,
        ),
        samples=float(len(training)),
        shared_subjects=float(shared),
    )
    return reference


def compared(
    images: Bytes,
    features: Features,
    reference: Reference,
    *,
    bootstrap: int,
    seed: int,
    groups: Sequence[str] | None = None,
) -> dict[str, float]:
    """Images (N, H, W) with their features against the reference.

    ======================  =======================================================================================
    ``fid``                 Fréchet distance (:func:`~distances.frechet_distance`); with ``_low`` and
                            ``_high`` its 95 % bootstrap interval
    ``kid``                 kernel distance ×1000; with ``_se`` its bootstrap standard error, with ``_low`` and
                            ``_high`` its 95 % interval
    ``precision``           share of the images within the manifold of the real ones, ``recall`` the reverse
                            (:func:`trainables.measures.manifold.precision_recall`)
    ``spectrum_distance``   of the radial power spectra, dB (:func:`trainables.measures.spectra.spectrum_distance`)
    ``swd``                 sliced Wasserstein distance ×1000 of pyramid patches, a feature space without a network
                            (:func:`trainables.measures.patches.sliced_wasserstein`)
    ======================  =======================================================================================

    Real slices are resampled by subject, and so are the images where ``groups`` names the subject of each.
    """
    from trainables.measures.manifold import NEIGHBOURS, precision_recall
    from trainables.measures.patches import describe, sliced_wasserstein
    from trainables.measures.spectra import spectrum_distance

    scores = distances(features, reference, bootstrap=bootstrap, seed=seed, groups=groups)
    draws = bootstrap_frechet(
        features,
        reference.features,
        resamples=bootstrap,
        seed=seed,
        groups_x=groups,
        groups_y=reference.subjects,
    )
    scores["fid_low"], scores["fid_high"] = interval(scores["fid"], draws)
    if min(len(features), len(reference.features)) > NEIGHBOURS:
        scores["precision"], scores["recall"] = precision_recall(reference.features, features)
    scores["spectrum_distance"] = spectrum_distance(images, reference.images)
    scores["swd"] = sliced_wasserstein(describe(images, seed=PATCH_SEED), reference.patches)
    return scores


def distances(
    features: Features,
    reference: Reference,
    *,
    bootstrap: int,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> dict[str, float]:
    """``fid``, and ``kid`` with its ``_se``, ``_low`` and ``_high``, of features (N, d): see :func:`compared`."""
    draws = 1000 * bootstrap_distances(
        features, reference.features, resamples=bootstrap, seed=seed, groups_x=groups, groups_y=reference.subjects
    )
    kid = 1000 * kernel_distance(features, reference.features)
    low, high = interval(kid, draws)
    return {
        "fid": frechet_distance(features, reference.features),
        "kid": kid,
        "kid_se": float(np.std(draws, ddof=1)),
        "kid_low": low,
        "kid_high": high,
    }


def image_hash(images: Bytes) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the images' shape and pixels."""
    digest = hashlib.sha256(repr(images.shape).encode())
    digest.update(images.tobytes())
    return digest.hexdigest()[:16]


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
