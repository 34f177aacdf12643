"""Spectra of known waves peak in their ring and hold their power; distances between sets are those of gains."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.errors import DataError
from trainables.measures.spectra import HIGH_FREQUENCY, high_frequency_share, radial_spectrum, spectrum_distance


def wave(cycles_down: int, cycles_across: int, *, side: int = 64, amplitude: float = 100.0) -> np.ndarray:
    """One image (1, side, side) of a cosine about grey level 128."""
    y, x = np.mgrid[:side, :side] / side
    values = 128 + amplitude * np.cos(2 * np.pi * (cycles_down * y + cycles_across * x))
    return np.rint(values)[None].astype(np.uint8)


def noise(count: int, seed: int, *, height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width), dtype=np.uint8)


@pytest.mark.parametrize(("down", "across", "ring"), [(5, 0, 5), (0, 12, 12), (6, 8, 10), (32, 0, 32), (0, 32, 32)])
def test_a_sinusoid_peaks_in_its_ring_and_holds_its_power(down: int, across: int, ring: int) -> None:
    image = wave(down, across)
    frequencies, power = radial_spectrum(image)
    assert power.shape == (1, len(frequencies)) == (1, 32)
    assert frequencies[power[0].argmax()] == ring / 64
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64)))
    cells = np.array([np.sum(np.rint(radius * 64) == k) for k in range(1, 33)])
    pixels = image[0] / 127.5 - 1
    assert power[0, ring - 1] * cells[ring - 1] == pytest.approx(np.sum((pixels - pixels.mean()) ** 2), rel=1e-3)


def test_the_rings_are_means_over_the_whole_plane() -> None:
    images = noise(3, 0, height=20, width=32)
    frequencies, power = radial_spectrum(images)
    np.testing.assert_allclose(frequencies, np.arange(1, 11) / 20)
    pixels = images / 127.5 - 1
    whole = np.abs(np.fft.fft2(pixels - pixels.mean((1, 2), keepdims=True), norm="ortho")) ** 2
    radius = np.hypot(np.fft.fftfreq(20)[:, None], np.fft.fftfreq(32)[None])
    for k in range(1, 11):
        np.testing.assert_allclose(power[:, k - 1], whole[:, np.rint(radius * 20) == k].mean(axis=1))
    np.testing.assert_allclose(
        high_frequency_share(images), whole[:, radius >= HIGH_FREQUENCY].sum(axis=1) / whole.sum(axis=(1, 2))
    )


def test_white_noise_is_flat_at_its_variance() -> None:
    images = noise(100, 1)
    power = radial_spectrum(images)[1].mean(axis=0)
    np.testing.assert_allclose(power, (images / 127.5 - 1).var(), rtol=0.15)


def test_slow_waves_have_no_high_share_and_fast_ones_have_it_all() -> None:
    assert high_frequency_share(wave(8, 0))[0] < 0.01
    assert high_frequency_share(wave(0, 20))[0] > 0.99
    assert high_frequency_share(wave(20, 20))[0] > 0.99, "also beyond the last ring, in the corners"
    both = (wave(4, 0, amplitude=60).astype(int) + wave(0, 24, amplitude=60) - 128).astype(np.uint8)
    assert high_frequency_share(both)[0] == pytest.approx(0.5, abs=0.01)


def test_one_grey_value_has_no_power_and_a_finite_distance() -> None:
    blank = np.full((2, 32, 32), 77, np.uint8)
    assert high_frequency_share(blank).tolist() == [0, 0]
    assert np.all(radial_spectrum(blank)[1] == 0)
    assert np.isfinite(spectrum_distance(blank, noise(2, 0)))


def test_distance_is_zero_for_one_set_symmetric_and_the_gain_in_decibels() -> None:
    first, second = noise(6, 0), noise(6, 1)
    assert spectrum_distance(first, first) == 0
    assert spectrum_distance(first, second) == spectrum_distance(second, first) > 0
    dark = (first // 4).astype(np.uint8)
    assert spectrum_distance(first, dark) == pytest.approx(20 * np.log10(4), abs=0.1)


def test_blur_takes_the_sets_apart() -> None:
    from scipy.ndimage import gaussian_filter

    images = noise(20, 0)
    blurred = [gaussian_filter(images, (0, sd, sd), mode="wrap") for sd in (0.5, 1.0, 1.5)]
    distances = [spectrum_distance(images, noise(20, 1)), *(spectrum_distance(images, b) for b in blurred)]
    assert distances == sorted(distances)
    assert distances[1] > 3 * distances[0]


def test_what_is_no_set_of_grey_images_is_an_error() -> None:
    for bad in (noise(2, 0)[0], noise(2, 0).astype(float), noise(0, 0), noise(2, 0, width=3)):
        for function in (radial_spectrum, high_frequency_share):
            with pytest.raises(DataError, match="uint8 images"):
                function(bad)
    with pytest.raises(DataError, match="one size"):
        spectrum_distance(noise(2, 0), noise(2, 0, width=16))
