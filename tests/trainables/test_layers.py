"""Layers that differ from PyTorch's own, held against them."""

import pytest
import torch
from torch.nn import functional as F

from trainables.loop.draws import LayerGenerators, Masks
from trainables.loop.layers import attention, conditional_norm, group_norm


def masks(seed: int, batch: int) -> Masks:
    """Of a whole batch."""
    return Masks(LayerGenerators(seed), batch, slice(0, batch))


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_dropout_zeroes_its_share_and_keeps_the_mean(probability: float) -> None:
    h = torch.ones(32, 64, 16, 16)
    dropped = masks(3, 32).drop(h, probability, 0)
    # Half a million draws: the share's standard deviation is below 0.0007.
    assert (dropped == 0).float().mean() == pytest.approx(probability, abs=0.004)
    assert dropped.mean() == pytest.approx(1, abs=0.008)
    assert len(dropped.unique()) == 2


def test_dropout_of_a_share_is_that_of_the_whole_batch() -> None:
    h = torch.randn(5, 3, 7, 7)  # 735 values: not a multiple of those drawn at a time
    whole = masks(3, 5).drop(h, 0.3, 2)
    generators = LayerGenerators(3)
    parts = [Masks(generators, 5, share).drop(h[share], 0.3, 2) for share in (slice(0, 2), slice(2, 5))]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(masks(3, 5).drop(h, 0.3, 1), whole), "a mask of its own in each layer"
    assert not torch.equal(masks(4, 5).drop(h, 0.3, 2), whole), "and in each step"
    generators.reseed(4)
    assert torch.equal(Masks(generators, 5, slice(0, 5)).drop(h, 0.3, 2), masks(4, 5).drop(h, 0.3, 2))


def test_dropout_draws_are_independent_of_their_place() -> None:
    kept = masks(0, 64).drop(torch.ones(64, 16, 16, 16), 0.5, 0).flatten().sign()
    for distance in (1, 2, 3, 4, 8):  # four values share a word of the generator
        together = (kept[distance:] * kept[:-distance]).mean()
        assert together == pytest.approx(0.25, abs=0.006)


def test_attention_is_pytorchs() -> None:
    query, key, value = torch.randn(3, 2, 4, 64, 16)
    assert torch.allclose(attention(query, key, value), F.scaled_dot_product_attention(query, key, value), atol=1e-5)


def test_the_conditional_norm_is_the_formula_with_its_gradients() -> None:
    norm = group_norm(16)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    h, modulation = torch.randn(3, 16, 5, 7, requires_grad=True), torch.randn(3, 32, requires_grad=True)
    scale, shift = modulation[:, :, None, None].chunk(2, dim=1)
    learnt, kicks = (norm.weight, norm.bias, h, modulation), torch.randn(3, 16, 5, 7)
    found = conditional_norm(norm, h, modulation)
    expected = norm(h) * (1 + scale) + shift
    assert torch.allclose(found, expected, atol=1e-5)
    for ours, theirs in zip(
        torch.autograd.grad(found, learnt, kicks), torch.autograd.grad(expected, learnt, kicks), strict=True
    ):
        assert torch.allclose(ours, theirs, atol=1e-4)
