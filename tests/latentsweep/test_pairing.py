"""The paired error of two configurations against what it claims, on a generator that is not its own model.

Features are (n, 64) with a decaying spectrum. Real slices are of a few subjects, unequal in size, whose means are
skewed. Images come in three clusters; two configurations share cluster and most of the noise of each image, and
differ in a shift and in the spread of the clusters.
"""

from __future__ import annotations

import dataclasses
import json
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from latentsweep.search.pairing import Pairing, paired_error
from trainables.measures.distances import bootstrap_kid, kernel_by_group, kernel_distance

Floats = npt.NDArray[np.float64]

WIDTH = 64
SPECTRUM = np.arange(1, WIDTH + 1) ** -0.75 * 4
SHIFT = np.abs(np.random.default_rng(3).normal(size=WIDTH)) * SPECTRUM
SHIFT *= 0.5 / np.linalg.norm(SHIFT)
CLUSTERS = np.random.default_rng(5).normal(size=(3, WIDTH)) * SPECTRUM * 0.05
SHARES = [0.6, 0.3, 0.1]
CLUSTERS -= np.array(SHARES) @ CLUSTERS
NEAR, FAR = 0.705, 0.832
"""Shifts at which the KIDs are 22 and 31."""


class Drawn(NamedTuple):
    """One draw of subjects and images: the KIDs of the configurations, their pairing, and their features."""

    kids: Floats
    pairings: list[Pairing]
    images: list[Floats]
    real: Floats
    subjects: list[str]


def kernel(x: Floats, y: Floats) -> Floats:
    """The kernel of KID."""
    return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)


def real_slices(draw: np.random.Generator, sizes: npt.NDArray[np.int_]) -> Floats:
    """Slices of so many subjects of these sizes; the means of subjects are skewed."""
    means = 0.1 * SPECTRUM * (draw.exponential(size=(len(sizes), WIDTH)) - 1)
    return np.asarray(
        0.9 + np.repeat(means, sizes, axis=0) + 0.06 * SPECTRUM * draw.normal(size=(sizes.sum(), WIDTH))
    )


def generated(draw: np.random.Generator, count: int, shifts: tuple[float, ...], own: float) -> list[Floats]:
    """Images of configurations with these shifts; ``own`` is the part of the noise that each has for itself."""
    cluster, noise = draw.choice(3, size=count, p=SHARES), draw.normal(size=(count, WIDTH))
    found = []
    for shift in shifts:
        mixed = noise * np.sqrt(1 - own**2) + own * draw.normal(size=noise.shape)
        found.append(0.9 + CLUSTERS[cluster] * (1 + 0.2 * shift) + 0.1 * SPECTRUM * mixed + shift * SHIFT)
    return found


def drawn(
    seed: int, *, subjects: int = 20, count: int = 200, shifts: tuple[float, ...] = (NEAR, FAR), own: float = 0.2
) -> Drawn:
    """Subjects of 3 to 40 slices, and images of two configurations."""
    draw = np.random.default_rng(seed)
    sizes = np.clip(np.exp(draw.normal(2.2, 0.7, subjects)), 3, 40).astype(int)
    real, images = real_slices(draw, sizes), generated(draw, count, shifts, own)
    names = [f"subject {each}" for each in np.repeat(np.arange(subjects), sizes)]
    within = kernel(real, real)
    alike = (within.sum() - np.trace(within)) / (len(real) * (len(real) - 1))
    kids, pairings = [], []
    for each in images:
        own_kernel, cross = kernel(each, each), kernel(each, real)
        beside = (own_kernel.sum(axis=1) - np.diag(own_kernel)) / (count - 1)
        kids.append(1000 * (alike + beside.mean() - 2 * cross.mean()))
        by_subject = np.add.reduceat(cross.mean(axis=0), np.cumsum([0, *sizes[:-1]]))
        pairings.append(Pairing(1000 * (beside - cross.mean(axis=1)), 1000 * by_subject, sizes.astype(np.float64)))
    return Drawn(np.array(kids), pairings, images, real, names)


