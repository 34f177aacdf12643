"""Moves of latents: what is done is what the label says, and label 0 is the latents as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainables.denoiser.augmentation import draw_moves
from trainables.denoiser.batch import draw_step, noisy_batch
from trainables.denoiser.condition import Condition
from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.latents import NO_WHITENING, Latents
from trainables.denoiser.sampling import initial_noise, sample
from trainables.denoiser.sampling_settings import SamplingConfig
from trainables.denoiser.schedules import alphas_cumprod
from trainables.denoiser.training import train_denoiser
from trainables.denoiser.unet import UNet
from trainables.loop.settings import Execution

TINY = DiffusionConfig(
    widths=(8, 8), blocks=1, attention_levels=(), embedding_channels=16, dropout=0.0, batch_size=16, precision="fp32"
)
SIZE = (16, 16)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_latent_is_flipped_and_then_shifted_as_its_label_says() -> None:
    moves, latents = draw_moves(40, SIZE, 1.0, random()), torch.randn(40, 3, *SIZE)
    moved = moves.apply(latents)
    for latent, result, (flip, down, across) in zip(latents, moved, moves.labels.tolist(), strict=True):
        expected = latent.flip(2) if flip else latent
        assert torch.equal(result, expected.roll((round(2 * down), round(2 * across)), (1, 2)))
    assert moved.is_contiguous()
    assert set(moves.labels[:, 0].tolist()) == {0.0, 1.0}
    assert set(moves.labels[:, 1:].flatten().tolist()) == {-1.0, -0.5, 0.0, 0.5, 1.0}


def test_label_0_is_the_latent_as_it_is_and_no_other_is() -> None:
    moves, latents = draw_moves(500, SIZE, 0.3, random()), torch.randn(500, 1, *SIZE)
    unmoved = (moves.apply(latents) == latents).flatten(1).all(dim=1)
    assert torch.equal(unmoved, (moves.labels == 0).all(dim=1))
    assert 0.5 < unmoved.float().mean() < 0.7, "0.7·(1 - 0.15) of them, and a 25th of the shifts"


@pytest.mark.parametrize("size", [(4, 4), (8, 16), (1, 1)])
def test_small_latents_are_shifted_by_a_cell_at_most(size: tuple[int, int]) -> None:
    moves = draw_moves(300, size, 1.0, random())
    assert moves.shifts.abs().amax(dim=0).tolist() == [max(1, side // 8) for side in size]
    assert moves.apply(torch.randn(300, 2, *size)).shape == (300, 2, *size)


def test_as_many_numbers_are_drawn_whatever_the_probability() -> None:
    first, second = random(), random()
    none, _ = draw_moves(9, SIZE, 0.0, first), draw_moves(9, SIZE, 1.0, second)
    assert not none.labels.any()
    assert torch.equal(first.get_state(), second.get_state())


@pytest.mark.parametrize("form", ["z0", "zt"])
def test_a_batch_is_the_one_without_moved_and_no_latent_of_label_0_holds_a_moved_piece(form: str) -> None:
    schedule = alphas_cumprod(TINY).float()
    mean = torch.randn(40, 2, *SIZE, generator=random())
    data = Latents(mean, torch.full_like(mean, -3), NO_WHITENING)
    config = TINY.replace(cutmix_form=form, cutmix_probability=1.0)
    moving = config.replace(augmentation_probability=0.5)
    (z_t, t, wanted, _), (moved, same_t, moved_wanted, condition) = (
        noisy_batch(c, data, schedule, draw_step(c, data, 5, 3)) for c in (config, moving)
    )
    assert condition.augmentation is not None
    assert torch.equal(t, same_t)
    moves = draw_step(moving, data, 5, 3).moves
    assert moves is not None
    assert torch.equal(moved, moves.apply(z_t))
    assert torch.equal(moved_wanted, moves.apply(wanted))
    assert torch.equal(condition.augmentation, moves.labels)
    still = (condition.augmentation == 0).all(dim=1)
    assert 0 < still.sum() < len(still)
    assert torch.equal(moved[still], z_t[still])


def test_another_step_moves_otherwise_and_without_augmentation_nothing_is_touched() -> None:
    mean = torch.randn(40, 2, *SIZE)
    data = Latents(mean, torch.full_like(mean, -3), NO_WHITENING)
    first, second = (draw_step(TINY.replace(augmentation_probability=0.5), data, step, 3).moves for step in (1, 2))
    assert first is not None
    assert second is not None
    assert not torch.equal(first.shifts, second.shifts)
    assert draw_step(TINY, data, 1, 3).moves is None


def test_label_0_adds_nothing_to_the_denoiser() -> None:
    torch.manual_seed(0)
    model = UNet(2, TINY.replace(augmentation_probability=0.1)).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=parameter[0].numel() ** -0.5)
    z, t = torch.randn(2, 2, *SIZE), torch.tensor([3, 800])
    assert torch.equal(model(z, t), model(z, t, condition=Condition(augmentation=torch.zeros(2, 3))))
    assert not torch.equal(model(z, t), model(z, t, condition=Condition(augmentation=torch.ones(2, 3))))


@pytest.mark.slow
def test_samples_are_of_latents_as_they_are_though_half_of_the_training_was_flipped(tmp_path: Path) -> None:
    """A denoiser of latents that are bright on the left half and dark on the right."""
    config = TINY.replace(
        augmentation_probability=1.0,
        batch_size=32,
        steps=250,
        prediction="v",
        frequency_weight=0.0,
        cutmix_probability=0.0,
        ema_decay=0.9,
        warmup_steps=10,
        learning_rate=5e-3,
        posterior="mean",
        validations=1,
    )
    mean = torch.randn(64, 1, 8, 8, generator=random()) * 0.3
    mean[..., :4] += 1
    mean[..., 4:] -= 1
    data = Latents(mean, torch.full_like(mean, -9), NO_WHITENING)
    model = train_denoiser(config, data, data, seed=0, folder=tmp_path, execution=Execution())[0].own
    sampling = SamplingConfig(steps=10, early_stop_threshold=0.0, precision="fp32")
    noise = initial_noise(range(64), (1, 8, 8))
    drawn = sample(model, noise, seeds=range(64), diffusion=config, config=sampling).latents[0]
    the_right_way = (drawn[..., :4].mean(dim=(1, 2, 3)) > drawn[..., 4:].mean(dim=(1, 2, 3))).float().mean()
    assert the_right_way > 0.9
