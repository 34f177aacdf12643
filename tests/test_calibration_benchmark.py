"""The made-up arms of the calibration benchmark are what it takes them for: their true KID, spread and subjects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from calibration import at_most
from slice_arms import Arm, Bank, World
from slice_studies import FACTORS, LEVEL, Variant, library, studies

from latentsweep.metrics import KID
from trainables.errors import ConfigError
from trainables.measures.distances import kernel_distance

SUBJECTS, SLICES, WIDTH = 20, 6, 64


@pytest.fixture(scope="module")
def bank() -> Bank:
    """Subjects whose slices are alike, and the same slices moved one way."""
    generator = np.random.default_rng(0)
    own = np.repeat(generator.normal(0.4, 0.2, (SUBJECTS, WIDTH)), SLICES, axis=0)
    real = own + generator.normal(0, 0.3, (SUBJECTS * SLICES, WIDTH))
    moved = real + 0.3 * np.abs(generator.normal(size=WIDTH))
    return Bank(real, moved, np.repeat(np.arange(SUBJECTS), SLICES))


@pytest.fixture(scope="module")
def world(bank: Bank) -> World:
    return bank.world(0)


@pytest.fixture(scope="module")
def arm(world: World) -> Arm:
    return world.tune([60.0], 0.05)[0]


def test_an_arm_has_the_true_score_and_the_spread_that_were_asked(world: World, arm: Arm) -> None:
    logs = np.log(world.truth(world.seeds(arm, 3000, np.random.default_rng(1))))
    assert np.exp(logs.mean()) == pytest.approx(60, rel=0.01)
    assert logs.std() == pytest.approx(0.05, rel=0.1)


def test_a_score_out_of_reach_says_what_is_in_reach(world: World) -> None:
    with pytest.raises(ConfigError, match="have a KID of"):
        world.tune([100_000.0], 0.05)


def test_what_is_measured_is_the_kernel_distance_of_the_features(bank: Bank, world: World, arm: Arm) -> None:
    seeds = world.seeds(arm, 3, np.random.default_rng(2))
    positions = world.images(seeds, np.random.default_rng(3).random((3, 50)))
    names = np.random.default_rng(0).permutation(SUBJECTS)
    pool, held = (np.isin(bank.subjects, half) for half in np.split(names, 2))
    images = bank.real[pool] + arm.strength * (bank.blurred[pool] - bank.real[pool])
    real = bank.real[held]
    alike = (real @ real.T / WIDTH + 1) ** 3
    same = bank.subjects[held][:, None] == bank.subjects[held]
    other = ~np.eye(len(real), dtype=bool)
    for seed, (pairs, sums) in enumerate(zip(*world.measure(seeds, positions), strict=True)):
        found = world.kid(pairs, sums, np.arange(SUBJECTS // 2))
        moved = images[positions[seed]] + seeds.shifts[seed] @ bank.directions
        with_all_pairs = kernel_distance(moved, real)
        assert found == pytest.approx(1000 * (with_all_pairs - alike[other].mean() + alike[~same].mean()), abs=0.01)


def test_scores_of_few_images_and_subjects_average_to_the_truth(world: World, arm: Arm) -> None:
    seeds = world.seeds(arm, 3000, np.random.default_rng(4))
    generator = np.random.default_rng(5)
    alike, sums = world.measure(seeds, world.images(seeds, generator.random((3000, 40))))
    scores = np.array(
        [world.kid(*each, generator.integers(0, len(world.sizes), 6)) for each in zip(alike, sums, strict=True)]
    )
    assert scores.mean() == pytest.approx(world.truth(seeds).mean(), abs=3 * scores.std() / 3000**0.5)


def test_arms_that_begin_with_the_same_noise_have_mostly_the_same_images(world: World, arm: Arm) -> None:
    noise = np.random.default_rng(6).random((50, 100))
    seeds = world.seeds(arm, 50, np.random.default_rng(7))
    first = world.images(seeds, noise)
    other_training = world.images(world.seeds(arm, 50, np.random.default_rng(8)), noise)
    other_noise = world.images(seeds, np.random.default_rng(9).random((50, 100)))
    assert np.mean(first == other_training) > 2 * np.mean(first == other_noise)


def test_as_many_seeds_collapse_as_asked_and_score_far_worse(world: World, arm: Arm) -> None:
    seeds = world.seeds(replace(arm, collapses=0.1), 2000, np.random.default_rng(10))
    assert seeds.collapsed.mean() == pytest.approx(0.1, abs=0.02)
    truth = world.truth(seeds)
    assert np.median(truth[seeds.collapsed]) > 1.5 * np.median(truth[~seeds.collapsed])


def test_in_a_skewed_world_one_subject_in_five_keeps_its_slices(bank: Bank) -> None:
    sizes = bank.world(0, skewed=True).sizes
    assert sorted(sizes) == [4] * 8 + [SLICES] * 2


def test_a_study_has_the_scores_kernels_and_effects_that_are_known(bank: Bank) -> None:
    variant = Variant("made up", subjects=7)
    given = library(bank, variant, seeds=200, world=0)
    logs = np.log(given.kids).mean(axis=1)
    assert np.exp(logs - logs[0]) == pytest.approx(FACTORS, rel=0.05)
    assert np.exp(logs[0]) == pytest.approx(LEVEL, rel=0.05)
    study = next(studies(given, variant, (0, 8), seeds=3, count=1))
    assert [(run.arm, run.seed) for run in study.runs] == [(arm, seed) for arm in "01" for seed in range(3)]
    real = 1000 * study.real.resample(np.ones((1, 7)))[0]
    for run, arm in zip(study.runs, [0, 0, 0, 8, 8, 8], strict=True):
        sums, sizes = np.array(list(run.cross.values())).sum(axis=0)
        alike = run.metrics[KID.name] - real + 2 * sums / sizes
        assert np.isclose(alike, 1000 * given.alike[arm], rtol=1e-9).any()


def test_a_rate_misses_its_target_only_where_chance_does_not_say_so() -> None:
    assert at_most("", 0.06, 12, 200).holds
    assert at_most("", 0.06, 16, 200).holds
    assert not at_most("", 0.06, 22, 200).holds
