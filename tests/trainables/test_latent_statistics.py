"""Divergences against torch's, activity against its definition, components against a full decomposition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from trainables.errors import DataError
from trainables.measures.latent_statistics import active_channels, kl_by_channel, principal_components


def latents(count: int, seed: int, shape: tuple[int, int, int] = (3, 4, 4)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def test_divergence_by_channel_is_torchs() -> None:
    mean, log_variance = latents(7, 0), latents(7, 1)
    posterior = Normal(torch.from_numpy(mean).double(), torch.from_numpy(log_variance).double().mul(0.5).exp())
    expected = kl_divergence(posterior, Normal(0.0, 1.0)).sum(dim=(2, 3)).mean(dim=0)
    np.testing.assert_allclose(kl_by_channel(mean, log_variance), expected.numpy(), rtol=1e-6)


def test_the_prior_itself_has_no_divergence() -> None:
    assert kl_by_channel(np.zeros((2, 3, 4, 4)), np.zeros((2, 3, 4, 4))).tolist() == [0, 0, 0]


def test_a_channel_is_active_where_its_means_differ_between_images() -> None:
    mean = latents(400, 0)
    mean[:, 0] *= 0.05  # variance 0.0025
    mean[:, 1] *= 0.2  # variance 0.04
    mean[:, 2] = latents(1, 1)[0, 2]  # a strong pattern, the same in all images
    assert active_channels(mean).tolist() == [False, True, False]


def test_components_are_those_of_a_full_decomposition_with_fewer_rows_than_numbers_and_more() -> None:
    for count in (9, 90):
        real, generated = latents(count, 0), 2 * latents(count + 3, 1)
        at, other, shares = principal_components(real, generated)
        assert other is not None
        assert (at.shape, other.shape) == ((count, 2), (count + 3, 2))
        rows = np.concatenate([real, generated]).reshape(2 * count + 3, -1).astype(np.float64)
        left, values, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
        np.testing.assert_allclose(np.abs(np.concatenate([at, other])), np.abs(left * values)[:, :2], atol=1e-8)
        np.testing.assert_allclose(shares, values[:2] ** 2 / np.sum(values**2))


def test_planted_directions_are_found_and_take_their_shares() -> None:
    generator = np.random.default_rng(0)
    first, second = np.linalg.qr(generator.normal(size=(48, 2)))[0].T
    weights = generator.normal(size=(500, 2)) * [3, 1]
    real = (weights[:, :1] * first + weights[:, 1:] * second).reshape(500, 3, 4, 4)
    at, none, shares = principal_components(real)
    assert none is None
    np.testing.assert_allclose(shares, [0.9, 0.1], atol=0.02)
    assert np.abs(np.corrcoef(at[:, 0], weights[:, 0])[0, 1]) > 0.99


def test_the_sign_of_a_component_does_not_flip_between_calls() -> None:
    real = latents(20, 0)
    for coordinates in (principal_components(real)[0], principal_components(-real)[0]):
        assert (coordinates[np.abs(coordinates).argmax(axis=0), [0, 1]] > 0).all()


def test_latents_that_are_all_alike_have_no_explained_variance() -> None:
    at, _, shares = principal_components(np.ones((4, 1, 2, 2)))
    assert shares.tolist() == [0, 0]
    assert np.all(at == 0)


def test_unusable_latents_are_errors() -> None:
    good, broken = latents(4, 0), latents(4, 0)
    broken[0, 0, 0, 0] = np.nan
    for bad, text in ((good[0], "N, C, h, w"), (good[:0], "1 or more"), (broken, "finite")):
        with pytest.raises(DataError, match=text):
            kl_by_channel(bad, good)
    with pytest.raises(DataError, match="one shape"):
        kl_by_channel(good, good[:, :2])
    with pytest.raises(DataError, match="2 or more"):
        active_channels(good[:1])
    with pytest.raises(DataError, match="two shapes"):
        principal_components(good, latents(4, 0, (2, 4, 4)))
    with pytest.raises(DataError, match="2 latents"):
        principal_components(good[:1])
