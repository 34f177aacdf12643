"""Copies are found, their null is calibrated, and undefined ratios are left out."""

from __future__ import annotations

import numpy as np
import pytest

from trainables import memorisation as module
from trainables.errors import DataError
from trainables.memorisation import memorisation, nearest_distances


def draw(count: int, seed: int, side: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side), dtype=np.uint8)


def test_nearest_distance_is_that_of_the_plain_search(monkeypatch: pytest.MonkeyPatch) -> None:
    images, training = draw(5, 0), draw(23, 1)
    plain = [
        min(np.sqrt(np.mean(((a - b.astype(float)) / 127.5) ** 2)) for b in training) for a in images.astype(float)
    ]
    np.testing.assert_allclose(nearest_distances(images, training), plain)
    monkeypatch.setattr(module, "CHUNK_BYTES", 4 * 64 * 5)
    np.testing.assert_allclose(nearest_distances(images, training), plain)


def test_an_exact_copy_is_at_distance_zero_also_in_large_images() -> None:
    training = draw(6, 0, side=128)
    assert nearest_distances(training[3:5], training).tolist() == [0, 0]


def test_fresh_draws_score_one_and_the_null_share_and_copies_score_zero_and_all() -> None:
    training, held_out = draw(300, 0), draw(400, 1)
    fresh = memorisation(draw(400, 2), held_out, training)
    assert fresh["memorisation"] == pytest.approx(1, abs=0.05)
    assert fresh["near_copies"] < 0.04
    noise = np.random.default_rng(3).integers(-2, 3, (50, 8, 8))
    copies = np.clip(training[:50].astype(int) + noise, 0, 255).astype(np.uint8)
    copied = memorisation(copies, held_out, training)
    assert copied["memorisation"] < 0.1
    assert copied["near_copies"] == 1


def test_half_the_images_copied_is_half_the_share() -> None:
    training = draw(100, 0)
    mixed = np.concatenate([training[:50], draw(50, 2)])
    assert memorisation(mixed, draw(100, 1), training)["near_copies"] == pytest.approx(0.5, abs=0.05)


def test_a_ratio_without_a_meaning_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    training = draw(10, 0)
    assert "memorisation" not in memorisation(draw(5, 1), training, training)
    assert "undefined" in caplog.text


def test_no_training_slices_or_another_size_is_an_error() -> None:
    for training in (draw(0, 0), draw(3, 0, side=16)):
        with pytest.raises(DataError, match="training slices of the same size"):
            nearest_distances(draw(2, 0), training)
