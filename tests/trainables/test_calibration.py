"""The metrics on real slices: real against real scores as nothing, copies are flagged, other patients are not.

The slices are those of the RSNA-MICCAI scans of ``LATENTSWEEP_TEST_DATA``, about 865 of 70 subjects.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from latentsweep.datasets.preparation import prepare
from latentsweep.datasets.pseudonyms import KEY_BYTES, KEY_FILE
from trainables.measures.distances import (
    bootstrap_fid,
    bootstrap_kid,
    frechet_distance,
    interval,
    kernel_distance,
)
from trainables.measures.inception import InceptionExtractor
from trainables.measures.manifold import precision_recall
from trainables.measures.memorisation import near_copy_threshold, nearest
from trainables.measures.patches import describe, sliced_wasserstein
from trainables.measures.spectra import spectrum_distance
from trainables.measures.weights import find_weights

pytestmark = pytest.mark.slow

SPLITS = 50
MANY_SPLITS = 400
SAMPLES = 200
RESAMPLES = 200


@dataclass(frozen=True)
class Slices:
    images: np.ndarray
    subjects: np.ndarray
    split: np.ndarray

    def of(self, split: str) -> np.ndarray:
        return self.images[self.split == split]

    def halves(self, generator: np.random.Generator, *, by_subject: bool) -> tuple[np.ndarray, np.ndarray]:
        """Positions of SAMPLES slices on each side: of any subject, or of other subjects than the other side's."""
        if not by_subject:
            chosen = generator.permutation(len(self.images))
            return chosen[:SAMPLES], chosen[SAMPLES : 2 * SAMPLES]
        names = generator.permutation(np.unique(self.subjects))
        first = np.isin(self.subjects, names[: len(names) // 2])
        return tuple(generator.choice(np.flatnonzero(side), SAMPLES, replace=False) for side in (first, ~first))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def slices(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Slices:
    source = test_data / "rsna_miccai"
    if not source.is_dir():
        pytest.skip("no RSNA-MICCAI scans in the folder that LATENTSWEEP_TEST_DATA names")
    home = tmp_path_factory.mktemp("home")
    (home / KEY_FILE).write_bytes(bytes(KEY_BYTES))  # so that subjects have one order, and every run the same halves
    dataset = prepare("kaggle", home=home, source=source, size=128)
    parts = {split: dataset.load(split) for split in ("train", "validation", "test")}
    return Slices(
        np.concatenate([part.images for part in parts.values()]),
        np.array([subject for part in parts.values() for subject in part.subjects]),
        np.array([split for split, part in parts.items() for _ in range(len(part))]),
    )


@pytest.fixture(scope="module")
def features(slices: Slices) -> np.ndarray:
    return InceptionExtractor(find_weights()).features(slices.images)


def copies(images: np.ndarray, what: str, generator: np.random.Generator) -> np.ndarray:
    """Near copies (N, H, W): each image flipped, shifted by 1 to 3 pixels, under noise of 5 to 10 grey levels."""
    made = []
    for image in images.astype(float):
        if what in ("flip", "flip shift noise"):
            image = image[:, ::-1]
        if what in ("shift", "flip shift noise"):
            down, across = generator.choice([-3, -2, -1, 1, 2, 3], 2)
            padded = np.pad(image, 3)
            image = padded[3 + down : 131 + down, 3 + across : 131 + across]
        if what in ("noise", "flip shift noise"):
            image = image + generator.normal(0, generator.uniform(5, 10), image.shape)
        made.append(np.clip(np.rint(image), 0, 255).astype(np.uint8))
    return np.stack(made)


def test_the_interval_of_real_against_real_slices_holds_zero(slices: Slices, features: np.ndarray) -> None:
    generator = np.random.default_rng(0)
    held, distances, errors = 0, [], []
    for seed in range(SPLITS):
        first, second = slices.halves(generator, by_subject=False)
        draws = bootstrap_kid(features[first], features[second], resamples=RESAMPLES, seed=seed)
        distances.append(kernel_distance(features[first], features[second]))
        errors.append(draws.std(ddof=1))
        low, high = interval(distances[-1], draws)
        held += low <= 0 <= high
    assert held >= 0.9 * SPLITS
    assert abs(np.mean(distances)) < np.std(distances)
    assert np.mean(errors) < 2.5 * np.std(distances), "an interval that is far too wide would hold anything"


def test_the_distance_of_slices_of_other_subjects_is_zero_on_average(slices: Slices, features: np.ndarray) -> None:
    generator = np.random.default_rng(8)
    apart, all_pairs = [], []
    for _ in range(MANY_SPLITS):
        first, second = slices.halves(generator, by_subject=True)
        groups = [list(slices.subjects[side]) for side in (first, second)]
        apart.append(1000 * kernel_distance(features[first], features[second], *groups))
        all_pairs.append(1000 * kernel_distance(features[first], features[second]))
    assert abs(np.mean(apart)) < 0.5
    assert np.std(apart) == pytest.approx(np.std(all_pairs), rel=0.05)
    assert np.mean(all_pairs) > 2, "pairs of slices of one subject"


def test_by_subject_the_interval_holds_zero_often_enough_only_if_whole_subjects_are_resampled(
    slices: Slices, features: np.ndarray
) -> None:
    generator = np.random.default_rng(1)
    held = dict.fromkeys(("by subject", "by image"), 0)
    for seed in range(SPLITS):
        first, second = slices.halves(generator, by_subject=True)
        groups = {"groups_x": list(slices.subjects[first]), "groups_y": list(slices.subjects[second])}
        distance = kernel_distance(features[first], features[second], *groups.values())
        for name, given in (("by subject", groups), ("by image", {})):
            draws = bootstrap_kid(features[first], features[second], resamples=RESAMPLES, seed=seed, **given)
            low, high = interval(distance, draws)
            held[name] += low <= 0 <= high
    assert held["by subject"] >= 0.95 * SPLITS  # measured: all of 400 splits
    assert held["by image"] <= 0.92 * SPLITS  # measured: 80 % of 400 splits


def test_the_interval_leaves_zero_out_where_slices_are_blurred(slices: Slices, features: np.ndarray) -> None:
    generator = np.random.default_rng(2)
    first, second = slices.halves(generator, by_subject=False)
    blurred = gaussian_filter(slices.images[first[:40]], (0, 1.5, 1.5))
    theirs = InceptionExtractor(find_weights()).features(blurred)
    draws = bootstrap_kid(
        theirs, features[second], resamples=RESAMPLES, seed=0, groups_y=list(slices.subjects[second])
    )
    assert interval(kernel_distance(theirs, features[second]), draws)[0] > 0


def test_the_frechet_distance_of_real_slices_is_within_the_interval_of_another_split(
    slices: Slices, features: np.ndarray
) -> None:
    generator = np.random.default_rng(3)
    scored = []
    for seed in range(12):
        first, second = slices.halves(generator, by_subject=False)
        x, y = features[first], features[second]
        distance = frechet_distance(x, y)
        scored.append((distance, *interval(distance, bootstrap_fid(x, y, resamples=60, seed=seed))))
    distances, lows, highs = np.array(scored).T
    assert np.mean((lows <= distances.mean()) & (distances.mean() <= highs)) >= 0.8


def test_real_slices_are_on_their_own_manifold_and_noise_is_not(slices: Slices, features: np.ndarray) -> None:
    first, second = slices.halves(np.random.default_rng(4), by_subject=False)
    precision, recall = precision_recall(features[first], features[second])
    assert precision > 0.6
    assert recall > 0.6
    noise = np.random.default_rng(0).integers(0, 256, (16, 128, 128), dtype=np.uint8)
    other = InceptionExtractor(find_weights()).features(noise)
    assert precision_recall(features[first], other)[0] == 0


def test_patches_of_real_slices_are_near_and_grow_apart_with_blur_and_noise(slices: Slices) -> None:
    generator = np.random.default_rng(5)
    blurs, noises = (0.7, 1.0, 1.5, 2.0, 3.0), (5, 10, 20, 40)
    measured: list[list[float]] = []
    for _ in range(5):  # of halves: one alone can lie far apart by its subjects
        first, second = slices.halves(generator, by_subject=True)
        real, other = describe(slices.images[first], 0), slices.images[second]
        assert sliced_wasserstein(real, describe(slices.images[first], 0)) == 0
        noise = generator.normal(size=other.shape)
        changed = [other, *(gaussian_filter(other, (0, sd, sd)) for sd in blurs)]
        changed += [np.clip(np.rint(other + sd * noise), 0, 255).astype(np.uint8) for sd in noises]
        measured.append([sliced_wasserstein(real, describe(images, 0)) for images in changed])
    floor, *distances = np.mean(measured, axis=0)
    for grown in (distances[: len(blurs)], distances[len(blurs) :]):
        assert [floor, *grown] == sorted([floor, *grown])
        assert grown[-1] > 3 * floor


def test_spectra_of_real_slices_are_near_and_grow_apart_with_blur(slices: Slices) -> None:
    first, second = slices.halves(np.random.default_rng(6), by_subject=True)
    other = slices.images[second]
    distances = [
        spectrum_distance(slices.images[first], gaussian_filter(other, (0, sd, sd))) for sd in (0, 0.5, 1, 2)
    ]
    assert distances == sorted(distances)
    assert distances[0] < 1.5
    assert distances[1] > 2 * distances[0]


@pytest.mark.parametrize("what", ["flip", "shift", "noise", "flip shift noise"])
def test_planted_copies_of_training_slices_are_flagged(slices: Slices, what: str) -> None:
    training = slices.of("train")
    threshold = near_copy_threshold(nearest(slices.of("validation"), training).distances)
    generator = np.random.default_rng(7)
    sources = generator.choice(len(training), 100, replace=False)
    found = nearest(copies(training[sources], what, generator), training)
    assert np.mean(found.distances <= threshold) >= 0.95
    assert np.mean(found.indices == sources) >= 0.95


def test_slices_of_other_patients_are_not_flagged(slices: Slices) -> None:
    training = slices.of("train")
    threshold = near_copy_threshold(nearest(slices.of("validation"), training).distances)
    assert np.mean(nearest(slices.of("test"), training).distances <= threshold) <= 0.05


@pytest.mark.parametrize("seed", range(4))
def test_nor_on_other_partitions_of_the_patients(slices: Slices, seed: int) -> None:
    names = np.random.default_rng(seed).permutation(np.unique(slices.subjects))
    ends = int(0.7 * len(names)), int(0.85 * len(names))
    training, validation, test = (slices.images[np.isin(slices.subjects, part)] for part in np.split(names, ends))
    threshold = near_copy_threshold(nearest(validation, training).distances)
    assert np.mean(nearest(test, training).distances <= threshold) <= 0.05
