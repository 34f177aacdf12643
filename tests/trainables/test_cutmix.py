"""Latent CutMix: which cells are replaced, how often, and by whom."""

import pytest
import torch

from trainables.denoiser.augmentation import cutmix, draw_rectangles


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
