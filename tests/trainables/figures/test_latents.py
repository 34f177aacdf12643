"""Latent diagnostics draw the statistics of real and generated latents on ranges that don't move."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from trainables import figures
from trainables.errors import DataError
from trainables.measures.latent_statistics import kl_by_channel, principal_components

Words = Callable[[Figure], str]
Illegible = Callable[[Figure], list[str]]


def latents(count: int, channels: int = 4, *, seed: int = 0) -> np.ndarray:
    spread = np.linspace(0.5, 1, channels)[:, None, None]
    return spread * np.random.default_rng(seed).normal(size=(count, channels, 4, 4))


def test_channels_show_mean_and_spread_of_both_sets() -> None:
    real, generated = latents(20) + 0.5, latents(9, seed=1) - 0.5
    channels = figures.latent_diagnostics(real, np.zeros_like(real), generated).axes[0]
    for number, (name, values) in enumerate({"real (20)": real, "generated (9)": generated}.items()):
        container = channels.containers[number]
        assert container.get_label() == name
        np.testing.assert_allclose(container.lines[0].get_ydata(), values.mean(axis=(0, 2, 3)))
        (spread,) = container.lines[2]
        lengths = [np.ptp(segment[:, 1]) for segment in spread.get_segments()]
        np.testing.assert_allclose(lengths, 2 * values.std(axis=(0, 2, 3)))


def test_divergence_is_by_channel_and_inactive_channels_are_counted_and_hatched(words: Words) -> None:
    mean = latents(20)
    mean[:, 2] *= 0.01
    log_variance = np.full_like(mean, -1.0)
    figure = figures.latent_diagnostics(mean, log_variance)
    bars = {round(bar.get_x() + bar.get_width() / 2): bar for bar in figure.axes[1].patches}
    np.testing.assert_allclose(
        [bars[channel].get_height() for channel in range(4)], kl_by_channel(mean, log_variance)
    )
    assert [channel for channel in range(4) if bars[channel].get_hatch()] == [2]
    assert "3 of 4 active" in words(figure)
    assert "hatched" in words(figure)


def test_spatial_variances_share_one_scale() -> None:
    real, generated = latents(20), 3 * latents(9, seed=1)
    figure = figures.latent_diagnostics(real, np.zeros_like(real), generated)
    maps = [image for axes in figure.axes for image in axes.get_images()]
    np.testing.assert_allclose(maps[0].get_array(), real.var(axis=0).mean(axis=0))
    np.testing.assert_allclose(maps[1].get_array(), generated.var(axis=0).mean(axis=0))
    assert maps[0].get_clim() == maps[1].get_clim()
    assert maps[0].get_clim()[1] % 3 == 0
    assert maps[0].get_clim()[1] >= generated.var(axis=0).mean(axis=0).max()


@pytest.mark.parametrize("generated", [None, latents(9, seed=1)])
def test_principal_components_are_of_all_that_is_given(generated: np.ndarray | None, words: Words) -> None:
    real = latents(20)
    figure = figures.latent_diagnostics(real, np.zeros_like(real), generated)
    first, second, shares = principal_components(real, generated)
    (axes,) = [axes for axes in figure.axes if axes.get_title() == "Principal components"]
    np.testing.assert_allclose(axes.collections[0].get_offsets(), first)
    assert len(axes.collections) == (1 if second is None else 2)
    assert f"first ({100 * shares[0]:.0f} % of the variance)" in words(figure)
    assert axes.get_xlim() == axes.get_ylim() == (-25, 25)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 64])
@pytest.mark.parametrize("counts", [(1, None), (1, 0), (1, 1), (2, 1), (60, 60)])
def test_diagnostics_are_legible(channels: int, counts: tuple[int, int | None], illegible: Illegible) -> None:
    real = latents(counts[0], channels)
    generated = None if counts[1] is None else latents(counts[1], channels)
    assert illegible(figures.latent_diagnostics(real, np.zeros_like(real), generated)) == []


def test_too_little_is_said(words: Words) -> None:
    written = words(figures.latent_diagnostics(latents(1), np.zeros((1, 4, 4, 4)), latents(0)))
    assert "no generated latents" in written
    assert "needs 2 latents" in written
    assert "active" not in written


def test_diverged_latents_are_refused() -> None:
    with pytest.raises(DataError):
        figures.latent_diagnostics(np.full((3, 4, 4, 4), np.nan), np.zeros((3, 4, 4, 4)))
