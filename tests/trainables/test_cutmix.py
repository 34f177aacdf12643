"""Latent CutMix: which cells are replaced, how often, and by whom."""

import pytest
import torch

from trainables.denoiser.augmentation import cutmix, draw_rectangles, label_width
from trainables.denoiser.batch import draw_step, noisy_batch
from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.latents import NO_WHITENING, Latents
from trainables.denoiser.schedules import alphas_cumprod
from trainables.denoiser.unet import UNet


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_with_probability_0_nothing_is_replaced() -> None:
    mask, _ = draw_rectangles(64, (16, 16), 0.0, generator())
    assert mask.shape == (64, 1, 16, 16)
    assert mask.dtype == torch.bool
    assert not mask.any()


def test_with_probability_1_every_latent_has_a_filled_rectangle() -> None:
    mask, _ = draw_rectangles(500, (8, 12), 1.0, generator())
    for cells in mask[:, 0]:
        rows, columns = cells.any(dim=1), cells.any(dim=0)
        assert rows.any()
        assert torch.equal(cells, rows[:, None] & columns)
        for side in (rows, columns):
            assert side.int().diff().abs().sum() + side[0].int() + side[-1].int() == 2


def test_a_quarter_of_the_latents_is_mixed_at_the_papers_probability() -> None:
    mask, _ = draw_rectangles(8000, (4, 4), 0.25, generator())
    assert mask.flatten(1).any(dim=1).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_rectangles_are_of_all_sizes_and_everywhere() -> None:
    mask, _ = draw_rectangles(8000, (8, 8), 1.0, generator())
    share = mask.flatten(1).float().mean(dim=1)
    assert share.min() < 0.05
    assert share.max() > 0.9
    assert (mask.float().mean(dim=0) > 0.1).all()


@pytest.mark.parametrize("batch", [2, 3, 16])
def test_nobody_is_their_own_partner_and_everybody_is_somebodys(batch: int) -> None:
    for seed in range(30):
        _, partners = draw_rectangles(batch, (4, 4), 1.0, generator(seed))
        assert (partners != torch.arange(batch)).all()
        assert partners.sort().values.tolist() == list(range(batch))


def test_a_lone_latent_stays_as_it_is() -> None:
    latents = torch.randn(1, 2, 4, 4)
    mask, partners = draw_rectangles(1, (4, 4), 1.0, generator())
    assert torch.equal(cutmix(latents, partners, mask), latents)


def test_cells_inside_come_from_the_partner_and_the_others_stay() -> None:
    latents = torch.randn(4, 3, 8, 8)
    mask, partners = draw_rectangles(4, (8, 8), 1.0, generator(3))
    mixed = cutmix(latents, partners, mask)
    for index in range(4):
        inside = mask[index].expand(3, -1, -1)
        assert torch.equal(mixed[index][inside], latents[partners[index]][inside])
        assert torch.equal(mixed[index][~inside], latents[index][~inside])


def test_the_generator_decides_and_moves_on_alike_for_every_probability() -> None:
    first, second = generator(), generator()
    a, b = draw_rectangles(5, (4, 4), 0.0, first), draw_rectangles(5, (4, 4), 1.0, second)
    assert torch.equal(a[1], b[1])
    assert torch.equal(first.get_state(), second.get_state())
    assert not torch.equal(draw_rectangles(5, (4, 4), 1.0, generator(1))[0], b[0])


LABELLED = DiffusionConfig(
    widths=(8, 8), blocks=1, attention_levels=(), embedding_channels=16, batch_size=40, cutmix_probability=0.5,
    cutmix_form="z0", cutmix_labelled=True,
)  # fmt: skip


@pytest.mark.parametrize("moving", [0.0, 0.5])
def test_the_label_is_the_share_that_was_replaced_and_comes_last(moving: float) -> None:
    mean = torch.randn(60, 2, 8, 8)
    data, schedule = Latents(mean, mean - 9, NO_WHITENING), alphas_cumprod(LABELLED).float()
    config = LABELLED.replace(augmentation_probability=moving)
    draws = draw_step(config, data, 2, 3)
    labels = noisy_batch(config, data, schedule, draws).condition.augmentation
    assert labels is not None
    assert labels.shape == (40, label_width(config)) == (40, 4 if moving else 1)
    assert torch.equal(labels[:, -1], draws.rectangles.float().mean(dim=(1, 2, 3)))
    assert 8 < (labels[:, -1] > 0).sum() < 32
    if draws.moves is not None:
        assert torch.equal(labels[:, :-1], draws.moves.labels)


def test_only_the_label_is_added_and_only_where_there_is_cutmix() -> None:
    mean = torch.randn(60, 2, 8, 8)
    data, schedule = Latents(mean, mean - 9, NO_WHITENING), alphas_cumprod(LABELLED).float()
    told, untold = (
        noisy_batch(config, data, schedule, draw_step(config, data, 2, 3))
        for config in (LABELLED, LABELLED.replace(cutmix_labelled=False))
    )
    assert untold.condition.augmentation is None
    assert all(torch.equal(one, other) for one, other in zip(told[:3], untold[:3], strict=True))
    assert label_width(LABELLED.replace(cutmix_probability=0.0)) == 0
    assert UNet(2, LABELLED.replace(cutmix_probability=0.0)).augmentation is None
    network = UNet(2, LABELLED)
    assert network.augmentation is not None
    assert network.augmentation.weight.shape == (16, 1)
