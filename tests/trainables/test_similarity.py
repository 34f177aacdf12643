"""SSIM, PSNR, MS-SSIM and pairwise distance: known values, bounds, and nothing that hides as NaN or infinity."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.measures.similarity import PSNR_CAP, mean_pairwise_distance, ms_ssim, psnr, random_pairs, ssim
from trainables.measures.structure import scales_for


def noise(count: int, side: int = 32, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side), dtype=np.uint8)


def test_psnr_is_its_formula_per_image() -> None:
    first = np.zeros((3, 16, 16), np.uint8)
    second = np.stack([np.full((16, 16), value, np.uint8) for value in (255, 51, 5)])
    np.testing.assert_allclose(psnr(first, second), [0, 20 * np.log10(5), 20 * np.log10(51)], atol=1e-4)


def test_psnr_of_identical_images_is_the_cap_and_not_infinite() -> None:
    images = noise(2)
    assert psnr(images, images).tolist() == [PSNR_CAP, PSNR_CAP]


def test_bytes_and_floats_in_the_unit_range_are_the_same_images() -> None:
    first, second = noise(3), noise(3, seed=1)
    for measure in (ssim, psnr):
        np.testing.assert_allclose(measure(first, second), measure(first / 255, second / 255), rtol=1e-5)


def test_ssim_is_one_for_the_same_image_near_zero_for_noise_and_falls_with_damage() -> None:
    images = noise(4)
    np.testing.assert_allclose(ssim(images, images), 1, atol=1e-6)
    assert np.abs(ssim(images, noise(4, seed=9))).max() < 0.2
    damaged = np.clip(images + np.array([5, 20, 60, 120])[:, None, None] * (noise(4, seed=2) / 255 - 0.5), 0, 255)
    values = ssim(images, damaged.astype(np.uint8))
    assert np.all(np.diff(values) < 0)


def test_a_chunk_does_not_change_the_value_of_an_image() -> None:
    first, second = noise(40, 16), noise(40, 16, seed=1)
    np.testing.assert_allclose(ssim(first, second)[35], ssim(first[35:36], second[35:36])[0], rtol=1e-5)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_constant_and_saturated_images_give_finite_values(level: int) -> None:
    constant, other = np.full((2, 64, 64), level, np.uint8), noise(2, 64)
    for measure in (ssim, psnr, ms_ssim):
        assert np.isfinite(measure(constant, other)).all()
        assert np.isfinite(measure(constant, constant)).all()
    np.testing.assert_allclose(ms_ssim(constant, constant), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("side", "scales"), [(16, 1), (24, 1), (32, 2), (64, 3), (96, 3), (128, 4), (256, 5), (512, 5)]
)
def test_ms_ssim_uses_the_scales_that_its_size_has_room_for(side: int, scales: int) -> None:
    assert scales_for(side) == scales
    images = noise(1, side)
    np.testing.assert_allclose(ms_ssim(images, images), 1, atol=1e-5)
    assert 0 <= ms_ssim(images, noise(1, side, seed=1))[0] < 0.5


def test_mean_pairwise_distance_is_the_plain_mean_in_units_of_the_signed_range() -> None:
    images = np.stack([np.full((4, 4), value, np.uint8) for value in (0, 255, 255)])
    assert mean_pairwise_distance(images) == pytest.approx((2 + 2 + 0) / 3)
    random = noise(5, 8)
    expected = np.mean([np.sqrt(np.mean(((a - b.astype(float)) / 127.5) ** 2)) for a, b in pairs_of(random)])
    assert mean_pairwise_distance(random) == pytest.approx(expected)


def pairs_of(images: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(images[i].astype(float), images[j]) for i in range(len(images)) for j in range(i)]


def test_random_pairs_are_different_seeded_and_all_where_few() -> None:
    pairs = random_pairs(50, limit=100, seed=3)
    assert len({tuple(pair) for pair in pairs.tolist()}) == 100
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert (
        pairs.tolist() == random_pairs(50, limit=100, seed=3).tolist() != random_pairs(50, limit=100, seed=4).tolist()
    )
    assert len(random_pairs(4, limit=100, seed=0)) == 6
