"""Images that are nearly the same are counted, real slices never are too many, and mean images swapped in are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from small_images import named

from trainables.errors import DataError
from trainables.measures.collapse import (
    ALIKE_FRACTION,
    alike_threshold,
    collapse,
    largest_group,
    mean_distance,
    pairwise_distances,
)
from trainables.measures.similarity import mean_pairwise_distance


def draw(subjects: int, each: int, seed: int, side: int = 32) -> np.ndarray:
    """Textured discs: those of one subject are neighbours, nearly the same."""
    generator = np.random.default_rng(seed)
    own = gaussian_filter(generator.normal(size=(subjects, side, side)), (0, 2.5, 2.5)) * 500 + 110
    textures = own.repeat(each, axis=0) + generator.normal(0, 4, (subjects * each, side, side))
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.where(np.hypot(y, x) < side * 0.4, np.clip(textures, 0, 255), 0).astype(np.uint8)


def mean_images(images: np.ndarray, count: int, noise: float = 3) -> np.ndarray:
    """The mean image under slight noise."""
    generator = np.random.default_rng(9)
    shape = (count, *images.shape[1:])
    return np.clip(images.mean(axis=0) + generator.normal(0, noise, shape), 0, 255).astype(np.uint8)


def test_distances_are_root_mean_squares_of_all_pairs() -> None:
    images = draw(5, 1, 0)
    pixels = images / 127.5
    slow = [[np.sqrt(np.mean((a - b) ** 2)) for b in pixels] for a in pixels]
    np.testing.assert_allclose(pairwise_distances(images), slow, atol=1e-6)
    apart = np.asarray(slow)[~np.eye(5, dtype=bool)].mean()
    assert mean_distance(pairwise_distances(images)) == pytest.approx(apart)
    assert mean_pairwise_distance(images) == mean_distance(pairwise_distances(images))


def test_the_threshold_is_of_slices_of_other_subjects_and_neighbours_do_not_count() -> None:
    images, subjects = draw(12, 4, 1), named(48, "s")
    threshold = alike_threshold(images, subjects)
    alone = alike_threshold(images[::4], subjects[::4])
    assert threshold == pytest.approx(alone, rel=0.05), "three more neighbours of each slice change nothing"
    apart = pairwise_distances(images[::4])[np.triu_indices(12, 1)]
    assert threshold == pytest.approx(ALIKE_FRACTION * np.median(apart), rel=0.05)
    assert largest_group(images, threshold or 0) == 4
    assert alike_threshold(images, ["one"] * 48) is None
    assert alike_threshold(np.repeat(images[::4], 200, axis=0), [s for s in subjects[::4] for _ in range(200)])
    with pytest.raises(DataError, match="subject each"):
        alike_threshold(images, subjects[:3])


def test_real_slices_of_which_many_are_the_same_tell_nothing_of_what_is_alike() -> None:
    images = draw(12, 1, 1)
    images[:9] = images[0]
    assert alike_threshold(images, named(12, "s")) is None
    assert collapse(images, images, named(12, "s"), images) == {}


@pytest.mark.parametrize(("count", "swapped"), [(8, 4), (32, 4), (64, 7), (200, 22)])
def test_mean_images_swapped_into_a_set_are_refused_and_the_set_itself_is_not(count: int, swapped: int) -> None:
    real, training = draw(10, 6, 2), draw(60, 8, 3)
    floor = training[np.arange(480).reshape(60, 8).T.ravel()[:count]]
    images = training[np.random.default_rng(4).choice(480, count, replace=False)]
    clean = collapse(images, real, named(60, "v", 6), floor)
    assert clean["alike"] <= clean["alike_bound"]
    images[:swapped] = mean_images(training, swapped)
    found = collapse(images, real, named(60, "v", 6), floor)
    assert found["alike"] == swapped / count > found["alike_bound"]


def test_where_training_slices_are_neighbours_more_may_be_alike() -> None:
    real, training = draw(10, 6, 2), draw(3, 20, 3)
    many = collapse(training, real, named(60, "v", 6), training)
    assert many["alike"] == 20 / 60 < many["alike_bound"]
    few = collapse(training, real, named(60, "v", 6), draw(60, 1, 5))
    assert few["alike"] > few["alike_bound"] == pytest.approx(1 / 60 + 0.05)


def test_what_has_no_threshold_has_no_verdict_and_no_images_are_an_error() -> None:
    real = draw(10, 6, 2)
    assert collapse(real, real, ["one"] * 60, real) == {}
    with pytest.raises(DataError, match="got none"):
        collapse(real[:0], real, named(60, "v", 6), real)
