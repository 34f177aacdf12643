"""Guidance against the formulas of its papers, the interval in which it acts, and the calls that it takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from trainables.denoiser.condition import Condition
from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.guidance import guided, guides_at, noise_level
from trainables.denoiser.sampling import initial_noise, sample, sampling_timesteps
from trainables.denoiser.sampling_settings import SamplingConfig
from trainables.denoiser.schedules import alphas_cumprod
from trainables.errors import ConfigError

SHAPE = (2, 4, 4)
DIFFUSION = DiffusionConfig(prediction="x0")
NEVER = SamplingConfig(early_stop_threshold=0.0, steps=10)


class Linear:
    """A denoiser that adds what it is told to its own ``place``, and counts its calls."""

    def __init__(self, place: float = 0.0) -> None:
        self.place, self.calls = place, 0

    def __call__(self, z_t: torch.Tensor, t: torch.Tensor, *, condition: Condition | None = None) -> torch.Tensor:
        self.calls += 1
        known = condition is not None and condition.position is not None
        told = condition.position if known else torch.tensor(10.0)  # type: ignore[union-attr]
        return torch.zeros_like(z_t) + self.place + told.view(-1, 1, 1, 1)


POSITION = ("position",)
Z, T, PLACES = torch.zeros(3, *SHAPE), torch.zeros(3), torch.ones(3)


@pytest.mark.parametrize(("weight", "expected", "calls"), [(1.0, 1.0, 1), (3.0, -17.0, 2), (0.0, 10.0, 2)])
def test_guidance_goes_from_the_unconditional_output_past_the_conditional_one(
    weight: float, expected: float, calls: int
) -> None:
    denoise = Linear()
    output = guided(denoise, POSITION, weight=weight)(Z, T, PLACES)
    assert output.unique().tolist() == [expected]
    assert denoise.calls == calls


@pytest.mark.parametrize(("weight", "expected", "calls"), [(1.0, 14.0, 0), (2.0, 16.0, 1), (0.0, 12.0, 1)])
def test_autoguidance_goes_from_the_guides_output_past_the_denoisers_without_any_condition(
    weight: float, expected: float, calls: int
) -> None:
    """w·D₁ + (1 − w)·D₀ (Karras et al. 2024), here with D₁ = 14 and D₀ = 12."""
    denoise, guide = Linear(4.0), Linear(2.0)
    output = guided(denoise, guide=guide, autoguidance=weight)(Z, T)
    assert output.unique().tolist() == [expected] == [weight * 14 + (1 - weight) * 12]
    assert (denoise.calls, guide.calls) == (1, calls)


def test_the_unconditional_side_is_told_the_estimate_but_no_position() -> None:
    heard: list[Condition] = []

    def denoise(z_t: torch.Tensor, t: torch.Tensor, *, condition: Condition) -> torch.Tensor:
        heard.append(condition)
        return torch.zeros_like(z_t)

    guided(denoise, ("position", "estimate"), weight=2.0)(Z, T, PLACES, Z + 1)
    assert heard[0].position is PLACES
    assert heard[1].position is None
    assert all(torch.equal(each.estimate, Z + 1) for each in heard if each.estimate is not None)
    assert not any(each.estimate is None for each in heard)


def test_a_guide_gets_the_samples_condition() -> None:
    output = guided(Linear(4.0), POSITION, Linear(2.0), autoguidance=2.0)(Z, T, PLACES)
    assert output.unique().tolist() == [7.0], "5 + (5 - 3)"


def test_both_kinds_together_add_what_each_adds() -> None:
    denoise, guide = Linear(4.0), Linear(2.0)
    plain, null, guides = 5.0, 14.0, 3.0
    output = guided(denoise, POSITION, guide, weight=1.5, autoguidance=2.0)(Z, T, PLACES)
    assert output.unique().tolist() == [plain + 0.5 * (plain - null) + 1.0 * (plain - guides)]
    assert (denoise.calls, guide.calls) == (2, 1)


def test_a_guide_that_is_the_denoiser_itself_changes_no_bit() -> None:
    def denoise(z_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.sin(7 * z_t)

    z = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(guided(denoise, guide=denoise, autoguidance=2.3)(z, T), denoise(z, T))


def test_the_noise_level_is_the_noise_over_the_signal() -> None:
    assert noise_level(0.5) == 1.0
    assert noise_level(0.2) == pytest.approx(2.0)
    assert noise_level(0.0) == math.inf


@pytest.mark.parametrize(
    ("low", "high", "levels"),
    [(0.0, 0.0, [0.5, 1.0, 2.0, math.inf]), (0.5, 2.0, [1.0, 2.0]), (0.6, 0.0, [1.0, 2.0, math.inf])],
)
def test_guidance_acts_above_the_lower_bound_and_up_to_the_upper_one(
    low: float, high: float, levels: list[float]
) -> None:
    alpha_bars = {0.8: 0.5, 0.5: 1.0, 0.2: 2.0, 0.0: math.inf}
    assert [level for alpha_bar, level in alpha_bars.items() if guides_at(alpha_bar, low, high)] == levels


def drawn(config: SamplingConfig, guide: Callable[..., torch.Tensor] | None, **options: Any) -> torch.Tensor:
    noise = initial_noise([1, 2], SHAPE)
    return sample(
        options.pop("denoise", Linear()),
        noise,
        seeds=[1, 2],
        guide=guide,
        diffusion=DIFFUSION,
        config=config,
        **options,
    ).latents[0]


def test_outside_its_interval_an_evaluation_is_one_call() -> None:
    levels = [noise_level(float(alphas_cumprod(DIFFUSION)[t])) for t in sampling_timesteps(1000, 10)]
    inside = sum(0.4 < level <= 3.2 for level in levels)
    assert 0 < inside < 10
    denoise, guide = Linear(), Linear()
    config = NEVER.replace(guidance=1.5, autoguidance=2.0, guidance_low=0.4, guidance_high=3.2)
    drawn(config, guide, denoise=denoise, positions=torch.ones(2))
    assert (denoise.calls, guide.calls) == (10 + inside, inside)


def test_an_interval_that_holds_no_evaluation_is_sampling_without_guidance() -> None:
    config = NEVER.replace(autoguidance=2.0, guidance_low=1000.0)
    assert torch.equal(drawn(config, Linear(5.0)), drawn(NEVER, None))
    assert not torch.equal(drawn(NEVER.replace(autoguidance=2.0), Linear(5.0)), drawn(NEVER, None))


def test_a_sampling_with_autoguidance_asks_for_a_guide() -> None:
    with pytest.raises(ValueError, match=r"needs a guide for autoguidance 1\.5, got none"):
        drawn(NEVER.replace(autoguidance=1.5), None)


def test_the_interval_is_part_of_an_identity_where_there_is_guidance_and_of_no_other() -> None:
    bounds = {"guidance_low": 0.4, "guidance_high": 3.2}
    assert NEVER.replace(**bounds).identity() == NEVER.identity()
    for kind in ("guidance", "autoguidance"):
        assert NEVER.replace(**bounds, **{kind: 1.5}).identity() == NEVER.identity() | bounds | {kind: 1.5}


def test_an_empty_interval_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"must be above guidance_low \(2\) or 0, got 1; raise it") as caught:
        NEVER.replace(guidance_low=2.0, guidance_high=1.0)
    assert "\n" not in str(caught.value)
