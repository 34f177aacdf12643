"""Losses of reconstructions: known values, gradients, and that the plain MSE stays what it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainables.autoencoder.losses import (
    CHARBONNIER_EPSILON,
    PIXEL_LOSSES,
    TERMS,
    charbonnier,
    fidelity,
    gradient_difference,
    structural_dissimilarity,
    vae_loss,
    vae_loss_names,
)
from trainables.autoencoder.settings import VaeConfig
from trainables.measures.similarity import ms_ssim


def images(side: int = 16, count: int = 2, *, seed: int = 0) -> torch.Tensor:
    """Smooth blobs in [-1, 1], so that they have some structure at every scale."""
    random = torch.randn(count, 1, side // 4, side // 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(random, size=side, mode="bilinear").tanh()


def test_every_pixel_loss_that_the_configuration_allows_exists() -> None:
    field = VaeConfig.__dataclass_fields__["reconstruction_loss"]
    assert set(field.metadata["choices"]) == set(PIXEL_LOSSES)


def test_every_term_has_a_weight_in_the_configuration() -> None:
    assert set(TERMS) <= set(VaeConfig.__dataclass_fields__)
    assert all(getattr(VaeConfig(), field) == 0 for field in TERMS)


@pytest.mark.parametrize(("name", "expected"), [("mse", 0.25), ("l1", 0.5), ("charbonnier", 0.5)])
def test_a_constant_error_has_the_known_pixel_loss(name: str, expected: float) -> None:
    loss = PIXEL_LOSSES[name](torch.full((2, 1, 4, 4), 0.25), torch.full((2, 1, 4, 4), -0.25))
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_charbonnier_is_a_parabola_near_zero_and_the_l1_far_from_it() -> None:
    zero = torch.zeros(1, 1, 1, 1)
    for error in (0.0, 1e-5, 1e-4):
        near = CHARBONNIER_EPSILON + error**2 / (2 * CHARBONNIER_EPSILON)
        assert charbonnier(zero + error, zero).item() == pytest.approx(near, rel=1e-4)
    assert charbonnier(zero + 1.5, zero).item() == pytest.approx(1.5, rel=1e-5)


def test_the_gradient_term_sees_edges_and_not_brightness() -> None:
    ramp = torch.arange(5.0).repeat(5, 1)[None, None]
    assert gradient_difference(ramp + 0.7, ramp).item() == pytest.approx(0, abs=1e-5)
    assert gradient_difference(2 * ramp, ramp).item() == pytest.approx(1), "columns differ by 1, rows don't"
    assert gradient_difference(-ramp, ramp).item() == pytest.approx(2), "an edge of the wrong sign"
    assert gradient_difference(ramp.mT + ramp, ramp).item() == pytest.approx(1)


@pytest.mark.parametrize("side", [16, 32, 64, 128])
def test_the_structural_loss_is_one_less_the_measured_ms_ssim(side: int) -> None:
    truth = images(side)
    damaged = (truth + 0.2 * images(side, seed=1)).clamp(-1, 1)
    measured = ms_ssim(*(((x + 1) / 2).squeeze(1).numpy() for x in (damaged, truth)))
    assert structural_dissimilarity(damaged, truth).item() == pytest.approx(1 - np.mean(measured), abs=1e-5)
    assert structural_dissimilarity(truth, truth).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("side", [16, 64])
@pytest.mark.parametrize("kind", ["noise", "constant", "negative", "equal"])
def test_the_structural_loss_has_a_finite_gradient_for_any_reconstruction(side: int, kind: str) -> None:
    truth = images(side)
    noise = torch.rand(truth.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    shown = {"noise": noise, "constant": torch.full_like(truth, -1), "negative": -truth, "equal": truth}[kind]
    reconstructions = shown.clone().requires_grad_()
    structural_dissimilarity(reconstructions, truth).backward()
    assert reconstructions.grad is not None
    assert reconstructions.grad.isfinite().all()


def test_descending_the_structural_loss_brings_the_slice_back() -> None:
    truth = images(64)
    shown = (0.1 * images(64, seed=1)).requires_grad_()
    optimizer = torch.optim.Adam([shown], lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        loss = structural_dissimilarity(shown, truth)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_the_defaults_leave_the_loss_the_mse_itself() -> None:
    assert fidelity(VaeConfig()) is None
    assert vae_loss_names(VaeConfig()) == ("loss", "reconstruction", "kl")
    assert VaeConfig().identity().keys().isdisjoint({"reconstruction_loss", "ms_ssim_weight", "gradient_weight"})
    assert "ms_ssim_weight" in VaeConfig(ms_ssim_weight=0.1).identity()


def test_the_terms_add_up_and_the_mse_is_recorded_beside_them() -> None:
    config = VaeConfig(reconstruction_loss="l1", ms_ssim_weight=0.5, gradient_weight=0.25)
    truth, shown, zeros = images(), images(seed=1), torch.zeros(2, 4, 2, 2)
    losses = vae_loss(config, truth, shown, zeros + 1, zeros, kl_weight=0.1)
    assert tuple(losses) == vae_loss_names(config)
    expected = (
        (truth - shown).abs().mean()
        + 0.5 * structural_dissimilarity(shown, truth)
        + 0.25 * gradient_difference(shown, truth)
    )
    torch.testing.assert_close(losses["fidelity"], expected)
    torch.testing.assert_close(losses["loss"], expected + 0.1 * 8.0)
    torch.testing.assert_close(losses["reconstruction"], (truth - shown).square().mean())
