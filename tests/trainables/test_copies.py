"""Altered copies of slices: what is done is what the label says, and a label of 0 is the slice as it is."""

from __future__ import annotations

import pytest
import torch

from trainables.data.images import affine_maps
from trainables.denoiser.augmentation import LABELS, draw_versions, label_width
from trainables.denoiser.batch import draw_step, noisy_batch
from trainables.denoiser.copies import COPY_LABELS, GAMMA, SCALE, Alterations, draw_alterations
from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.latents import NO_WHITENING, Latents
from trainables.denoiser.schedules import alphas_cumprod
from trainables.denoiser.unet import UNet
from trainables.loop.draws import generator

CONFIG = DiffusionConfig(
    widths=(8, 8), blocks=1, attention_levels=(), embedding_channels=16, batch_size=200, flip_probability=0.5,
    augmentation_probability=0.25, augmented_copies=3, cutmix_probability=1.0, cutmix_form="z0", posterior="mean",
)  # fmt: skip


def nothing(count: int) -> Alterations:
    one, zero = torch.ones(count), torch.zeros(count)
    return Alterations(affine_maps(one, zero, one, zero, zero), one, zero, torch.zeros(count, COPY_LABELS))


def slices(count: int, side: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, side, side), dtype=torch.uint8, generator=generator(0, "slices"))


def test_where_nothing_is_done_the_slice_is_as_it_was() -> None:
    images = slices(70, 16)
    done = nothing(70).apply(images, 16)
    assert (done.int() - images.int()).abs().max() <= 1, "but for rounding"


def test_the_label_says_what_was_done() -> None:
    alterations = draw_alterations(500, generator(1, "copy"))
    flipped, turn, scale, across, down, gamma, contrast = alterations.labels.unbind(1)
    assert set(flipped.tolist()) == {0.0, 1.0}
    assert alterations.labels.abs().max() <= 1
    linear = alterations.maps[:, :, :2]
    torch.testing.assert_close(torch.linalg.det(linear), (1 - 2 * flipped) / SCALE ** (2 * scale))
    angle = torch.atan2(-linear[:, 0, 1], linear[:, 1, 1])
    torch.testing.assert_close(angle, turn * torch.pi / 18)
    torch.testing.assert_close(alterations.maps[:, :, 2], torch.stack([across, down], dim=1) * 0.1)
    torch.testing.assert_close(alterations.gamma, GAMMA**gamma)
    torch.testing.assert_close(alterations.contrast, contrast * 0.4)
    assert (alterations.labels.std(dim=0)[1:] - 3**-0.5).abs().max() < 0.04, "uniform"


def test_intensities_follow_gamma_and_then_the_curve_and_keep_black_white_and_order() -> None:
    ramp = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    for gamma, contrast in ((1.2, 0.3), (0.8, -0.4)):
        lit = nothing(1)._replace(gamma=torch.tensor([gamma]), contrast=torch.tensor([contrast]))
        done = lit.apply(ramp, 16).flatten()
        x = (torch.arange(256) / 255) ** gamma
        expected = 255 * (x + contrast * x * (1 - x) * (2 * x - 1))
        assert (done - expected).abs().max() <= 0.51
        assert (done.diff().int() >= 0).all()
        assert (done[0], done[-1]) == (0, 255)


def test_a_copy_is_warped_at_the_stored_size_and_each_slice_by_itself() -> None:
    images, alterations = slices(70, 32), draw_alterations(70, generator(2, "copy"))
    done = alterations.apply(images, 16)
    assert done.shape == (70, 16, 16)
    alone = Alterations(*(each[66:67] for each in alterations)).apply(images[66:67], 16)
    assert torch.equal(done[66:67], alone)


def test_versions_are_drawn_as_often_as_asked() -> None:
    versions = draw_versions(CONFIG, 20_000, generator(3, "versions"))
    shares = torch.bincount(versions, minlength=5) / len(versions)
    expected = torch.tensor([0.375, 0.375, 1 / 12, 1 / 12, 1 / 12])
    assert (shares - expected).abs().max() < 0.02
    plain = draw_versions(CONFIG.replace(flip_probability=0.0), 20_000, generator(3, "versions"))
    assert plain.max() == 3
    assert (plain == 0).float().mean().item() == pytest.approx(0.75, abs=0.02)


def of_versions(count: int) -> Latents:
    """Latents that are the number of their row, of CONFIG's five versions."""
    mean = torch.arange(5.0 * count)[:, None, None, None].expand(-1, 2, 8, 8).clone()
    labels = torch.cat([torch.zeros(2 * count, COPY_LABELS), torch.ones(3 * count, COPY_LABELS)])
    return Latents(mean, torch.full_like(mean, -9), NO_WHITENING, versions=5, labels=labels)


def test_a_sample_has_its_copys_label_and_none_of_label_0_holds_a_piece_of_a_copy() -> None:
    data, schedule = of_versions(400), torch.ones(1000)
    draws = draw_step(CONFIG, data, 5, 3)
    batch = noisy_batch(CONFIG, data, schedule, draws)
    labels = batch.condition.augmentation
    assert labels is not None
    copied = draws.indices >= 800
    assert torch.equal(labels, copied[:, None].float().expand(-1, COPY_LABELS))
    assert 20 < copied.sum() < 80
    clean = batch.z_t[~copied]
    assert clean.max() < 800
    assert (clean.flatten(1).amax(dim=1) != clean.flatten(1).amin(dim=1)).any(), "CutMix goes on among the others"
    assert draws.moves is None, "latents aren't moved, too"


def test_the_label_of_the_network_is_as_wide_as_what_it_is_told() -> None:
    widths = {label_width(CONFIG): COPY_LABELS, label_width(CONFIG.replace(augmented_copies=0)): LABELS}
    assert all(found == expected for found, expected in widths.items())
    assert label_width(CONFIG.replace(augmentation_probability=0.0)) == 0
    network = UNet(2, CONFIG)
    assert network.augmentation is not None
    assert network.augmentation.weight.shape == (16, COPY_LABELS)
    batch = noisy_batch(
        CONFIG, of_versions(400), alphas_cumprod(CONFIG).float(), draw_step(CONFIG, of_versions(400), 0, 3)
    )
    assert network(batch.z_t[:2], batch.t[:2], None, batch.condition[:2]).shape == (2, 2, 8, 8)
