"""Patches are drawn as stated, and their distance is the Wasserstein one; it grows with blur and with noise."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import wasserstein_distance

from trainables.errors import DataError
from trainables.measures import patches as module
from trainables.measures.patches import describe, sliced_wasserstein


def slices(count: int, seed: int, side: int = 64) -> np.ndarray:
    """Smooth blobs with some texture on black."""
    generator = np.random.default_rng(seed)
    blobs = gaussian_filter(generator.normal(size=(count, side, side)), (0, 4, 4)) * 1200
    texture = gaussian_filter(generator.normal(size=(count, side, side)), (0, 0.7, 0.7)) * 25
    return np.clip(np.where(blobs > 0, blobs + texture, 0), 0, 255).astype(np.uint8)


def test_one_set_is_at_zero_from_itself_and_order_does_not_matter() -> None:
    first, second = describe(slices(12, 0), 0), describe(slices(9, 1), 0)
    assert sliced_wasserstein(first, describe(slices(12, 0), 0)) == 0
    assert sliced_wasserstein(first, second) == sliced_wasserstein(second, first) > 0


@pytest.mark.parametrize(("side", "levels"), [(16, 1), (31, 1), (32, 2), (64, 3), (128, 4)])
def test_the_levels_add_up_to_the_image(side: int, levels: int) -> None:
    image = (slices(2, 0, side) / 127.5 - 1).astype(np.float32)
    pyramid = list(module._pyramid(image))
    assert len(pyramid) == levels
    rebuilt = pyramid[-1]
    for level in reversed(pyramid[:-1]):
        spread = np.zeros_like(level)
        spread[:, ::2, ::2] = 4 * rebuilt
        rebuilt = level + module._blurred(spread)
    np.testing.assert_allclose(rebuilt, image, atol=1e-5)
    if levels > 1:
        assert abs(pyramid[0][:, 4:-4, 4:-4].mean()) < 0.02, "a level of differences has no brightness of its own"


def test_the_distance_is_the_mean_of_scipys_along_each_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DIRECTIONS", 20)
    monkeypatch.setattr(module, "PATCHES", 500)
    first, second = describe(slices(6, 0, 32), 0), describe(slices(5, 1, 32), 0)
    assert first.projections.shape == (2, 20, 500)
    expected = []
    for level in range(2):
        pairs = zip(first.projections[level], second.projections[level], strict=True)
        scale = np.sqrt((first.deviations[level] ** 2 + second.deviations[level] ** 2) / 2)
        expected += [wasserstein_distance(a, b) / scale for a, b in pairs]
    assert sliced_wasserstein(first, second) == pytest.approx(1000 * np.mean(expected), rel=1e-4)


def test_a_shift_in_brightness_is_the_length_of_its_projection() -> None:
    image = slices(8, 0, 16) // 2
    brighter = (image + 51).astype(np.uint8)
    first, second = describe(image, 0), describe(brighter, 0)
    directions = np.random.default_rng(module.DIRECTIONS_SEED).normal(size=(module.DIRECTIONS, 49))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    expected = 1000 * np.abs(directions.sum(axis=1)).mean() * 51 / 127.5 / first.deviations[0]
    assert sliced_wasserstein(first, second) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("what", ["blur", "noise"])
def test_it_grows_with_blur_and_with_noise(what: str) -> None:
    real = describe(slices(40, 0), 0)
    other = slices(40, 1)
    noise = np.random.default_rng(2).normal(size=other.shape)
    distances = [sliced_wasserstein(real, describe(other, 0))]
    for much in (1.0, 2.0, 3.0):
        blurred, noisy = gaussian_filter(other, (0, much, much)), np.clip(other + 15 * much * noise, 0, 255)
        changed = blurred if what == "blur" else noisy
        distances.append(sliced_wasserstein(real, describe(changed.astype(np.uint8), 0)))
    assert distances == sorted(distances)
    assert distances[1] > 1.5 * distances[0]


def test_every_image_is_drawn_from_alike() -> None:
    drawn, _, _ = module.draw_places(10, (32, 32), np.random.default_rng(0))
    counts = np.bincount(drawn)
    assert len(counts) == 10
    assert counts.max() - counts.min() <= 1


def test_patches_are_the_same_whatever_the_images_that_are_taken_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = describe(slices(12, 0, 32), 0)
    monkeypatch.setattr(module, "CHUNK", 5)
    parts = describe(slices(12, 0, 32), 0)
    np.testing.assert_array_equal(parts.projections, whole.projections)
    np.testing.assert_array_equal(parts.deviations, whole.deviations)


def test_blank_images_are_at_a_finite_distance() -> None:
    blank = describe(np.zeros((3, 32, 32), np.uint8), 0)
    assert sliced_wasserstein(blank, blank) == 0
    assert np.isfinite(sliced_wasserstein(blank, describe(slices(3, 0, 32), 0)))


def test_unusable_images_are_errors() -> None:
    for bad in (slices(2, 0)[0], slices(2, 0) / 255, slices(2, 0)[:0], slices(2, 0, 64)[:, :, :15]):
        with pytest.raises(DataError, match="patches need uint8"):
            describe(bad, 0)
    with pytest.raises(DataError, match="one size"):
        sliced_wasserstein(describe(slices(2, 0, 32), 0), describe(slices(2, 0, 64), 0))


def test_two_hundred_slices_are_described_quickly() -> None:
    images = slices(200, 0, 128)
    began = time.thread_time()
    describe(images, 0)
    assert time.thread_time() - began < 1.5
