"""Real held-out slices that generated ones are compared with, and what other real slices score against them.

Legend: n held-out slices, m training slices of the floor; images are (N, H, W) uint8, features (N, 2048) float32.
KID is ×1000. Functions that need torch import it inside, since a configuration is read without it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from trainables.errors import DataError, StoreError
from trainables.measures.distances import (
    Groups,
    bootstrap_fid,
    bootstrap_kid,
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
"""Pairs of images in a mean MS-SSIM."""

PATCH_SEED = 0
"""Seed of the patches, which both sides of a sliced Wasserstein distance must share."""


class Extractor(Protocol):
    """Turns images into features, as ``inception.InceptionExtractor`` does."""

    @property
    def id(self) -> str: ...

    def features(self, images: Bytes, /) -> Features: ...


@dataclass(frozen=True)
class Reference:
    """Real held-out slices, and how far other real slices are from them."""

    images: Bytes
    """(n, H, W)."""
    features: Features
    subjects: list[str]
    null: npt.NDArray[np.float64]
    """(n,), the distance of each image to the nearest training slice (:func:`.memorisation.nearest`)."""
    floor_images: Bytes
    """(m, H, W) training slices, if possible all of other subjects."""
    floor_features: Features
    floor_subjects: list[str]
    real: dict[str, float]
    """The metrics of :func:`describe_set`."""
    floor: dict[str, float]
    """What the floor's slices score in :func:`compare` in place of generated ones; ``samples``, their number; and
    ``shared_subjects``, 1 where they are of the same subjects, as in a split by slice."""
    extractor: str
    """The extractor's id."""
    sha: str
    """A hash of the images."""

    @cached_property
    def patches(self) -> Patches:
        """The images' patches, for the sliced Wasserstein distance."""
        from trainables.measures.patches import describe

        return describe(self.images, seed=PATCH_SEED)

    def save(self, folder: Path) -> None:
        """Writes ``reference.safetensors`` and then ``reference.json``; raises :class:`StoreError` where it can't."""
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
        except (OSError, ValueError, TypeError, RecursionError, SafetensorError) as error:
            raise StoreError(
                f"the reference in {folder} cannot be read ({error}); move it away to build it again"
            ) from error
        lengths = {len(each) for each in (reference.features, reference.images, reference.subjects, reference.null)}
        floors = {len(reference.floor_images), len(reference.floor_features), len(reference.floor_subjects)}
        if len(lengths) != 1 or len(floors) != 1 or image_hash(reference.images) != reference.sha:
            raise StoreError(f"the reference in {folder} is damaged; move it away to build it again")
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
    """A reference of all held-out ``images``, and a floor of ``samples`` training slices, where there are as many.

    The floor is drawn from ``other_images`` by ``seed``, one of each subject in turn: of subjects outside the
    reference, or of all where those have fewer than half as many. Raises :class:`DataError` for fewer than 2 held-out
    slices.
    """
    from trainables.measures.memorisation import nearest

    if len(images) < 2:
        raise DataError(f"an evaluation needs at least 2 held-out slices, got {len(images)}: prepare more subjects")
    generator = np.random.default_rng(seed)
    apart = np.flatnonzero(~np.isin(np.asarray(other_subjects), subjects))
    shared = len(apart) < min(samples, len(other_images)) / 2
    candidates = np.arange(len(other_images)) if shared else apart
    order = spread_over([other_subjects[int(i)] for i in candidates], generator)[:samples]
    training = candidates[order]

    reference = Reference(
        images=images,
        features=extractor.features(images),
        subjects=list(subjects),
        null=nearest(images, other_images).distances if len(other_images) else np.zeros(0),
        floor_images=other_images[training],
        floor_features=extractor.features(other_images[training]),
        floor_subjects=[other_subjects[int(i)] for i in training],
        real=describe_set(images, seed),
        floor={},
        extractor=extractor.id,
        sha=image_hash(images),
    )
    if len(training) < 2:
        logger.warning("no floor: there are fewer than 2 training slices to compare the held-out slices with")
        return reference
    scores = compare(
        reference.floor_images,
        reference.floor_features,
        reference,
        bootstrap=bootstrap,
        seed=seed,
        groups=reference.floor_subjects,
    )
    reference.floor.update(scores, samples=float(len(training)), shared_subjects=float(shared))
    return reference


def compare(
    images: Bytes, features: Features, reference: Reference, *, bootstrap: int, seed: int, groups: Groups = None
) -> dict[str, float]:
    """Images (N, H, W) with their features against the reference: the distances of docs/metrics.md.

    Real slices are grouped and resampled by subject, and so are the images where ``groups`` names the subject of
    each. Generated images have none.
    Raises :class:`DataError` for fewer than 2 images.
    """
    from trainables.measures.manifold import NEIGHBOURS, precision_recall
    from trainables.measures.patches import describe, sliced_wasserstein
    from trainables.measures.spectra import spectrum_distance

    scores = fid_and_kid(features, reference, bootstrap=bootstrap, seed=seed, groups=groups)
    draws = bootstrap_fid(
        features, reference.features, resamples=bootstrap, seed=seed, groups_x=groups, groups_y=reference.subjects
    )
    scores["fid_low"], scores["fid_high"] = interval(scores["fid"], draws)
    if min(len(features), len(reference.features)) > NEIGHBOURS:
        scores["precision"], scores["recall"] = precision_recall(reference.features, features)
    scores["spectrum_distance"] = spectrum_distance(images, reference.images)
    scores["swd"] = sliced_wasserstein(describe(images, seed=PATCH_SEED), reference.patches)
    return scores


def fid_and_kid(
    features: Features, reference: Reference, *, bootstrap: int, seed: int = 0, groups: Groups = None
) -> dict[str, float]:
    """``fid`` and ``kid`` (×1000) of features (N, d); ``kid`` also with ``_se``, the standard error by the bootstrap,
    and with ``_low`` and ``_high``, the ends of its 95 % interval. ``groups`` as in :func:`compare`."""
    draws = 1000 * bootstrap_kid(
        features, reference.features, resamples=bootstrap, seed=seed, groups_x=groups, groups_y=reference.subjects
    )
    kid = 1000 * kernel_distance(features, reference.features, groups, reference.subjects)
    low, high = interval(kid, draws)
    return {
        "fid": frechet_distance(features, reference.features),
        "kid": kid,
        "kid_se": float(np.std(draws, ddof=1)),
        "kid_low": low,
        "kid_high": high,
    }


def describe_set(images: Bytes, seed: int) -> dict[str, float]:
    """The measures of a set that need no second one: ``diversity``, ``ms_ssim`` and ``high_frequency_share``."""
    from trainables.measures.similarity import mean_pairwise_distance, mean_similarity
    from trainables.measures.spectra import high_frequency_share

    return {
        "diversity": mean_pairwise_distance(images),
        "ms_ssim": mean_similarity(images, pairs=SIMILARITY_PAIRS, seed=seed),
        "high_frequency_share": float(high_frequency_share(images).mean()),
    }


def image_hash(images: Bytes) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the images' shape and pixels."""
    return hashlib.sha256(repr(images.shape).encode() + images.tobytes()).hexdigest()[:16]


def spread_over(subjects: Sequence[str], generator: np.random.Generator) -> npt.NDArray[np.intp]:
    """A random order of positions that takes one of each subject in turn."""
    shuffled = generator.permutation(len(subjects))
    turns: Counter[str] = Counter()
    rank = []
    for index in shuffled:
        rank.append(turns[subjects[index]])
        turns[subjects[index]] += 1
    return np.asarray(shuffled[np.argsort(rank, kind="stable")])
