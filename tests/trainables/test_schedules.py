"""The noise schedules against closed forms, and the forward process and its inverses."""

import numpy as np
import pytest
import torch

from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.process import add_noise, target, to_x0_and_noise
from trainables.denoiser.schedules import SCHEDULES, alphas_cumprod
from trainables.errors import ConfigError

PREDICTIONS = ("epsilon", "v", "x0")


def test_the_papers_schedule_is_its_formula() -> None:
    t = np.arange(1, 1001)
    betas = 1e-4 + (0.02 - 1e-4) * (1 - np.cos(t / 1000 * np.pi / 2))
    np.testing.assert_allclose(SCHEDULES["paper"](DiffusionConfig()).numpy(), betas, rtol=1e-12)
    np.testing.assert_allclose(alphas_cumprod(DiffusionConfig()).numpy(), np.cumprod(1 - betas), rtol=1e-12)
    assert betas[-1] == pytest.approx(0.02)


def test_the_cosine_schedule_follows_nichol_and_dhariwals_alpha_bar() -> None:
    alpha_bar = alphas_cumprod(DiffusionConfig(schedule="cosine")).numpy()
    f = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(alpha_bar[:-1], f[1:-1] / f[0], rtol=1e-9)
    assert alpha_bar[-1] == pytest.approx(alpha_bar[-2] * 0.001)


def test_the_linear_schedule_has_equal_distances_between_its_ends() -> None:
    betas = SCHEDULES["linear"](DiffusionConfig(schedule="linear")).numpy()
    assert (betas[0], betas[-1]) == (pytest.approx(1e-4), pytest.approx(0.02))
    np.testing.assert_allclose(np.diff(betas), (0.02 - 1e-4) / 999, rtol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("timesteps", [2, 50, 1000])
def test_alpha_bar_falls_strictly_inside_0_and_1(name: str, timesteps: int) -> None:
    alpha_bar = alphas_cumprod(DiffusionConfig(schedule=name, timesteps=timesteps))
    assert alpha_bar.shape == (timesteps,)
    assert alpha_bar.dtype == torch.float64
    assert (alpha_bar.diff() < 0).all()
    assert 0 < alpha_bar[-1] < alpha_bar[0] < 1


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("timesteps", [2, 1000])
def test_zero_terminal_snr_ends_at_0_and_leaves_the_beginning(name: str, timesteps: int) -> None:
    plain = DiffusionConfig(schedule=name, timesteps=timesteps, prediction="v")
    before, after = alphas_cumprod(plain), alphas_cumprod(plain.replace(zero_terminal_snr=True))
    assert after[-1] == after.float()[-1] == 0
    assert after[0].item() == pytest.approx(before[0].item(), rel=1e-12)
    assert (after.diff() < 0).all()
    # √ᾱ is shifted and scaled: its differences keep their proportions.
    ratios = after.sqrt().diff() / before.sqrt().diff()
    torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios), rtol=1e-6, atol=0)


def test_zero_terminal_snr_is_refused_with_epsilon_prediction() -> None:
    with pytest.raises(ConfigError, match="got prediction 'epsilon'; take prediction v or x0") as caught:
        DiffusionConfig(zero_terminal_snr=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("prediction", ["v", "x0"])
def test_at_pure_noise_the_estimates_are_finite_and_the_noise_is_z_t(prediction: str) -> None:
    z0, noise = torch.randn((2, 3, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    alpha_bar = torch.zeros(3)
    z_t = add_noise(z0, noise, alpha_bar)
    assert torch.equal(z_t, noise)
    x0, noise_hat = to_x0_and_noise(target(z0, noise, alpha_bar, prediction), z_t, alpha_bar, prediction)
    assert torch.equal(x0, z0)
    assert torch.equal(noise_hat, z_t)


def test_every_schedule_that_the_configuration_allows_exists() -> None:
    field = DiffusionConfig.__dataclass_fields__["schedule"]
    assert set(field.metadata["choices"]) == set(SCHEDULES)


def test_noise_is_added_with_unit_variance_kept() -> None:
    z0, noise = torch.full((1, 1, 1, 1), 3.0), torch.full((1, 1, 1, 1), 2.0)
    z_t = add_noise(z0, noise, torch.tensor([0.36], dtype=torch.float64))
    assert z_t.item() == pytest.approx(0.6 * 3 + 0.8 * 2)
    assert z_t.dtype == torch.float32


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_target_leads_back_to_x0_and_noise(prediction: str) -> None:
    generator = torch.Generator().manual_seed(0)
    z0, noise = torch.randn((2, 4, 3, 2, 2), generator=generator, dtype=torch.float64)
    alpha_bar = torch.tensor([0.9999, 0.5, 0.1, 1e-3], dtype=torch.float64)
    z_t = add_noise(z0, noise, alpha_bar)
    x0, noise_hat = to_x0_and_noise(target(z0, noise, alpha_bar, prediction), z_t, alpha_bar, prediction)
    torch.testing.assert_close(x0, z0, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(noise_hat, noise, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_any_output_gives_estimates_that_make_up_z_t(prediction: str) -> None:
    output, z_t = torch.randn(2, 3, 1, 4, 4)
    alpha_bar = torch.tensor([0.8, 0.5, 0.2], dtype=torch.float64)
    x0, noise_hat = to_x0_and_noise(output.bfloat16(), z_t, alpha_bar, prediction)
    assert x0.dtype == noise_hat.dtype == torch.float32
    torch.testing.assert_close(add_noise(x0, noise_hat, alpha_bar), z_t, rtol=1e-5, atol=1e-5)


def test_an_unknown_prediction_is_refused() -> None:
    zeros, alpha_bar = torch.zeros(1, 1, 1, 1), torch.tensor([0.5])
    with pytest.raises(ConfigError, match="epsilon, v, x0"):
        target(zeros, zeros, alpha_bar, "score")
    with pytest.raises(ConfigError, match="epsilon, v, x0"):
        to_x0_and_noise(zeros, zeros, alpha_bar, "score")
