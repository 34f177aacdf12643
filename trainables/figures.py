"""Figures of a run, each a function from arrays and records to a matplotlib Figure (or a PIL picture).

One visual language: the colours of Okabe and Ito (2008), which colour-blind readers tell apart; raw values pale and
smoothed ones strong; validation in orange, its best point a star; intensities always grey from 0 to 255, errors
always on one range of their own with a colour bar. Figures are 9 inches wide, to be read at 900 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

Bytes = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]
Record = Mapping[str, float]

BLUE, ORANGE, GREEN, VERMILION, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#777777"
WIDTH = 9.0
ERROR_RANGE = 0.5
LATENT_CHANNELS_SHOWN = 4
LEAST_COLUMNS = 4
MARGIN = 2


def training_curves(records: Sequence[Record], *, stage: Literal["vae", "diffusion"]) -> Figure:
    """Curves over the optimiser step from records with ``step`` and named metrics; missing metrics are left out.

    ``vae``: reconstruction error and KL (log axis, with its weight β) side by side. ``diffusion``: the loss, raw and
    smoothed, with its parts and the validation MSE, beside the KID ×1000 where it was scored on the way.
    """
    figure = _figure(3.8)
    left, right = figure.subplots(1, 2)
    if stage == "vae":
        _curve(left, records, "train/reconstruction", "training", BLUE)
        _validation(left, records, "val/reconstruction", best_by="val/loss")
        _label(left, "Reconstruction", "mean squared error (units of [-1, 1])", log=True)
        _curve(right, records, "train/kl", "KL, training", BLUE)
        _curve(right, records, "val/kl", "KL, validation", ORANGE, marker="o", markersize=4)
        _label(right, "Kullback–Leibler divergence", "KL (nats, unweighted)", log=True)
        _weight_axis(right, records)
    else:
        _smoothed_curve(left, records, "train/loss", "loss, training", BLUE)
        _smoothed_curve(left, records, "train/mse", "its MSE", GREEN)
        _smoothed_curve(left, records, "train/frequency", "its frequency loss", PURPLE)
        _curve(left, records, "val/mse", "MSE of the average, validation", ORANGE, marker="o", markersize=4)
        _label(left, "Denoising loss", "loss", log=True)
        _scores(right, records)
        _label(right, "Generated against real", "KID ×1000 (lower is better)")
    return figure


def generated_beside_real(generated: Bytes, real: Bytes, *, title: str = "") -> Figure:
    """Generated slices (N, H, W) in a block of the same shape as the block of real ones (M, H, W) on its right."""
    columns = max(1, math.ceil(math.sqrt(max(len(generated), len(real)))))
    rows = max(1, math.ceil(max(len(generated), len(real)) / columns))
    figure = _figure(WIDTH / 2 * rows / columns + (0.75 if title else 0.45))
    for axes, images, name in zip(figure.subplots(1, 2), (generated, real), ("Generated", "Real"), strict=True):
        axes.set_axis_off()
        axes.set_title(f"{name} ({len(images)})")
        if len(images):
            _show(axes, np.asarray(image_grid(images, columns, rows=rows)))
    figure.set_layout_engine("constrained", wspace=0.04)
    if title:
        figure.suptitle(title)
    return figure


def reconstructions(originals: Array, reconstructions: Array, *, count: int = 8) -> Figure:
    """Rows of at most ``count`` originals, their reconstructions, and the absolute error as a heat map.

    Both (N, H, W), uint8 or float in [-1, 1]. The error is in units of [-1, 1], on one fixed colour scale up to
    ``ERROR_RANGE``, so that figures of different runs can be compared; larger errors take its last colour.
    """
    pairs = list(zip(_signed(originals), _signed(reconstructions), strict=True))[:count]
    columns = max(LEAST_COLUMNS, len(pairs))
    figure = _figure(3 * (WIDTH - 1.2) / columns + 0.3)
    grid = figure.subplots(3, columns, squeeze=False)
    _name_rows(grid, ("original", "reconstruction", "|error|"))
    heat = None
    for column, (original, reconstruction) in enumerate(pairs):
        _show(grid[0, column], original, low=-1, high=1)
        _show(grid[1, column], reconstruction, low=-1, high=1)
        error = np.abs(original - reconstruction)
        heat = grid[2, column].imshow(error, cmap="inferno", vmin=0, vmax=ERROR_RANGE, interpolation="nearest")
    if heat is not None:
        bar = figure.colorbar(heat, ax=grid.ravel().tolist(), extend="max", aspect=30, pad=0.01)
        bar.set_label("|error| (units of [-1, 1])")
    return figure


def denoising_trajectory(latents: Sequence[tuple[int, Array, Bytes]]) -> Figure:
    """Of (t, latent (C, h, w), image (H, W)): the latent's first channels above the image at each t, in order given.

    The latents share one colour scale, symmetric about 0 and clipped at the 99 % quantile of |z|.
    """
    columns = max(LEAST_COLUMNS, len(latents))
    channels = min(LATENT_CHANNELS_SHOWN, len(latents[0][1])) if latents else 1
    side = (WIDTH - 1.3) / columns
    figure = _figure((channels + 1) * side + 0.7)
    grid = figure.subplots(channels + 1, columns, squeeze=False)
    span = float(np.quantile(np.abs([latent[:channels] for _, latent, _ in latents]), 0.99)) if latents else 1.0
    heat = None
    for column, (t, latent, image) in enumerate(latents):
        grid[0, column].set_title(f"t = {t}")
        for channel in range(channels):
            heat = grid[channel, column].imshow(
                latent[channel], cmap="PuOr", vmin=-span or -1, vmax=span or 1, interpolation="nearest"
            )
        _show(grid[-1, column], image)
    _name_rows(grid, (*(f"latent {channel}" for channel in range(channels)), "decoded"))
    if heat is not None:
        figure.colorbar(heat, ax=grid[:-1].ravel().tolist(), extend="both", aspect=25, pad=0.01).set_label(
            "latent value"
        )
    return figure


def image_grid(images: Bytes, columns: int | None = None, *, rows: int | None = None) -> Image.Image:
    """A grey picture of the images (N, H, W) row by row, with thin white lines between them; square by default."""
    count, height, width = images.shape
    columns = columns or max(1, math.ceil(math.sqrt(count)))
    rows = rows or max(1, math.ceil(count / columns))
    canvas = np.full((rows * (height + MARGIN) - MARGIN, columns * (width + MARGIN) - MARGIN), 255, dtype=np.uint8)
    for number, image in enumerate(images):
        top, left = (number // columns) * (height + MARGIN), (number % columns) * (width + MARGIN)
        canvas[top : top + height, left : left + width] = image
    return Image.fromarray(canvas)


def quality_against_threshold(points: Sequence[Record]) -> Figure:
    """KID ×1000 (± its standard error) and mean steps against the early-stop threshold.

    Points have ``threshold``, ``gen/kid``, ``gen/kid_se``, ``gen/steps_mean`` and, for a dashed line, the real
    slices' ``gen/kid_floor``. The thresholds stand at equal distances, in order, each with its value below.
    """
    points = sorted(points, key=lambda point: point["threshold"])
    figure = _figure(3.8)
    quality, steps = figure.subplots(1, 2)
    places = list(range(len(points)))
    kid = [point.get("gen/kid", math.nan) for point in points]
    quality.errorbar(
        places, kid, yerr=[point.get("gen/kid_se", 0.0) for point in points], color=BLUE, marker="o", capsize=4
    )
    floors = [point["gen/kid_floor"] for point in points if "gen/kid_floor" in point]
    if floors:
        quality.axhline(floors[0], color=GREY, linestyle="--", label="real slices")
        quality.legend(frameon=False)
    steps.plot(places, [point.get("gen/steps_mean", math.nan) for point in points], color=VERMILION, marker="o")
    steps.set_ylim(bottom=0)
    _label(quality, "Quality", "KID ×1000 ± standard error (lower is better)")
    _label(steps, "Cost", "denoiser evaluations per image, mean")
    for axes in (quality, steps):
        axes.set_xlabel("early-stop threshold (0 never stops)")
        axes.set_xlim(-0.3, len(points) - 0.7)
        axes.set_xticks(places, [f"{point['threshold']:g}" for point in points])
    return figure


def _figure(height: float) -> Figure:
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _series(records: Sequence[Record], name: str) -> tuple[Array, Array]:
    """Steps and finite values of the records that have the metric."""
    found = [(record["step"], record[name]) for record in records if math.isfinite(record.get(name, math.nan))]
    steps, values = np.array(found, dtype=np.float64).reshape(-1, 2).T
    return steps, values


def _curve(axes: Axes, records: Sequence[Record], name: str, label: str, colour: str, **style: Any) -> None:
    steps, values = _series(records, name)
    if len(steps):
        axes.plot(steps, values, color=colour, label=label, **style)


def _smoothed_curve(axes: Axes, records: Sequence[Record], name: str, label: str, colour: str) -> None:
    """The raw values, pale, below their running mean over a twentieth of them."""
    steps, values = _series(records, name)
    if not len(steps):
        return
    window = np.ones(max(1, len(values) // 20))
    smoothed = np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")
    axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
    axes.plot(steps, smoothed, color=colour, label=label)


def _validation(axes: Axes, records: Sequence[Record], name: str, best_by: str | None = None) -> None:
    """Validation values, and a star on the one whose record is lowest in ``best_by``."""
    steps, values = _series(records, name)
    if not len(steps):
        return
    axes.plot(steps, values, color=ORANGE, marker="o", markersize=4, label="validation")
    ranked_steps, ranked = _series(records, best_by or name)
    best = ranked_steps[int(ranked.argmin())] if len(ranked) else steps[int(values.argmin())]
    for value in values[steps == best][:1]:
        label = f"best, step {best:,.0f}: {value:.3g}"
        axes.plot([best], [value], color=VERMILION, marker="*", markersize=14, linestyle="none", label=label)


def _weight_axis(axes: Axes, records: Sequence[Record]) -> None:
    """The KL's weight β on an axis of its own."""
    steps, values = _series(records, "train/kl_weight")
    if not len(steps):
        return
    weight = axes.twinx()
    weight.plot(steps, values, color=GREY, linestyle=":", label="weight β")
    weight.set_ylabel("weight β", color=GREY)
    weight.set_ylim(bottom=0)
    weight.yaxis.set_major_formatter("{x:.0e}")
    weight.spines["top"].set_visible(False)


