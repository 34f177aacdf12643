"""The `paper` recipe's training settings, as published; its networks and schedule have tests of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainables.autoencoder.training import train_vae, vae_steps
from trainables.denoiser.averages import update_ema
from trainables.denoiser.latents import NO_WHITENING, Latents
from trainables.denoiser.stopping import STOP_MEASURES
from trainables.denoiser.training import sum_losses, train_denoiser
from trainables.loop.optimiser import cosine_rate
from trainables.loop.settings import Execution
from trainables.recipes import PAPER


def test_the_autoencoder_is_trained_as_published() -> None:
    vae = PAPER.vae
    assert (vae.kl_weight, vae.kl_anneal_epochs) == (1e-5, 20)
    assert (vae.learning_rate, vae.weight_decay, vae.batch_size, vae.gradient_clip) == (1e-4, 1e-5, 32, 1.0)
    assert vae.epochs == 220
    assert vae.max_steps is None
    assert (vae.flip_probability, vae.rotation_degrees, vae.translation, vae.scaling) == (0.5, 10.0, 0.05, 0.05)
    assert vae_steps(vae, 1616) == 220 * (1616 // 32)


def test_the_denoiser_is_trained_as_published() -> None:
    diffusion = PAPER.diffusion
    assert diffusion.prediction == "epsilon"
    assert (diffusion.schedule, diffusion.timesteps) == ("paper", 1000)
    assert (diffusion.beta_min, diffusion.beta_max) == (1e-4, 0.02)
    assert (diffusion.frequency_loss, diffusion.frequency_weight) == ("squared_l2", 0.1)
    assert diffusion.frequency_norm == "backward", "as PyTorch scales an FFT by default"
    assert diffusion.gradient_clip == 0, "the text names a clip for the autoencoder alone"
    assert diffusion.cutmix_probability == 0.25
    assert (diffusion.learning_rate, diffusion.batch_size, diffusion.warmup_steps) == (2e-4, 16, 1000)
    assert (diffusion.steps, diffusion.ema_decay, diffusion.ema_warmup) == (100_000, 0.9999, False)
    assert (diffusion.loss_weighting, diffusion.whiten, diffusion.dropout) == ("none", False, 0.1)


def test_images_are_drawn_split_and_measured_as_published() -> None:
    sampling = PAPER.sampling
    assert (sampling.sampler, sampling.steps, sampling.eta) == ("ddim", 50, 0.0)
    assert (sampling.early_stop_rule, sampling.early_stop_threshold) == ("noise_norm", 0.05)
    assert (PAPER.evaluation.samples, PAPER.data.image_size, PAPER.data.split) == (200, 128, "slice")


def test_the_total_is_26_times_the_mse_as_the_papers_losses_are() -> None:
    random = torch.Generator().manual_seed(0)
    output, noise = torch.randn(2, 64, 8, 16, 16, generator=random)
    total, mse, _ = (sum_losses(PAPER.diffusion, output, noise, torch.full((64,), 0.5)) / 64).tolist()
    assert total == pytest.approx(26.6 * mse, rel=1e-4)
    assert total == pytest.approx(53.2, rel=0.01), "of a random predictor of unit variance: near 60"
    orthonormal = PAPER.diffusion.replace(frequency_norm="ortho")
    total, mse, _ = (sum_losses(orthonormal, output, noise, torch.full((64,), 0.5)) / 64).tolist()
    assert total == pytest.approx(1.1 * mse, rel=1e-4)


def test_the_norm_of_the_early_stop_is_that_of_one_value_in_any_latent() -> None:
    for channels in (4, 8):
        noise = torch.randn(16, channels, 16, 16, generator=torch.Generator().manual_seed(0))
        measure = STOP_MEASURES[PAPER.sampling.early_stop_rule](noise, noise, 0.5, None)
        torch.testing.assert_close(measure, torch.ones(16), rtol=0.1, atol=0)
        torch.testing.assert_close(measure * (channels * 256) ** 0.5, noise.flatten(1).norm(dim=1))


def test_the_learning_rate_warms_up_and_decays_by_a_cosine() -> None:
    assert cosine_rate(0, 100_000, 1000) == pytest.approx(1e-3)
    assert cosine_rate(999, 100_000, 1000) == 1.0
    assert cosine_rate(50_500, 100_000, 1000) == pytest.approx(0.5)
    assert cosine_rate(99_999, 100_000, 1000) < 1e-8


def test_both_loops_hand_the_settings_to_adamw(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[float, float]] = []
    adamw = torch.optim.AdamW

    def spy(parameters: object, *, lr: float, weight_decay: float, **others: object) -> torch.optim.AdamW:
        seen.append((lr, weight_decay))
        return adamw(parameters, lr=lr, weight_decay=weight_decay, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.optim, "AdamW", spy)
    tiny = PAPER.replace(
        **{"vae.widths": (8, 8), "vae.max_steps": 1, "diffusion.widths": (8, 8), "diffusion.steps": 1}
    )
    for name in ("vae", "denoiser"):
        (tmp_path / name).mkdir()
    slices = torch.zeros(2, 16, 16, dtype=torch.uint8)
    latents = Latents(torch.zeros(2, 8, 8, 8), torch.zeros(2, 8, 8, 8), NO_WHITENING)
    execution = Execution()
    train_vae(tiny.vae, slices, slices, seed=0, folder=tmp_path / "vae", execution=execution)
    train_denoiser(tiny.diffusion, latents, latents, seed=0, folder=tmp_path / "denoiser", execution=execution)
    assert seen == [(1e-4, 1e-5), (2e-4, PAPER.diffusion.weight_decay)]


def test_the_average_keeps_the_initial_weights_unless_it_is_warmed_up() -> None:
    def moved(warmup: bool) -> float:
        average, model = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(average.weight)
        torch.nn.init.ones_(model.weight)
        for step in range(100):
            update_ema(average, model, step, 0.9999, warmup)
        return average.weight.item()

    assert moved(warmup=False) == pytest.approx(1 - 0.9999**100, rel=1e-4)
    assert moved(warmup=True) > 0.99
