"""A decoder that forgives: noise on what it learns from, as a share of each latent's own spread."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from trainables.autoencoder.batch import draw_disturbance, draw_step
from trainables.autoencoder.discriminator import Adversary
from trainables.autoencoder.settings import VaeConfig
from trainables.autoencoder.training import accumulate, validation_loss
from trainables.autoencoder.vae import Autoencoder, disturb, sample_posterior
from trainables.loop.draws import generator
from trainables.loop.precision import WorkingCopy

CONFIG = VaeConfig(widths=(8, 8), blocks=1, attention=False, latent_channels=3, batch_size=6, latent_noise=0.5)


def test_the_noise_is_normal_with_a_sigma_for_each_slice_uniform_from_0_to_the_largest() -> None:
    drawn = draw_disturbance(0.5, torch.Size((2000, 4, 8, 8)), generator(0, "disturbance"))
    assert drawn is not None
    sigma = drawn.flatten(1).std(dim=1)
    quantiles = torch.tensor([0.1, 0.5, 0.9])
    torch.testing.assert_close(sigma.quantile(quantiles), 0.5 * quantiles, atol=0.02, rtol=0)
    assert sigma.max() < 0.6
    scaled = drawn / sigma[:, None, None, None]
    assert scaled.mean().abs() < 0.01
    assert scaled.pow(4).mean().item() == pytest.approx(3, abs=0.1), "normal, at each sigma"
    assert draw_disturbance(0.0, torch.Size((2, 1, 1, 1)), generator(0, "disturbance")) is None


def test_a_latent_is_disturbed_in_proportion_to_its_own_channels_spread() -> None:
    random = generator(1, "latents")
    scale = torch.tensor([0.1, 1.0, 30.0])[None, :, None, None]
    latents, noise = torch.randn(5, 3, 8, 8, generator=random) * scale + 7, torch.randn(5, 3, 8, 8, generator=random)
    added = disturb(latents, noise) - latents
    expected = noise * latents.flatten(2).std(dim=2, correction=0)[:, :, None, None]
    torch.testing.assert_close(added, expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(disturb(latents[2:3], noise[2:3]), disturb(latents, noise)[2:3]), (
        "whatever else is in the batch"
    )
    latents.requires_grad_()
    (gradient,) = torch.autograd.grad(disturb(latents, noise).sum(), latents)
    assert torch.equal(gradient, torch.ones_like(gradient)), "the spread has none"


def test_the_decoder_learns_from_disturbed_latents_and_is_validated_by_clean_ones() -> None:
    torch.manual_seed(0)
    images, draws = torch.rand(6, 1, 16, 16) * 2 - 1, draw_step(CONFIG, 6, 16, 0, 3)
    model = Autoencoder(CONFIG)
    working, scaler = WorkingCopy(model, torch.float32), torch.amp.GradScaler("cpu", enabled=False)
    _, mse, *_ = accumulate(CONFIG, working, images, draws, [slice(0, 6)], scaler, Adversary(CONFIG)).tolist()
    assert draws.disturbance is not None
    z = sample_posterior(*model.encode(images), draws.noise)
    decoded = model.decode(disturb(z, draws.disturbance))
    assert mse == pytest.approx(F.mse_loss(decoded, images).item(), rel=1e-5)
    assert mse != pytest.approx(F.mse_loss(model.decode(z), images).item(), rel=1e-5)
    slices = torch.randint(0, 256, (4, 16, 16), dtype=torch.uint8)
    clean, noisy = (validation_loss(model, slices, each, torch.device("cpu")) for each in (PLAIN, CONFIG))
    assert clean == noisy


PLAIN = CONFIG.replace(latent_noise=0.0)


def test_all_else_that_is_drawn_stays_as_it_was() -> None:
    before, after, again = (draw_step(config, 6, 16, 4, 3) for config in (PLAIN, CONFIG, CONFIG))
    assert before.disturbance is None
    assert all(torch.equal(one, other) for one, other in zip(before[:4], after[:4], strict=True))
    assert after.disturbance is not None
    assert again.disturbance is not None
    assert torch.equal(after.disturbance, again.disturbance)
    assert after.disturbance.shape == after.noise.shape