@pytest.mark.slow
@pytest.mark.parametrize(("subjects", "count", "own"), [(20, 200, 0.2), (20, 200, 0.5), (12, 100, 0.2)])
def test_the_paired_error_is_the_spread_over_draws_of_subjects_and_images(
    subjects: int, count: int, own: float
) -> None:
    found = [drawn(seed, subjects=subjects, count=count, own=own) for seed in range(200)]
    differences = np.array([each.kids[1] - each.kids[0] for each in found])
    errors = np.array([paired_error(*each.pairings) for each in found])
    spread = differences.std(ddof=1)
    assert errors.mean() == pytest.approx(spread, rel=0.15)
    unpaired = np.hypot(*np.array([each.kids for each in found]).std(axis=0))
    assert spread < unpaired / 3, "pairing is worth it here"
    assert np.mean(np.abs(differences) <= 1.96 * errors) <= 0.2, "22 is told from 31"
    assert np.mean(np.abs(differences - differences.mean()) <= 1.96 * errors) >= 0.9


def test_the_kids_of_the_generator_are_22_and_31() -> None:
    draw = np.random.default_rng(9)
    kids = []
    for _ in range(24):
        real = real_slices(draw, np.ones(400, dtype=np.int_))
        kids.append([1000 * kernel_distance(images, real) for images in generated(draw, 400, (NEAR, FAR), 0.2)])
    assert np.mean(kids, axis=0) == pytest.approx([22, 31], abs=2)


def test_the_closed_form_is_the_joint_bootstrap_of_subjects_and_images() -> None:
    for seed in range(3):
        made = drawn(seed, subjects=40, count=200)
        draws = [
            1000 * bootstrap_kid(each, made.real, resamples=3000, seed=1, groups_y=made.subjects)
            for each in made.images
        ]
        joint = float(np.std(draws[1] - draws[0], ddof=1))
        assert paired_error(*made.pairings) == pytest.approx(joint, rel=0.05)


def test_the_kernels_of_an_evaluation_give_the_same_error_whatever_the_order_of_subjects() -> None:
    made = drawn(0, subjects=5, count=30)
    found = []
    for order in (1, -1):
        both = []
        for images, pairing in zip(made.images, made.pairings, strict=True):
            by_subject = list(kernel_by_group(images, made.real, made.subjects).items())[::order]
            point = {"kernel_by_image": list(pairing.images / 1000), "kernel_by_subject": dict(by_subject)}
            both.append(Pairing.of(point, "reference/1 seed 0"))
        found.append(paired_error(*both))
    assert found == pytest.approx([paired_error(*made.pairings)] * 2)


def test_what_the_study_keeps_is_small_names_nobody_and_gives_the_same_error() -> None:
    made = drawn(0)
    texts = [pairing.to_plain() for pairing in made.pairings]
    stored = json.dumps(texts[0])
    assert "subject" not in stored
    assert len(stored) < 2500, "bytes of an attribute for 200 images and 20 subjects"
    again = [Pairing.from_plain(json.loads(json.dumps(each))) for each in texts]
    assert paired_error(*again) == pytest.approx(paired_error(*made.pairings), rel=1e-3)
    assert paired_error(again[0], again[0]) == 0


def test_configurations_that_share_nothing_have_no_paired_error() -> None:
    first, second = drawn(0, subjects=4, count=20).pairings
    assert paired_error(first, None) is None
    assert Pairing.from_plain(None) is None
    assert Pairing.of({"kernel_by_subject": {"a": (1.0, 2)}}, "") is None, "of an evaluation without images' kernels"
    for change in (
        {"images": second.images[1:]},
        {"sizes": second.sizes + 1},
        {"sums": second.sums[1:], "sizes": second.sizes[1:]},
        {"shared": "other real slices"},
    ):
        assert paired_error(first, dataclasses.replace(second, **change)) is None
    alone = [dataclasses.replace(each, sums=each.sums[:1], sizes=each.sizes[:1]) for each in (first, second)]
    assert paired_error(*alone) is None, "one subject doesn't say how subjects differ"
