"""Precision and recall of sets whose manifolds are known."""

from __future__ import annotations

import time

import numpy as np
import pytest

from trainables.errors import ConfigError, DataError
from trainables.measures.manifold import precision_recall


def cluster(count: int, centre: float, seed: int, width: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(centre, 1, (count, width)).astype(np.float32)


def test_identical_sets_are_precise_and_recalled_in_full() -> None:
    features = cluster(40, 0, 0, width=2048)
    assert precision_recall(features, features) == (1, 1)


def test_disjoint_sets_are_neither() -> None:
    assert precision_recall(cluster(40, 0, 0), cluster(30, 100, 1)) == (0, 0)


def test_a_generator_of_one_of_two_modes_is_precise_and_recalls_half() -> None:
    real = np.concatenate([cluster(300, 0, 0, 2), cluster(300, 100, 1, 2)])
    precision, recall = precision_recall(real, cluster(300, 0, 2, 2))
    assert precision == pytest.approx(1, abs=0.1)
    assert recall == pytest.approx(0.5, abs=0.05)


def test_a_generator_of_one_good_and_one_bad_mode_is_half_precise_and_recalls_all() -> None:
    generated = np.concatenate([cluster(300, 0, 1, 2), cluster(300, 100, 2, 2)])
    precision, recall = precision_recall(cluster(300, 0, 0, 2), generated)
    assert precision == pytest.approx(0.5, abs=0.05)
    assert recall == pytest.approx(1, abs=0.1)


def test_the_ball_reaches_to_the_neighbour_named_and_its_edge_belongs_to_it() -> None:
    real = np.array([[0.0], [1.0], [3.0], [7.0]])  # radii with 1 neighbour: 1, 1, 2, 4; with 2: 3, 2, 3, 6
    generated = np.array([[2.0], [11.0], [11.5], [-2.5]])
    assert precision_recall(real, generated, neighbours=1)[0] == 0.5
    assert precision_recall(real, generated, neighbours=2)[0] == 1
    assert precision_recall(generated, real, neighbours=1)[1] == 0.5, "recall is precision with the sets exchanged"


def test_unusable_sets_are_one_line_errors() -> None:
    good = cluster(5, 0, 0)
    broken = np.where(good == good[0, 0], np.nan, good)
    for bad, text in ((good[:3], "at least 4 images"), (broken, "finite"), (good[:, :2], "one extractor")):
        with pytest.raises(DataError, match=text) as caught:
            precision_recall(good, bad)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="at least 1 neighbour"):
        precision_recall(good, good, neighbours=0)


def test_two_hundred_against_two_hundred_is_quick() -> None:
    x, y = cluster(200, 0, 0, width=2048), cluster(200, 0, 1, width=2048)
    began = time.thread_time()
    precision_recall(x, y)
    assert time.thread_time() - began < 1.5