def _scores(axes: Axes, records: Sequence[Record]) -> None:
    """KID with its standard error wherever the training was scored: ``rung/kid`` or ``gen/kid``."""
    for prefix in ("rung", "gen"):
        steps, values = _series(records, f"{prefix}/kid")
        if len(steps):
            errors = [
                record.get(f"{prefix}/kid_se", 0.0)
                for record in records
                if math.isfinite(record.get(f"{prefix}/kid", math.nan))
            ]
            axes.errorbar(steps, values, yerr=errors, color=BLUE, marker="o", capsize=4, label="KID ± standard error")


def _label(axes: Axes, title: str, quantity: str, *, log: bool = False) -> None:
    axes.set_title(title)
    axes.set_xlabel("optimiser step")
    axes.set_ylabel(quantity)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if not axes.has_data():
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", color=GREY)
        return
    axes.set_xlim(left=0)
    if log and all(np.all(np.asarray(line.get_ydata(), dtype=float) > 0) for line in axes.get_lines()):
        axes.set_yscale("log")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize="small")


def _name_rows(grid: Array, names: Sequence[str]) -> None:
    """Bare axes with a name to the left of each row of the grid."""
    for name, row in zip(names, grid, strict=True):
        row[0].set_ylabel(name)
        for axes in row:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)


def _show(axes: Axes, image: Array, *, low: float = 0, high: float = 255) -> None:
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")


def _signed(images: Array) -> Array:
    """uint8 as float in [-1, 1]; floats are taken to be in it."""
    return images / 127.5 - 1 if images.dtype == np.uint8 else images
