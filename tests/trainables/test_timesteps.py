"""How a batch's timesteps are drawn: within the schedule, with the distribution that each sampler names."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from trainables.denoiser.batch import draw_step, noisy_batch
from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.latents import ChannelStatistics, Latents
from trainables.denoiser.schedules import TIMESTEP_SAMPLERS, alphas_cumprod


def drawn(name: str, timesteps: int, batch: int, seed: int = 0) -> torch.Tensor:
    config = DiffusionConfig(timesteps=timesteps)
    return TIMESTEP_SAMPLERS[name](config, batch, torch.Generator().manual_seed(seed))


def test_every_sampler_that_the_configuration_allows_exists() -> None:
    field = DiffusionConfig.__dataclass_fields__["timestep_sampling"]
    assert set(field.metadata["choices"]) == set(TIMESTEP_SAMPLERS)


@pytest.mark.parametrize("name", TIMESTEP_SAMPLERS)
@pytest.mark.parametrize("timesteps", [2, 7, 1000])
@pytest.mark.parametrize("batch", [1, 5, 20_000])
def test_timesteps_are_indices_of_the_schedule(name: str, timesteps: int, batch: int) -> None:
    t = drawn(name, timesteps, batch)
    assert (t.dtype, t.shape) == (torch.int64, (batch,))
    assert 0 <= t.min() <= t.max() < timesteps
    assert batch < 20_000 or {0, timesteps - 1} <= set(t.tolist()) or name.startswith("log")


def test_the_default_draws_what_it_always_drew() -> None:
    expected = torch.randint(1000, (16,), generator=torch.Generator().manual_seed(4))
    assert torch.equal(drawn(DiffusionConfig().timestep_sampling, 1000, 16, seed=4), expected)


@pytest.mark.parametrize(("timesteps", "batch"), [(1000, 16), (1000, 1000), (50, 10), (1000, 7)])
def test_stratified_draws_one_from_each_part_of_the_schedule(timesteps: int, batch: int) -> None:
    for seed in range(20):
        t = drawn("stratified", timesteps, batch, seed).sort().values.double()
        assert (t.diff() - timesteps / batch).abs().max() <= 1
        assert t[0] < timesteps / batch
        assert t[-1] >= timesteps - timesteps / batch - 1


def test_each_stratified_timestep_is_uniform_whatever_its_place() -> None:
    draws = torch.stack([drawn("stratified", 10, 4, seed) for seed in range(4000)])
    for place in range(4):
        counts = torch.bincount(draws[:, place], minlength=10)
        # 400 expected, with a standard deviation of 19.
        assert (counts - 400).abs().max() < 5 * 19


def test_a_stratified_batch_estimates_a_mean_over_the_schedule_with_less_variance() -> None:
    loss = alphas_cumprod(DiffusionConfig())
    means = {
        name: torch.stack([loss[drawn(name, 1000, 16, seed)].mean() for seed in range(400)])
        for name in ("uniform", "stratified")
    }
    assert means["stratified"].mean().item() == pytest.approx(loss.mean().item(), abs=2e-3)
    # A monotone function on B points at equal distances, shifted by one u: its range over B·√12.
    expected = (loss[0] - loss[-1]).item() / (16 * math.sqrt(12))
    assert means["stratified"].std().item() == pytest.approx(expected, rel=0.1)
    assert means["uniform"].std().item() > 5 * expected


def test_logit_normal_has_its_closed_form_distribution() -> None:
    t = np.sort(drawn("logit_normal", 1000, 200_000).numpy())
    for threshold in (50, 200, 500, 800, 950):
        share = threshold / 1000
        expected = 0.5 * (1 + math.erf(math.log(share / (1 - share)) / math.sqrt(2)))
        assert np.searchsorted(t, threshold) / len(t) == pytest.approx(expected, abs=5e-3)


def levels(config: DiffusionConfig) -> np.ndarray:
    """σ of each timestep."""
    alpha_bar = alphas_cumprod(config).numpy()
    return np.sqrt((1 - alpha_bar) / alpha_bar)


@pytest.mark.parametrize(("mean", "spread"), [(-1.2, 1.2), (-0.5, 1.0), (1.0, 0.3)])
@pytest.mark.parametrize("schedule", ["paper", "cosine", "linear"])
def test_log_normal_has_its_closed_form_distribution_of_noise(schedule: str, mean: float, spread: float) -> None:
    config = DiffusionConfig(schedule=schedule, log_sigma_mean=mean, log_sigma_spread=spread)
    t = TIMESTEP_SAMPLERS["log_normal"](config, 100_000, torch.Generator().manual_seed(0))
    sigma = levels(config)
    for timestep in (200, 400, 600, 800):
        # What is drawn below the middle between two timesteps goes to the lower one.
        border = (math.log(sigma[timestep]) + math.log(sigma[timestep + 1])) / 2
        expected = 0.5 * (1 + math.erf((border - mean) / spread / math.sqrt(2)))
        assert (t <= timestep).double().mean().item() == pytest.approx(expected, abs=5e-3)


def test_log_normal_takes_the_nearest_timestep_and_never_pure_noise() -> None:
    config = DiffusionConfig(prediction="v", zero_terminal_snr=True, timesteps=50, log_sigma_spread=0.0)
    with np.errstate(divide="ignore"):
        sigma = levels(config)
    assert sigma[-1] == np.inf
    for mean in (-20.0, -3.0, -1.2, 0.0, 1.0, 50.0):
        drawn = TIMESTEP_SAMPLERS["log_normal"](config.replace(log_sigma_mean=mean), 3, torch.Generator())
        assert drawn.tolist() == [np.abs(np.log(sigma[:-1]) - mean).argmin()] * 3


@pytest.mark.parametrize("name", ["stratified", "logit_normal", "log_normal"])
def test_another_sampler_changes_the_timesteps_and_neither_latents_nor_noise(name: str) -> None:
    mean = torch.randn(8, 2, 4, 4).half()
    latents = Latents(mean, torch.full_like(mean, -3.0), ChannelStatistics.of(mean, torch.full_like(mean, -3.0)))
    config = DiffusionConfig(batch_size=8, prediction="x0", cutmix_probability=0.0)
    schedule = alphas_cumprod(config).float()
    batches = [
        noisy_batch(each, latents, schedule, draw_step(each, latents, 0, 1))
        for each in (config, config.replace(timestep_sampling=name))
    ]
    (_, t, z0, _), (_, other_t, other_z0, _) = batches
    assert torch.equal(z0, other_z0)
    assert not torch.equal(t, other_t)
    signal = schedule[t].sqrt().view(-1, 1, 1, 1), schedule[other_t].sqrt().view(-1, 1, 1, 1)
    noise = [(z_t - a * z0) / (1 - a.square()).sqrt() for (z_t, *_), a in zip(batches, signal, strict=True)]
    seen = (t > 50) & (other_t > 50)
    assert seen.any()
    torch.testing.assert_close(noise[0][seen], noise[1][seen], rtol=1e-3, atol=1e-3)
