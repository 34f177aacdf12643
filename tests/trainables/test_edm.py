"""What EDM (Karras et al. 2022) is in the terms of this schedule: v-prediction, at the right spread of the data."""

from __future__ import annotations

import pytest
import torch

from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.losses import power
from trainables.denoiser.process import add_noise, target, to_x0_and_noise
from trainables.denoiser.schedules import SCHEDULES, alphas_cumprod, log_sigmas, noise_labels
from trainables.denoiser.unet import UNet, timestep_embedding

SPREADS = [1.0, 0.5, 2.5]
T = torch.tensor([0, 99, 499, 899, 999])
ALPHA_BAR = alphas_cumprod(DiffusionConfig())[T]
SIGMA = log_sigmas(DiffusionConfig())[T].exp()


def column(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None, None]


def latents(spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean latents of this spread, and noise."""
    z0, noise = torch.randn((2, 5, 2, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return spread * z0, noise


def preconditioning(spread: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """c_skip, c_out and c_in of table 1, for data of this spread (σ_data)."""
    total = (SIGMA**2 + spread**2).sqrt()
    return column(spread**2 / total**2), column(SIGMA * spread / total), column(1 / total)


def wanted_of_edm(z0: torch.Tensor, noise: torch.Tensor, spread: float) -> torch.Tensor:
    """What EDM's network F learns: (y − c_skip·(y + n))/c_out (eq. 8)."""
    skip, out, _ = preconditioning(spread)
    return (z0 - skip * (z0 + column(SIGMA) * noise)) / out


def test_sigma_is_the_noise_of_z_t_over_its_signal() -> None:
    z0, noise = latents()
    torch.testing.assert_close(add_noise(z0, noise, ALPHA_BAR) / column(ALPHA_BAR).sqrt(), z0 + column(SIGMA) * noise)


def test_at_a_spread_of_1_the_network_of_edm_sees_z_t_and_learns_minus_v() -> None:
    z0, noise = latents()
    _, _, into = preconditioning(1.0)
    torch.testing.assert_close(into * (z0 + column(SIGMA) * noise), add_noise(z0, noise, ALPHA_BAR))
    torch.testing.assert_close(wanted_of_edm(z0, noise, 1.0), -target(z0, noise, ALPHA_BAR, "v"))


def test_so_its_denoiser_is_that_of_v_and_its_weighted_loss_the_mse_of_v() -> None:
    z0, noise = latents()
    skip, out, _ = preconditioning(1.0)
    output = torch.randn(z0.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    denoised = skip * (z0 + column(SIGMA) * noise) + out * output
    x0, _ = to_x0_and_noise(-output, add_noise(z0, noise, ALPHA_BAR), ALPHA_BAR, "v")
    torch.testing.assert_close(denoised, x0)
    weight = (SIGMA**2 + 1) / SIGMA**2  # λ(σ) = 1/c_out² at σ_data = 1
    weighted = weight * (denoised - z0).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(weighted.float(), power(-output, target(z0, noise, ALPHA_BAR, "v"), 2))


@pytest.mark.parametrize("spread", SPREADS)
def test_at_another_spread_it_is_v_of_latents_scaled_to_1_at_the_same_signal_to_noise_ratio(spread: float) -> None:
    """So whitening takes the place of σ_data, and the schedule's place moves by its logarithm."""
    z0, noise = latents(spread)
    alpha_bar = 1 / (1 + (SIGMA / spread) ** 2)
    torch.testing.assert_close(wanted_of_edm(z0, noise, spread), -target(z0 / spread, noise, alpha_bar, "v"))
    _, _, into = preconditioning(spread)
    torch.testing.assert_close(into * (z0 + column(SIGMA) * noise), add_noise(z0 / spread, noise, alpha_bar))


SMALL = DiffusionConfig(widths=(8,), blocks=1, attention_levels=(), embedding_channels=16, noise_label="log_sigma")


def test_the_label_of_a_noise_level_is_a_quarter_of_its_logarithm() -> None:
    torch.testing.assert_close(noise_labels(SMALL)[T], (SIGMA.log() / 4).float())


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_labels_are_finite_and_tell_all_timesteps_apart(schedule: str, zero_snr: bool) -> None:
    labels = noise_labels(DiffusionConfig(prediction="v", schedule=schedule, zero_terminal_snr=zero_snr))
    assert labels.isfinite().all()
    assert labels.diff().min() > 0
    assert -2 < labels.min() < labels.max() < 5


def test_the_denoiser_is_told_the_label_in_place_of_the_timestep() -> None:
    torch.manual_seed(0)
    model = UNet(2, SMALL)
    heard: list[torch.Tensor] = []
    model.embed[0].register_forward_hook(lambda layer, given, output: heard.append(given[0]))
    z_t, t = torch.randn(3, 2, 4, 4), torch.tensor([3, 500, 999])
    model(z_t, t)
    torch.testing.assert_close(heard[0], timestep_embedding(noise_labels(SMALL)[t], 16))
    assert not any("labels" in name for name in model.state_dict()), "they follow from the configuration"


def test_all_weights_start_the_same_with_the_label() -> None:
    states = []
    for config in (SMALL, SMALL.replace(noise_label="timestep")):
        torch.manual_seed(0)
        states.append(UNet(2, config).state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())
