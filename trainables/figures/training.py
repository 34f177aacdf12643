"""Training curves: losses over the optimiser step, their distribution, and what was measured on the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from trainables.figures import style
from trainables.figures.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION, Array, AxisRange, Numbers

HEIGHT = 6.8
FEW = 20
TENTHS = 10
ROUNDING = 1e-5
"""Share of the loss below which the difference of two float32 means is rounding."""


def training_curves(records: Sequence[Numbers], *, stage: Literal["vae", "diffusion"]) -> Figure:
    """Curves over the optimiser step from records with ``step`` and named metrics; missing metrics are left out.

    ``vae``: the loss, the reconstruction error, the KL with its weight β on an axis of its own, and the parts of the
    loss. Wherever validation is drawn, it begins at step 0 with the untrained network, and a star marks the best
    checkpoint after that: the lowest ``val/loss``, since the discriminator began where there is one. ``diffusion``:
    the loss; its parts with the validation of the averaged model; the distribution of the loss in each tenth of the
    training; and the KID ×1000 at the rungs, if it was measured. Training values are drawn raw, pale, below their
    running mean.
    """
    figure = style.new_figure(HEIGHT)
    if stage == "vae":
        _vae(figure, records)
    else:
        _diffusion(figure, records)
    return figure


def _vae(figure: Figure, records: Sequence[Numbers]) -> None:
    (loss, reconstruction), (kl, parts) = figure.subplots(2, 2)
    steps, values = _series(records, "val/loss")
    begun, _ = _series(records, "train/discriminator")
    best = _lowest(steps, values, begun[0] if len(begun) else 1)

    for axes, metric in ((loss, "loss"), (reconstruction, "reconstruction"), (kl, "kl")):
        _trained(axes, records, f"train/{metric}", "training", BLUE)
        _validated(axes, records, f"val/{metric}", "validation", best)
    _weight_axis(kl, records)
    named = any("train/fidelity" in record for record in records)
    term, label = ("fidelity", "reconstruction, as trained") if named else ("reconstruction", "reconstruction (MSE)")
    _finish(loss, records, "Loss", "reconstruction + β·KL" if named else "MSE + β·KL", style.VAE_LOSS)
    _finish(reconstruction, records, "Reconstruction", "MSE (units of [-1, 1])", style.VAE_LOSS)
    _finish(kl, records, "Kullback–Leibler divergence", "KL (nats a latent, unweighted)", style.KL)

    _trained(parts, records, f"train/{term}", label, BLUE)
    weighted = [
        {"step": record["step"], "β·KL": record["train/loss"] - record[f"train/{term}"]}
        for record in records
        if "train/loss" in record
        and record["train/loss"] - record.get(f"train/{term}", math.nan) > ROUNDING * record["train/loss"]
    ]
    _trained(parts, weighted, "β·KL", "β·KL", PURPLE, dash="--")
    _finish(parts, records, "What the training loss consists of", "part of the loss", style.VAE_LOSS_PARTS)


def _diffusion(figure: Figure, records: Sequence[Numbers]) -> None:
    scored = any(len(_series(records, f"{prefix}/kid")[0]) for prefix in ("rung", "gen"))
    panels = figure.subplot_mosaic([["loss", "parts"], ["tenths", "kid" if scored else "tenths"]])

    _trained(panels["loss"], records, "train/loss", "training", BLUE)
    _validated(panels["loss"], records, "val/loss", "validation")
    _finish(panels["loss"], records, "Denoising loss", "loss", style.DENOISING_LOSS)

    _trained(panels["parts"], records, "train/mse", "MSE, training", GREEN)
    _trained(panels["parts"], records, "train/frequency", "frequency loss, training", PURPLE, dash="--")
    _validated(panels["parts"], records, "val/mse", "MSE of the average, validation")
    _finish(panels["parts"], records, "Parts of the loss", "part, unweighted", style.DENOISING_LOSS)

    _tenths(panels["tenths"], records, "train/loss")
    if scored:
        _scores(panels["kid"], records)


def _series(records: Sequence[Numbers], name: str) -> tuple[Array, Array]:
    """Steps and finite values of the records that have the metric."""
    found = [(record["step"], record[name]) for record in records if math.isfinite(record.get(name, math.nan))]
    steps, values = np.array(found, dtype=np.float64).reshape(-1, 2).T
    return steps, values


def _trained(axes: Axes, records: Sequence[Numbers], name: str, legend: str, colour: str, *, dash: str = "-") -> None:
    """The raw values, pale, and over them their running mean over a twentieth of the values."""
    steps, values = _series(records, name)
    if not len(steps):
        return
    window = np.ones(max(1, len(values) // 20))
    smoothed = np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")
    marker = "." if len(values) <= FEW else None
    axes.plot(steps, values, color=colour, alpha=0.3, linewidth=0.8)
    axes.plot(steps, smoothed, color=colour, linestyle=dash, marker=marker, label=legend)


def _validated(axes: Axes, records: Sequence[Numbers], name: str, legend: str, best: float | None = None) -> None:
    """Validation values, and a star at the step ``best``, by default that of the lowest value."""
    steps, values = _series(records, name)
    if not len(steps):
        return
    axes.plot(steps, values, color=ORANGE, marker="o", markersize=4, label=legend, zorder=3)
    word = "lowest" if best is None else "best"
    best = _lowest(steps, values) if best is None else best
    if best is None:
        return
    for value in values[steps == best][:1]:
        axes.plot(
            [best],
            [value],
            color=VERMILION,
            marker="*",
            markersize=15,
            markeredgecolor="white",
            linestyle="none",
            label=f"{word}, step {best:,.0f}: {style.short(value)}",
            zorder=4,
        )


def _lowest(steps: Array, values: Array, begins: float = 1) -> float | None:
    """The step of the lowest value from step ``begins`` on; None where there is none."""
    steps, values = steps[steps >= begins], values[steps >= begins]
    return float(steps[values.argmin()]) if len(steps) else None


def _weight_axis(axes: Axes, records: Sequence[Numbers]) -> None:
    """The KL's weight β on an axis of its own, which has as many decades as the KL's."""
    steps, values = _series(records, "train/kl_weight")
    if not len(steps):
        return
    weight = axes.twinx()
    weight.plot(steps, values, color=GREY, linestyle=":")
    weight.set_ylabel("weight β (dotted)", color=GREY)
    weight.spines["top"].set_visible(False)
    weight.tick_params(colors=GREY)
    style.fix_range(weight, "y", style.KL_WEIGHT, values)


def _tenths(axes: Axes, records: Sequence[Numbers], name: str) -> None:
    """A box for each tenth of the training: quartiles and median, whiskers from the 5 % to the 95 % quantile."""
    steps, values = _series(records, name)
    last = _last_step(records)
    groups = [values[np.ceil(TENTHS * steps / last).clip(1, TENTHS) == tenth] for tenth in range(1, TENTHS + 1)]
    filled = [(tenth, group) for tenth, group in enumerate(groups) if len(group)]
    if filled:
        axes.boxplot(
            [group for _, group in filled],
            positions=[tenth + 0.5 for tenth, _ in filled],
            widths=0.6,
            whis=(5, 95),
            patch_artist=True,
            boxprops={"facecolor": BLUE, "alpha": 0.35, "edgecolor": BLUE},
            medianprops={"color": BLACK, "linewidth": 1.5},
            whiskerprops={"color": BLUE},
            capprops={"color": BLUE},
            flierprops={"marker": ".", "markersize": 3, "markeredgecolor": BLUE},
        )
    else:
        style.say(axes, "not recorded")
    style.label(axes, "Loss in each tenth of the training", "training done (%)", "loss (quartiles; whiskers 5–95 %)")
    axes.set_xlim(0, TENTHS)
    axes.set_xticks(range(0, TENTHS + 1, 2), [f"{10 * tenth}" for tenth in range(0, TENTHS + 1, 2)])
    style.fix_range(axes, "y", style.DENOISING_LOSS, values)


def _scores(axes: Axes, records: Sequence[Numbers]) -> None:
    """KID with its standard error wherever it was measured: ``rung/kid`` or ``gen/kid``."""
    drawn: list[float] = []
    for prefix, colour, marker, name in (("rung", BLUE, "o", "at a rung"), ("gen", GREEN, "s", "at the end")):
        steps, values = _series(records, f"{prefix}/kid")
        if not len(steps):
            continue
        scored = [record for record in records if math.isfinite(record.get(f"{prefix}/kid", math.nan))]
        errors = np.array([record.get(f"{prefix}/kid_se", 0.0) for record in scored])
        axes.errorbar(steps, values, yerr=errors, color=colour, marker=marker, capsize=4, label=name)
        for step, value, error in zip(steps, values, errors, strict=True):
            style.note(axes, step, value + error, style.short(value))
        drawn += [*(values - errors), *(values + errors)]
    _frame(axes, records, "Generated against real", "KID ×1000 ± standard error")
    style.legend(axes)
    style.fix_range(axes, "y", style.KID, drawn)


def _finish(axes: Axes, records: Sequence[Numbers], title: str, quantity: str, fixed: AxisRange) -> None:
    values = [float(value) for line in axes.get_lines() for value in np.asarray(line.get_ydata(), dtype=np.float64)]
    if not values:
        style.say(axes, "not recorded")
    _frame(axes, records, title, quantity)
    style.fix_range(axes, "y", fixed, values)
    style.legend(axes)


def _frame(axes: Axes, records: Sequence[Numbers], title: str, quantity: str) -> None:
    style.label(axes, title, "optimiser step", quantity)
    axes.set_xlim(0, 1.03 * _last_step(records))
    axes.xaxis.set_major_locator(
        MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1) if records else NullLocator()
    )
    axes.xaxis.set_major_formatter("{x:,.0f}")


def _last_step(records: Sequence[Numbers]) -> float:
    return max((record["step"] for record in records), default=1.0)
