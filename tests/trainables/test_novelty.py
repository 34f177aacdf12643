"""Weights by novelty: distances within a volume, what they make of a weight, and draws that follow the weights."""

from __future__ import annotations

import pytest
import torch

from trainables.denoiser.batch import draw_step
from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.latents import NO_WHITENING, Latents
from trainables.denoiser.novelty import LEAST, distances_to_neighbours, novelty_weights
from trainables.loop.draws import batch_indices, generator


def test_a_distance_is_that_of_the_nearest_of_the_same_volume() -> None:
    latents = torch.randn(9, 2, 3, 3, generator=generator(0, "latents"))
    volumes = ["a", "b", "a", "b", "a", "c", "b", "b", "a"]
    found = distances_to_neighbours(latents, volumes)
    for row in range(9):
        others = [each for each in range(9) if each != row and volumes[each] == volumes[row]]
        if others:
            expected = min((latents[row] - latents[each]).square().mean().sqrt().item() for each in others)
            assert found[row].item() == pytest.approx(expected, rel=1e-6)
    assert found[5] == found.max(), "nothing of its volume repeats it"
    assert distances_to_neighbours(latents[:3], ["x", "y", "z"]).tolist() == [1.0] * 3


def test_a_weight_is_the_distance_to_a_power_over_the_mean_and_never_0() -> None:
    distances = torch.tensor([0.0, 0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    lifted = torch.tensor([LEAST, 0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    for power in (0.0, 0.5, 1.0):
        expected = lifted**power / (lifted**power).mean()
        torch.testing.assert_close(novelty_weights(distances, power), expected)
    assert novelty_weights(torch.zeros(3, dtype=torch.float64), 1.0).tolist() == [1.0] * 3


def test_an_epoch_holds_each_sample_as_often_as_its_weight_says() -> None:
    weights = novelty_weights(torch.rand(60, dtype=torch.float64, generator=generator(1, "distances")), 1.0)
    epochs = [
        torch.bincount(
            torch.cat([batch_indices(60, 10, 6 * epoch + step, 3, weights) for step in range(6)]), minlength=60
        )
        for epoch in range(300)
    ]
    for counts in epochs:
        assert counts.sum() == 60
        assert ((counts >= weights.floor()) & (counts <= weights.ceil())).all()
    assert (torch.stack(epochs).double().mean(dim=0) - weights).abs().max() < 0.1


def test_equal_weights_draw_the_same_samples_as_none() -> None:
    for step in range(9):
        plain, weighted = (batch_indices(50, 8, step, 3, weights) for weights in (None, torch.ones(50).double()))
        assert torch.equal(plain, weighted)


def test_a_draw_depends_on_seed_and_step_alone_and_changes_nothing_else() -> None:
    mean = torch.zeros(40, 2, 4, 4)
    weights = novelty_weights(torch.rand(40, dtype=torch.float64, generator=generator(1, "distances")), 1.0)
    config = DiffusionConfig(batch_size=8)
    plain, weighted = (Latents(mean, mean, NO_WHITENING, weights=each) for each in (None, weights))
    one, again, other = (draw_step(config, weighted, step, 1) for step in (3, 3, 4))
    assert torch.equal(one.indices, again.indices)
    assert not torch.equal(one.indices, other.indices)
    assert torch.equal(one.noise, draw_step(config, plain, 3, 1).noise)
