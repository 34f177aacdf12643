"""Training curves draw what was recorded, on axes that are the same in every run, and bear what is missing."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from trainables import figures

VAE: list[dict[str, float]] = [
    {
        "step": step,
        "train/loss": 1 / step + 0.001 * step,
        "train/reconstruction": 1 / step,
        "train/kl": 900 / step,
        "train/kl_weight": 1e-5,
    }
    for step in range(1, 51)
] + [
    {"step": step, "val/reconstruction": 0.1 + 0.001 * step, "val/loss": 0.2 + 0.01 * abs(step - 20), "val/kl": 50.0}
    for step in (10, 20, 30)
]

DIFFUSION: list[dict[str, float]] = [
    {"step": step, "train/loss": 1 / step, "train/mse": 0.5 / step, "train/frequency": 2 / step}
    for step in range(1, 101)
] + [{"step": 50, "val/mse": 0.2}, {"step": 100, "val/mse": 0.3}]

SCORED = [*DIFFUSION, {"step": 25, "rung/kid": 140.0, "rung/kid_se": 9.0}, {"step": 50, "rung/kid": -2.0}]


def star_of(axes: object) -> tuple[float, float]:
    (star,) = [line for line in axes.get_lines() if line.get_marker() == "*"]  # type: ignore[attr-defined]
    return star.get_xdata()[0], star.get_ydata()[0]


def test_the_best_checkpoint_is_starred_wherever_validation_is_drawn() -> None:
    loss, reconstruction, kl = figures.training_curves(VAE, stage="vae").axes[:3]
    assert star_of(loss) == (20, 0.2)
    # The lowest reconstruction error is that of step 10: the star marks the checkpoint, not each panel's best.
    assert star_of(reconstruction) == pytest.approx((20, 0.12))
    assert star_of(kl) == (20, 50)


def test_the_untrained_network_is_drawn_and_never_starred() -> None:
    untrained = {"step": 0, "val/reconstruction": 0.01, "val/loss": 0.01, "val/kl": 1.0}
    loss = figures.training_curves([untrained, *VAE], stage="vae").axes[0]
    assert star_of(loss) == (20, 0.2)
    drawn = next(line for line in loss.get_lines() if line.get_label() == "validation")
    assert list(drawn.get_xdata()) == [0, 10, 20, 30]
    figure = figures.training_curves([{"step": 0, "val/mse": 0.1}, *DIFFUSION], stage="diffusion")
    assert star_of(figure.axes[1]) == (50, 0.2)
    alone = figures.training_curves([{"step": 0, "val/mse": 1.0}, {"step": 5, "train/loss": 1.0}], stage="diffusion")
    assert not [line for line in alone.axes[1].get_lines() if line.get_marker() == "*"]


def test_vae_curves_have_log_axes_and_the_weight_on_its_own(words: Callable[[Figure], str]) -> None:
    figure = figures.training_curves(VAE, stage="vae")
    assert [axes.get_yscale() for axes in figure.axes] == ["log"] * 5
    assert figure.axes[4].get_ylabel().startswith("weight β")
    np.testing.assert_allclose(figure.axes[4].get_lines()[0].get_ydata(), 1e-5)
    assert "best, step 20: 0.2" in words(figure)


def test_the_weighted_kl_is_what_the_loss_has_beside_the_reconstruction() -> None:
    parts = figures.training_curves(VAE, stage="vae").axes[3]
    assert parts.get_lines()[2].get_alpha() < 0.5
    np.testing.assert_allclose(parts.get_lines()[2].get_ydata(), 0.001 * np.arange(1, 51))


def test_a_reconstruction_that_is_not_the_mse_is_drawn_as_it_was_trained(words: Callable[[Figure], str]) -> None:
    other = [{**r, "train/fidelity": 0.5 * r["train/loss"]} if "train/loss" in r else r for r in VAE]
    figure = figures.training_curves(other, stage="vae")
    losses = np.array([record["train/loss"] for record in other if "train/loss" in record])
    for line in (0, 2):
        np.testing.assert_allclose(figure.axes[3].get_lines()[line].get_ydata(), 0.5 * losses)
    assert "as trained" in words(figure)


def test_a_difference_within_rounding_is_no_part_of_the_loss() -> None:
    records = [{"step": 1, "train/loss": 0.5000001, "train/reconstruction": 0.5}, {"step": 2, "train/loss": 0.4}]
    parts = figures.training_curves(records, stage="vae").axes[3]
    assert len(parts.get_lines()) == 2
    assert parts.get_ylim() == pytest.approx((1e-5, 1))


def test_diffusion_curves_smooth_over_the_raw_loss_and_show_the_parts(words: Callable[[Figure], str]) -> None:
    figure = figures.training_curves(DIFFUSION, stage="diffusion")
    raw, smooth = figure.axes[0].get_lines()[:2]
    assert raw.get_alpha() < 0.5
    assert np.std(np.diff(smooth.get_ydata())) < np.std(np.diff(raw.get_ydata()))
    assert star_of(figure.axes[1]) == (50, 0.2)
    assert "frequency loss" in words(figure)


def test_smoothing_a_constant_leaves_it_alone() -> None:
    figure = figures.training_curves([{"step": i, "train/loss": 0.7} for i in range(100)], stage="diffusion")
    np.testing.assert_allclose(figure.axes[0].get_lines()[1].get_ydata(), 0.7)


def test_each_tenth_of_the_training_has_its_box() -> None:
    records = [{"step": step, "train/loss": (step - 1) // 10 + 1.0} for step in range(1, 101)]
    (tenths,) = [
        axes for axes in figures.training_curves(records, stage="diffusion").axes if "tenth" in axes.get_title()
    ]
    assert len(tenths.patches) == 10
    medians = [line for line in tenths.get_lines() if line.get_color() == figures.style.BLACK]
    np.testing.assert_allclose([line.get_ydata()[0] for line in medians], np.arange(1, 11))
    np.testing.assert_allclose([np.mean(line.get_xdata()) for line in medians], np.arange(10) + 0.5)


def test_kid_is_drawn_with_its_error_where_it_was_scored_and_has_no_panel_where_not(
    words: Callable[[Figure], str],
) -> None:
    assert len(figures.training_curves(DIFFUSION, stage="diffusion").axes) == 3
    figure = figures.training_curves(SCORED, stage="diffusion")
    panel = figure.axes[3]
    assert panel.get_yscale() == "symlog"
    np.testing.assert_allclose(panel.get_lines()[0].get_ydata(), [140, -2])
    error = panel.collections[0].get_segments()[0]
    np.testing.assert_allclose(error[:, 1], [131, 149])
    assert "KID ×1000" in words(figure)
    assert "140 | −2" in words(figure)


@pytest.mark.parametrize("stage", ["vae", "diffusion"])
def test_two_runs_have_the_same_ranges(stage: str) -> None:
    first, second = (
        figures.training_curves(
            [{name: value if name == "step" else scale * value for name, value in r.items()} for r in records],
            stage=stage,  # type: ignore[arg-type]
        )
        for scale in (1.0, 0.9)
        for records in ([r for r in (VAE if stage == "vae" else SCORED) if r["step"] > 4 and r["step"] < 30],)
    )
    assert [axes.get_ylim() for axes in first.axes] == [axes.get_ylim() for axes in second.axes]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["vae", "diffusion"])
@pytest.mark.parametrize(
    "records",
    [
        [],
        [{"step": 1}],
        [{"step": 5, "train/loss": math.nan, "train/kl": 0.0}],
        VAE[:1],
        [*VAE, *SCORED],
        DIFFUSION[:2],
    ],
)
def test_curves_are_legible_whatever_was_recorded(
    stage: str, records: list[dict[str, float]], illegible: Callable[[Figure], list[str]]
) -> None:
    assert illegible(figures.training_curves(records, stage=stage)) == []  # type: ignore[arg-type]


def test_nothing_recorded_is_said(words: Callable[[Figure], str]) -> None:
    assert words(figures.training_curves([], stage="vae")).count("not recorded") == 4
