"""Quality against threshold, spectra and distances: the numbers drawn are the numbers measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from trainables import figures
from trainables.measures.spectra import high_frequency_share, radial_spectrum

Slices = Callable[..., np.ndarray]
Words = Callable[[Figure], str]
Illegible = Callable[[Figure], list[str]]


def point(threshold: float, **more: float) -> dict[str, float]:
    return {
        "threshold": threshold,
        "gen/kid": 50 + 100 * threshold,
        "gen/kid_se": 5.0,
        "gen/steps_mean": 25 - threshold,
        **{name.replace("_", "/", 1): value for name, value in more.items()},
    }


def error_bars(figure: Figure) -> np.ndarray:
    return np.array([segment[:, 1] for segment in figure.axes[0].collections[0].get_segments()])


def test_thresholds_are_in_order_with_quality_and_steps() -> None:
    figure = figures.quality_against_threshold([point(0.5), point(0.0), point(0.1), {"threshold": 1.0}])
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["0", "0.1", "0.5", "1"]
    np.testing.assert_allclose(figure.axes[0].get_lines()[0].get_ydata(), [50, 60, 100, np.nan])
    np.testing.assert_allclose(figure.axes[1].get_lines()[0].get_ydata(), [25, 24.9, 24.5, np.nan])


def test_error_bars_are_the_interval_where_it_is_known(words: Words) -> None:
    figure = figures.quality_against_threshold([point(t, gen_kid_low=30.0, gen_kid_high=90.0) for t in (0, 0.1)])
    np.testing.assert_allclose(error_bars(figure), [[30, 90], [30, 90]])
    assert "95 % interval" in words(figure)


def test_error_bars_are_the_standard_error_where_an_interval_is_missing(words: Words) -> None:
    figure = figures.quality_against_threshold([point(0, gen_kid_low=30.0, gen_kid_high=90.0), point(0.1)])
    np.testing.assert_allclose(error_bars(figure), [[45, 55], [55, 65]])
    assert "± standard error" in words(figure)


def test_the_floor_is_dashed_and_the_autoencoders_limit_dotted(words: Words) -> None:
    figure = figures.quality_against_threshold([point(0, gen_kid_floor=-0.5, recon_kid=20.0), point(0.1)])
    lines = {line.get_linestyle(): line.get_ydata()[0] for line in figure.axes[0].get_lines() if line.get_label()}
    assert lines["--"] == -0.5
    assert lines[":"] == 20
    assert "real slices (floor): −0.5" in words(figure)
    assert "limit): 20" in words(figure)


def test_kid_and_steps_have_the_same_ranges_in_two_runs() -> None:
    first, second = (
        figures.quality_against_threshold([point(t) | {"gen/kid": kid, "gen/steps_mean": steps} for t in (0, 0.1)])
        for kid, steps in ((2.0, 50), (600.0, 10))
    )
    assert [axes.get_ylim() for axes in first.axes] == [axes.get_ylim() for axes in second.axes]
    assert first.axes[0].get_yscale() == "symlog"


@pytest.mark.parametrize("count", [0, 1, 5, 9, 14])
def test_the_curve_is_legible(count: int, illegible: Illegible) -> None:
    points = [point(k / 100, gen_stopped=k / 14, gen_kid_floor=-0.3, recon_kid=20.0) for k in range(count)]
    assert illegible(figures.quality_against_threshold(points)) == []


def test_spectra_draw_mean_and_share_of_each_set(slices: Slices, words: Words) -> None:
    smooth = np.repeat(np.repeat(slices(5, 8), 4, axis=1), 4, axis=2)
    figure = figures.power_spectra({"real": slices(4, 32), "generated": smooth, "reconstructed": smooth[:0]})
    for line, images in zip(figure.axes[0].get_lines(), (slices(4, 32), smooth), strict=True):
        frequencies, power = radial_spectrum(images)
        np.testing.assert_allclose(line.get_xdata(), frequencies)
        np.testing.assert_allclose(line.get_ydata(), power.mean(axis=0))
    shares = [container.lines[0].get_ydata()[0] for container in figure.axes[1].containers]
    np.testing.assert_allclose(
        shares, [100 * high_frequency_share(images).mean() for images in (slices(4, 32), smooth)]
    )
    assert shares[1] < shares[0]
    assert "real (4)" in words(figure)
    assert "reconstructed" not in words(figure)
    assert "cycles/pixel" in words(figure)


def test_spectra_have_the_same_axes_in_two_runs(slices: Slices) -> None:
    first, second = (figures.power_spectra({"real": slices(3, side)}) for side in (32, 48))
    assert first.axes[0].get_xlim() == second.axes[0].get_xlim() == (0, 0.5)
    assert first.axes[0].get_ylim() == second.axes[0].get_ylim()


def test_blank_images_have_a_spectrum_at_the_rounding_of_bytes() -> None:
    figure = figures.power_spectra({"generated": np.full((3, 16, 16), 7, dtype=np.uint8)})
    assert figure.axes[0].get_ylim() == pytest.approx((1e-6, 1e3))


@pytest.mark.slow
@pytest.mark.parametrize("names", [(), ("real",), ("real", "reconstructed", "generated"), tuple("abcd")])
@pytest.mark.parametrize("count", [1, 30])
def test_spectra_are_legible(names: tuple[str, ...], count: int, slices: Slices, illegible: Illegible) -> None:
    assert illegible(figures.power_spectra({name: slices(count, 32) // 2 for name in names})) == []


def test_distances_are_root_mean_squares_in_signed_units(words: Words) -> None:
    black, white = (np.full((1, 8, 8), value, dtype=np.uint8) for value in (0, 255))
    figure = figures.pairwise_distances(np.concatenate([black, white]), np.concatenate([white, white]))
    written = words(figure)
    assert "within generated, median 2.000" in written
    assert "within real, median 0.000" in written
    assert "generated to real, median 1.000" in written
    assert figure.axes[0].get_xlim() == (0, 2)
    for steps in figure.axes[0].patches:
        assert steps.get_data().values.sum() == pytest.approx(100)


def test_distances_of_many_images_are_those_of_some(slices: Slices, words: Words) -> None:
    assert "200 generated and 3 real" in words(figures.pairwise_distances(slices(500, 4), slices(3, 4)))


@pytest.mark.parametrize("counts", [(0, 0), (0, 5), (1, 1), (1, 5), (40, 40)])
def test_distances_are_legible(counts: tuple[int, int], slices: Slices, illegible: Illegible) -> None:
    figure = figures.pairwise_distances(slices(counts[0]), slices(counts[1]))
    assert illegible(figure) == []
    assert figure.axes[0].get_xlim() == (0, 1)
