"""Averages of the weights: power functions against their closed form, the training's own untouched by them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from trainables.denoiser.averages import OWN, Averages, combine
from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.profiles import FURTHEST, power_decay, power_exponent, reconstruct
from trainables.denoiser.unet import UNet

SMALL = DiffusionConfig(widths=(8,), blocks=1, attention_levels=(), embedding_channels=16)


def profile(length: float, steps: int) -> np.ndarray:
    """The share of each step's weights in the average after so many."""
    gamma = power_exponent(length)
    shares = np.zeros(steps)
    for step in range(steps):
        decay = power_decay(step, gamma)
        shares *= decay
        shares[step] = 1 - decay
    return shares


def test_exponents_are_those_of_the_papers_examples() -> None:
    assert power_exponent(0.05) == pytest.approx(16.97, abs=5e-3)
    assert power_exponent(0.10) == pytest.approx(6.94, abs=5e-3)
    assert power_exponent(math.sqrt(2) / 6) == pytest.approx(1)


@pytest.mark.parametrize("length", [0.001, 0.05, 0.1, 0.28])
def test_an_average_is_the_power_functions_and_forgets_the_initial_weights(length: float) -> None:
    shares, gamma = profile(length, 100), power_exponent(length)
    edges = np.arange(101) / 100
    np.testing.assert_allclose(shares, np.diff(edges ** (gamma + 1)), rtol=1e-6, atol=1e-12)
    assert shares.sum() == pytest.approx(1)


@pytest.mark.parametrize("steps", [600, 20_000])
@pytest.mark.parametrize("length", [0.02, 0.05, 0.15, 0.25])
def test_the_length_is_the_profiles_spread_as_a_share_of_any_training(length: float, steps: int) -> None:
    shares, place = profile(length, steps), np.arange(steps)
    mean = (shares * place).sum()
    assert math.sqrt((shares * (place - mean) ** 2).sum()) / steps == pytest.approx(length, rel=0.01)


def test_averages_of_a_model_follow_their_profiles() -> None:
    torch.manual_seed(0)
    model = UNet(2, SMALL)
    averages = Averages(model, SMALL.replace(ema_decay=0.5, ema_lengths=(0.2, 0.05)))
    assert list(averages.by_length) == [OWN, 0.2, 0.05]
    assert list(averages.modules()) == ["average", "average-0.2", "average-0.05"]
    initial = next(model.parameters()).detach().clone()
    seen = []
    for step in range(8):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape))
        seen.append(next(model.parameters()).detach().clone())
        averages.update(model, step)
    for length in (0.2, 0.05):
        expected = sum(share * weights for share, weights in zip(profile(length, 8), seen, strict=True))
        torch.testing.assert_close(next(averages.by_length[length].parameters()).data, expected, rtol=1e-4, atol=1e-5)
    own = 0.5**8 * initial + sum(0.5 ** (8 - step) * weights for step, weights in enumerate(seen))
    torch.testing.assert_close(next(averages.own.parameters()).data, own, rtol=1e-4, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in averages.by_length[0.2].parameters())


def test_without_lengths_there_is_the_trainings_own_alone() -> None:
    assert list(Averages(UNet(2, SMALL), SMALL).modules()) == ["average"]


@pytest.mark.parametrize(
    ("kept", "wanted"), [((0.05, 0.1), 0.07), ((0.05, 0.1), 0.12), ((0.05, 0.1, 0.2), 0.15), ((0.1, 0.05), 0.25)]
)
def test_a_length_is_made_of_others_with_the_error_that_is_stated(kept: tuple[float, ...], wanted: float) -> None:
    """Against the profiles as they are in a training of 4,000 steps."""
    weights, error = reconstruct(kept, wanted)
    assert sum(weights) == pytest.approx(1)
    profiles, target = np.array([profile(length, 4000) for length in kept]), profile(wanted, 4000)
    difference = np.linalg.norm(weights @ profiles - target) / np.linalg.norm(target)
    assert error == pytest.approx(difference, rel=0.01)
    for shift in (-0.02, 0.02):
        other = np.array(weights) + shift * np.resize([1.0, -1.0], len(kept)) * (len(kept) % 2 == 0)
        assert np.linalg.norm(other @ profiles - target) / np.linalg.norm(target) >= difference


@pytest.mark.parametrize(
    ("kept", "low", "high"), [((0.05, 0.1), 0.04, 0.12), ((0.05, 0.1, 0.2), 0.04, 0.22), ((), 1.0, 0.0)]
)
def test_the_lengths_that_can_be_made_are_those_that_are_stated(
    kept: tuple[float, ...], low: float, high: float
) -> None:
    for length in (0.02, 0.03, 0.04, 0.07, 0.12, 0.14, 0.22, 0.25):
        assert (reconstruct(kept, length)[1] <= FURTHEST) == (low <= length <= high), length


def test_a_kept_length_is_itself_and_weights_that_never_move_stay() -> None:
    weights, error = reconstruct((0.05, 0.1), 0.1)
    assert weights == pytest.approx([0, 1], abs=1e-9)
    assert error == pytest.approx(0, abs=1e-6)
    still = {length: {"weight": torch.full((2, 3), 0.7)} for length in (0.05, 0.1)}
    assert torch.equal(combine(still, 0.07)["weight"], still[0.05]["weight"])


def test_the_average_of_any_length_is_near_the_one_that_was_kept_with_it() -> None:
    torch.manual_seed(0)
    model = UNet(2, SMALL)
    few, all_of_them = (Averages(model, SMALL.replace(ema_lengths=each)) for each in ((0.05, 0.1), (0.05, 0.07, 0.1)))
    for step in range(300):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        few.update(model, step)
        all_of_them.update(model, step)

    def weights(average: UNet) -> torch.Tensor:
        return torch.cat([parameter.flatten() for parameter in average.parameters()])

    made, kept = weights(few.of_length(0.07)), weights(all_of_them.of_length(0.07))
    assert few.of_length(0.05) is few.by_length[0.05]
    nearest = min((weights(few.by_length[length]) - kept).norm().item() for length in (0.05, 0.1))
    assert (made - kept).norm() < nearest / 3


def test_the_guide_is_the_trainings_own_average_of_an_early_step_and_until_then_as_it_is() -> None:
    torch.manual_seed(0)
    config = SMALL.replace(ema_decay=0.5, steps=10, guide_share=0.34)
    model = UNet(2, config)
    averages = Averages(model, config)
    assert averages.guide_steps == 3
    assert averages.guide is not None
    assert list(averages.modules()) == ["average", "guide"]
    kept: torch.Tensor | None = None
    for step in range(6):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        averages.update(model, step)
        guide, own = (next(each.parameters()).clone() for each in (averages.guide, averages.own))
        assert torch.equal(guide, own) == (step < 3)
        kept = own if step == 2 else kept
    assert kept is not None
    assert torch.equal(guide, kept)


@pytest.mark.parametrize(("share", "steps", "expected"), [(0.0, 100, 0), (0.25, 100, 25), (0.001, 100, 1)])
def test_a_guide_is_kept_after_its_share_of_the_steps(share: float, steps: int, expected: int) -> None:
    assert SMALL.replace(guide_share=share, steps=steps).guide_steps == expected
