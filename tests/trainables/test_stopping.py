"""The early stop ends no sample while it is still noise, and means the same at any number of steps."""

from __future__ import annotations

import importlib
import math
import pkgutil
from functools import cache

import pytest
import torch

import search_spaces
from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.process import target
from trainables.denoiser.samplers import log_snr
from trainables.denoiser.sampling import SamplingTrace, initial_noise, sample, sampling_timesteps
from trainables.denoiser.sampling_settings import SamplingConfig
from trainables.denoiser.schedules import alphas_cumprod
from trainables.denoiser.stopping import STOP_MEASURES, stoppable

SHAPE, SAMPLES = (4, 4, 4), 96
STEPS = (25, 50, 100)
SPREADS = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5], dtype=torch.float64)
"""Of the mixture's components; with their means, each has unit spread."""
THRESHOLDS = sorted(
    {
        threshold
        for module in pkgutil.iter_modules(search_spaces.__path__)
        for threshold in importlib.import_module(f"search_spaces.{module.name}").SPACE.thresholds
    }
)
"""All that any search space has."""
DIFFUSION = DiffusionConfig(prediction="v")
SNRS = alphas_cumprod(DIFFUSION) / (1 - alphas_cumprod(DIFFUSION))


class Mixture:
    """The exact denoiser of a mixture of Gaussians N(mean_k, spread_k²), all equally likely."""

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(0)
        means = torch.randn(len(SPREADS), math.prod(SHAPE), generator=random, dtype=torch.float64)
        self.means = (1 - SPREADS**2).sqrt()[:, None] * means
        self.schedule = alphas_cumprod(DIFFUSION)

    def __call__(self, z_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alpha_bar = self.schedule[t[0]]
        z = z_t.flatten(1).double()
        variance = (alpha_bar * SPREADS**2 + 1 - alpha_bar)[None, :, None]
        from_mean = z[:, None] - alpha_bar.sqrt() * self.means
        share = (-0.5 * (from_mean**2 / variance + variance.log())).sum(dim=2).softmax(dim=1)
        estimates = self.means + alpha_bar.sqrt() * SPREADS[None, :, None] ** 2 / variance * from_mean
        x0 = (share[:, :, None] * estimates).sum(dim=1)
        noise = (z - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()
        wanted = target(x0.view_as(z_t), noise.view_as(z_t), alpha_bar.expand(len(z_t)), DIFFUSION.prediction)
        return wanted.float()


@cache
def drawn(rule: str, steps: int) -> SamplingTrace:
    """The mixture's samples under each threshold, with one that stops as early as may be."""
    return sample(
        Mixture(),
        initial_noise(range(SAMPLES), SHAPE),
        seeds=range(SAMPLES),
        diffusion=DIFFUSION,
        config=SamplingConfig(steps=steps, early_stop_rule=rule),
        thresholds=(*THRESHOLDS, math.inf),
    )


def snr_at_stop(trace: SamplingTrace, row: int, steps: int) -> torch.Tensor:
    """The SNR of the evaluations at which samples stopped."""
    used = trace.steps_used[row]
    return SNRS[sampling_timesteps(1000, steps)][used[used < steps] - 1]


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("rule", STOP_MEASURES)
def test_the_exact_denoiser_of_a_mixture_stops_no_sample_below_snr_1(rule: str, steps: int) -> None:
    trace = drawn(rule, steps)
    assert THRESHOLDS[0] == 0
    for row in range(len(trace.thresholds)):
        assert (snr_at_stop(trace, row, steps) > 1).all()
    assert (trace.steps_used[-1] < steps).all()


@pytest.mark.parametrize("threshold", [each for each in THRESHOLDS if each >= 0.02])
def test_a_threshold_stops_the_same_share_at_the_same_noise_at_any_number_of_steps(threshold: float) -> None:
    """Below 0.02 the last of 25 evaluations that may stop, at SNR 81, comes too early for half of the samples."""
    shares, places = [], []
    for steps in STEPS:
        at = snr_at_stop(drawn("x0_change", steps), THRESHOLDS.index(threshold), steps)
        shares.append(len(at) / SAMPLES)
        places.append(at.log().median().item())
    assert max(shares) - min(shares) <= 0.05
    assert max(places) - min(places) <= 0.8, "the largest change of log SNR in one of 25 steps"


@pytest.mark.parametrize("steps", STEPS)
def test_a_threshold_is_about_the_share_by_which_a_stopped_sample_is_short_of_its_end(steps: int) -> None:
    trace = drawn("x0_change", steps)
    for row, threshold in enumerate(THRESHOLDS[1:], start=1):
        short = trace.remaining()[row][trace.steps_used[row] < steps]
        assert 0.3 * threshold <= short.median() <= 1.2 * threshold
    assert trace.remaining()[0].tolist() == [0.0] * SAMPLES


def test_where_no_sample_goes_to_its_end_nothing_is_said_of_what_remains() -> None:
    noise, config = initial_noise([1], SHAPE), SamplingConfig(steps=2)
    trace = sample(Mixture(), noise, seeds=[1], diffusion=DIFFUSION, config=config)
    with pytest.raises(ValueError, match="not in tuple"):
        trace.remaining()


def test_x0_change_is_relative_to_the_estimate_before_and_to_the_change_of_log_snr() -> None:
    random = torch.Generator().manual_seed(0)
    before, now = torch.randn((2, 3, *SHAPE), generator=random)
    found = STOP_MEASURES["x0_change"](now, now, 0.8, (0.5, before))
    expected = (now - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1) / math.log(0.8 / 0.2)
    torch.testing.assert_close(found, expected)
    for previous in (None, (0.0, before)):
        assert STOP_MEASURES["x0_change"](now, now, 0.8, previous).isnan().all()


def test_the_change_of_white_noises_estimate_is_half_over_one_plus_the_snr() -> None:
    """Along the sampler's path z_t keeps its norm, and x̂₀ = √ᾱ·z_t."""
    z = torch.randn((1, *SHAPE), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for snr in (1.0, 9.0, 99.0):
        a, b = (value / (1 + value) for value in (snr, snr * 1.0001))
        found = STOP_MEASURES["x0_change"](b**0.5 * z, z, b, (a, a**0.5 * z)).item()
        assert found == pytest.approx(0.5 / (1 + snr), rel=1e-3)


def test_only_evaluations_of_more_signal_than_noise_may_stop_and_never_the_last() -> None:
    assert stoppable([0.0, 0.49, 0.5, 0.51, 0.9, 0.99]) == [False, False, False, True, True, False]
    assert stoppable([0.9]) == [False]
    assert (log_snr(0.0), log_snr(0.5), log_snr(1.0)) == (-math.inf, 0.0, math.inf)
