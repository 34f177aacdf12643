"""Figures draw what they are given, label their axes, and bear missing or empty records."""

from __future__ import annotations

import io
import math
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from trainables import figures


def picture(figure: Figure) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file, dpi=100)
    return np.asarray(Image.open(file).convert("RGB"))


def labels(figure: Figure) -> str:
    texts = [text.get_text() for axes in figure.axes for text in [axes.title, axes.xaxis.label, axes.yaxis.label]]
    legends = [
        text.get_text() for axes in figure.axes if (legend := axes.get_legend()) for text in legend.get_texts()
    ]
    return " | ".join(texts + legends)


def slices(count: int, side: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side), dtype=np.uint8)


VAE = [
    {
        "step": step,
        "train/loss": 1 / step,
        "train/reconstruction": 1 / step,
        "train/kl": 900 / step,
        "train/kl_weight": 1e-5,
    }
    for step in range(1, 50)
] + [
    {"step": step, "val/reconstruction": abs(step - 20) + 1, "val/loss": abs(step - 20) + 1} for step in (10, 20, 30)
]

DIFFUSION = [
    {"step": step, "train/loss": 1 / step, "train/mse": 0.5 / step, "train/frequency": 2 / step}
    for step in range(1, 50)
] + [{"step": 25, "val/loss": 0.3}, {"step": 49, "val/loss": 0.2, "rung/kid": 40.0, "rung/kid_se": 2.0}]


def test_vae_curves_have_a_log_kl_axis_and_mark_the_best_validation() -> None:
    figure = figures.training_curves(VAE, stage="vae")
    assert figure.axes[1].get_yscale() == "log"
    assert "best, step 20: 1" in labels(figure)
    assert "optimiser step" in labels(figure)
    assert "weight β" in labels(figure)


def test_diffusion_curves_smooth_over_the_raw_loss_and_show_scores() -> None:
    figure = figures.training_curves(DIFFUSION, stage="diffusion")
    raw, smooth = figure.axes[0].get_lines()[:2]
    assert raw.get_alpha() < 0.5
    assert np.std(np.diff(smooth.get_ydata())) < np.std(np.diff(raw.get_ydata())) + 1e-12
    assert len(figure.axes[1].get_lines()[0].get_xdata()) == 1
    assert "KID ×1000 (lower is better)" in labels(figure)


def test_smoothing_a_constant_leaves_it_alone() -> None:
    figure = figures.training_curves([{"step": i, "train/loss": 0.7} for i in range(100)], stage="diffusion")
    np.testing.assert_allclose(figure.axes[0].get_lines()[1].get_ydata(), 0.7)


@pytest.mark.parametrize("stage", ["vae", "diffusion"])
@pytest.mark.parametrize("records", [[], [{"step": 1}], [{"step": 5, "train/loss": math.nan, "train/kl": 0.0}]])
def test_missing_not_finite_and_zero_metrics_are_borne(stage: str, records: list[dict[str, float]]) -> None:
    figure = figures.training_curves(records, stage=stage)  # type: ignore[arg-type]
    assert picture(figure).shape[1] == 900


def test_generated_beside_real_are_two_blocks_of_the_same_shape() -> None:
    figure = figures.generated_beside_real(slices(3), slices(9), title="kaggle")
    left, right = (axes.get_images()[0].get_array() for axes in figure.axes)
    assert left.shape == right.shape
    assert "Generated (3)" in labels(figure)
    assert "Real (9)" in labels(figure)
    assert picture(figure).shape[1] == 900


@pytest.mark.parametrize("counts", [(0, 4), (0, 0), (1, 1)])
def test_empty_and_single_blocks_are_borne(counts: tuple[int, int]) -> None:
    assert picture(figures.generated_beside_real(slices(counts[0]), slices(counts[1]))).shape[1] == 900


def test_reconstruction_errors_share_one_scale_in_signed_units() -> None:
    originals = slices(3)
    made = originals / 127.5 - 1
    made[1] = -made[1]
    figure = figures.reconstructions(originals, made, count=2)
    heats = [
        axes.get_images()[0]
        for axes in figure.axes
        if axes.get_images() and axes.get_images()[0].cmap.name == "inferno"
    ]
    assert len(heats) == 2
    assert {heat.get_clim() for heat in heats} == {(0, figures.ERROR_RANGE)}
    np.testing.assert_allclose(heats[0].get_array(), 0, atol=1e-12)
    np.testing.assert_allclose(heats[1].get_array(), 2 * np.abs(originals[1] / 127.5 - 1))
    assert "units of [-1, 1]" in labels(figure)


def test_reconstructions_may_be_bytes_or_floats_and_none() -> None:
    originals = slices(2)
    for made in (originals, originals / 127.5 - 1):
        assert picture(figures.reconstructions(originals, made)).shape[1] == 900
    assert picture(figures.reconstructions(originals[:0], originals[:0])).shape[1] == 900


@pytest.mark.parametrize("count", [0, 1, 6])
def test_a_trajectory_shows_latent_above_image_at_each_timestep_on_one_scale(count: int) -> None:
    generator = np.random.default_rng(0)
    shown = [(100 * t, generator.normal(size=(3, 4, 4)), slices(1)[0]) for t in range(count)]
    figure = figures.denoising_trajectory(shown)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == [f"t = {100 * t}" for t in range(count)]
    scales = {
        axes.get_images()[0].get_clim()
        for axes in figure.axes
        if axes.get_images() and axes.get_images()[0].cmap.name == "PuOr"
    }
    assert len(scales) == min(count, 1)
    assert picture(figure).shape[1] == 900


def test_a_latent_of_zeros_is_borne() -> None:
    assert picture(figures.denoising_trajectory([(0, np.zeros((8, 4, 4)), slices(1)[0])])).shape[1] == 900


def test_an_image_grid_holds_the_images_unchanged() -> None:
    images = slices(5)
    grid = np.asarray(figures.image_grid(images, 3))
    assert grid.shape == (2 * 18 - 2, 3 * 18 - 2)
    np.testing.assert_array_equal(grid[18:34, 18:34], images[4])
    assert (grid[18:34, 36:52] == 255).all()


def test_quality_against_threshold_is_in_order_with_its_errors() -> None:
    points = [
        {"threshold": t, "gen/kid": 10 + t, "gen/kid_se": 1.0, "gen/steps_mean": 25 - t} for t in (0.5, 0.0, 0.1)
    ]
    figure = figures.quality_against_threshold([*points, {"threshold": 1.0, "gen/kid_floor": 2.0}])
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["0", "0.1", "0.5", "1"]
    np.testing.assert_allclose(figure.axes[1].get_lines()[0].get_ydata(), [25, 24.9, 24.5, np.nan])
    assert "real slices" in labels(figure)
    assert "KID ×1000" in labels(figure)
    assert picture(figure).shape[1] == 900


def test_drawing_leaves_pyplot_alone() -> None:
    code = (
        "import sys, trainables.figures as f\n"
        "f.training_curves([], stage='vae')\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
