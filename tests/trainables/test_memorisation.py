"""Copies are found through flips, shifts and noise, the threshold is calibrated, undefined ratios are left out."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from trainables.errors import DataError
from trainables.measures import memorisation as module
from trainables.measures.memorisation import (
    Nearest,
    align,
    memorisation,
    near_copy_bound,
    near_copy_threshold,
    nearest,
)


def draw(count: int, seed: int, side: int = 64) -> np.ndarray:
    """Textured discs on black, each of its own texture."""
    generator = np.random.default_rng(seed)
    texture = gaussian_filter(generator.normal(size=(count, side, side)), (0, 2.5, 2.5)) * 500 + 110
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.where(np.hypot(y, x) < side * 0.35, np.clip(texture, 0, 255), 0).astype(np.uint8)


def test_an_exact_copy_is_at_distance_zero_and_is_named() -> None:
    for side in (16, 50, 64, 128):
        training = draw(6, 0, side)
        found = nearest(training[3:5], training)
        assert found.distances.tolist() == [0, 0]
        assert found.indices.tolist() == [3, 4]


def test_flips_and_shifts_are_undone() -> None:
    training = draw(30, 0)
    for down, across in ((0, 0), (3, -2), (-1, 4), (-4, -4)):
        for flip in (1, -1):
            found = nearest(np.roll(training[:, :, ::flip], (down, across), axis=(1, 2)), training)
            assert found.distances.max() == 0
            assert found.indices.tolist() == list(range(30))


def test_a_shift_beyond_reach_is_not() -> None:
    training = draw(30, 0)
    assert nearest(np.roll(training, 12, axis=1), training).distances.min() > 0.3


def test_slight_noise_and_another_contrast_cost_little() -> None:
    training = draw(30, 0)
    noise = np.random.default_rng(1).normal(0, 10, training.shape)
    changed = np.clip(0.7 * training + 20 + noise, 0, 255).astype(np.uint8)
    found = nearest(changed, training)
    assert found.indices.tolist() == list(range(30))
    assert found.distances.max() < 0.3
    assert nearest(draw(30, 2), training).distances.min() > 0.8


def test_images_are_compared_in_parts_as_they_are_together(monkeypatch: pytest.MonkeyPatch) -> None:
    images, training = draw(7, 0, 32), draw(12, 1, 32)
    whole = nearest(images, training)
    monkeypatch.setattr(module, "CHUNK_COMPARED", 3)
    parts = nearest(images, training)
    assert (parts.indices == whole.indices).all()
    assert parts.distances == pytest.approx(whole.distances)


@pytest.mark.slow
def test_the_distance_is_that_of_the_whole_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CANDIDATES", 12)
    images, training = draw(5, 0, 32), draw(12, 1, 32)

    def band(image: np.ndarray) -> np.ndarray:
        values = image / 127.5 - 1
        fine, coarse = (gaussian_filter(values, sd, mode="wrap", truncate=8) for sd in (module.FINE, module.COARSE))
        return (fine - coarse) / (fine - coarse).std()

    shifts = range(-module.REACH, module.REACH + 1)
    plain = [
        [
            min(
                np.sqrt(np.mean((np.roll(band(image)[:, ::flip], (down, across), (0, 1)) - band(other)) ** 2))
                for flip in (1, -1)
                for down in shifts
                for across in shifts
            )
            for other in training
        ]
        for image in images
    ]
    found = nearest(images, training)
    np.testing.assert_allclose(found.distances, np.min(plain, axis=1), atol=1e-3)
    assert found.indices.tolist() == np.argmin(plain, axis=1).tolist()


def test_the_search_does_not_depend_on_how_it_is_cut_up(monkeypatch: pytest.MonkeyPatch) -> None:
    images, training = draw(20, 0, 32), draw(40, 1, 32)
    whole = nearest(images, training)
    monkeypatch.setattr(module, "CHUNK_TRAINING", 7)
    monkeypatch.setattr(module, "CHUNK_IMAGES", 3)
    parts = nearest(images, training)
    np.testing.assert_allclose(parts.distances, whole.distances, atol=1e-6)
    assert parts.indices.tolist() == whole.indices.tolist()


def test_blank_images_are_copies_of_blank_ones_only() -> None:
    blank = np.full((1, 64, 64), 40, np.uint8)
    assert nearest(blank, np.concatenate([blank, blank])).distances.tolist() == [0]
    assert nearest(blank, draw(4, 0)).distances[0] == pytest.approx(1)


def test_some_of_what_was_found_can_be_chosen() -> None:
    found = Nearest(np.array([0.3, 0.1, 0.2]), np.array([7, 8, 9]))
    chosen = found[np.argsort(found.distances)[:2]]
    assert len(found) == 3
    assert chosen.distances.tolist() == [0.1, 0.2]
    assert chosen.indices.tolist() == [8, 9]


def test_the_threshold_is_half_the_median_or_the_quantile_where_that_is_smaller() -> None:
    assert near_copy_threshold(np.linspace(0.8, 1.0, 101)) == pytest.approx(0.45)
    leaky = np.concatenate([np.full(10, 0.1), np.full(90, 0.8)])
    assert near_copy_threshold(leaky) == pytest.approx(0.1)


def test_fresh_draws_score_one_and_no_copies_and_copies_score_zero_and_all() -> None:
    training = draw(60, 0)
    null = nearest(draw(50, 1), training).distances
    fresh = memorisation(nearest(draw(50, 2), training).distances, null)
    assert fresh["memorisation"] == pytest.approx(1, abs=0.05)
    assert fresh["near_copies"] == 0
    noise = np.random.default_rng(3).integers(-9, 10, training.shape)
    copies = np.clip(np.roll(training[:, :, ::-1], 2, axis=1) + noise, 0, 255).astype(np.uint8)
    copied = memorisation(nearest(copies, training).distances, null)
    assert copied["memorisation"] < 0.2
    assert copied["near_copies"] == 1
    mixed = np.concatenate([copies[:25], draw(25, 4)])
    assert memorisation(nearest(mixed, training).distances, null)["near_copies"] == 0.5


def test_a_ratio_without_a_meaning_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    assert "memorisation" not in memorisation(np.array([0.5, 0.6]), np.array([0, 0, 0, 0.7]))
    assert "undefined" in caplog.text


def test_unusable_images_and_empty_sets_are_errors() -> None:
    for training in (draw(3, 0)[:0], draw(3, 0, side=16)):
        with pytest.raises(DataError, match="training slices of the same size"):
            nearest(draw(2, 0), training)
    with pytest.raises(DataError, match="uint8"):
        nearest(draw(2, 0) / 255, draw(2, 0))
    with pytest.raises(DataError, match="got none"):
        near_copy_threshold(np.zeros(0))
    with pytest.raises(DataError, match="got none"):
        memorisation(np.zeros(0), np.ones(4))


@pytest.mark.slow
def test_two_hundred_images_against_six_hundred_slices_are_quick() -> None:
    images, training = draw(200, 0, 128), draw(600, 1, 128)
    began = time.thread_time()
    nearest(images, training)
    assert time.thread_time() - began < 4


def test_an_aligned_copy_lies_over_its_source() -> None:
    generator = np.random.default_rng(0)
    training = generator.integers(0, 255, (5, 8, 8)).repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)
    moved = np.roll(training[[3, 1], :, ::-1], (2, -3), axis=(1, 2))
    found = nearest(moved, training)
    assert found.indices.tolist() == [3, 1]
    np.testing.assert_array_equal(align(moved, training, found.indices), training[[3, 1]])


def chance(copies: int, held_out: int, count: int, further: int) -> float:
    """How probable ``further`` copies of ``count`` are after ``copies`` of ``held_out``: all rates were as likely."""
    ways = math.comb(count, further) * math.comb(held_out, copies) * (held_out + 1)
    return ways / math.comb(held_out + count, copies + further) / (held_out + count + 1)


@pytest.mark.parametrize(("copies", "held_out", "count"), [(0, 139, 8), (0, 139, 64), (0, 139, 200), (2, 139, 64)])
def test_the_bound_is_what_95_in_100_further_sets_of_held_out_slices_keep(
    copies: int, held_out: int, count: int
) -> None:
    null = np.concatenate([np.zeros(copies), np.linspace(0.9, 1.1, held_out - copies)])
    if not copies:
        null[0] = 0.89  # above half of the median
    bound = round(near_copy_bound(null, count) * count)
    within = sum(chance(copies, held_out, count, further) for further in range(bound + 1))
    assert within >= 0.95 > within - chance(copies, held_out, count, bound)
    assert sum(chance(copies, held_out, count, further) for further in range(count + 1)) == pytest.approx(1)


def test_a_copyist_is_beyond_the_bound_and_an_honest_set_is_not() -> None:
    training = draw(60, 0)
    null = nearest(draw(40, 1), training).distances
    fresh = memorisation(nearest(draw(50, 2), training).distances, null)
    copied = memorisation(nearest(np.concatenate([training[:8], draw(42, 2)]), training).distances, null)
    assert fresh["near_copies"] <= fresh["near_copies_bound"] == copied["near_copies_bound"] < copied["near_copies"]
    with pytest.raises(DataError, match="one image or more"):
        near_copy_bound(null, 0)
