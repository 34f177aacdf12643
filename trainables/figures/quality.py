"""Generated against real in numbers: KID at each early-stop threshold, power spectra, pairwise distances."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from trainables.figures import style
from trainables.figures.style import BLUE, GREEN, GREY, VERMILION, Array, Bytes, Numbers
from trainables.measures.spectra import HIGH_FREQUENCY, ROUNDING_POWER, high_frequency_share, radial_spectrum

PAIRED = 200
"""Images of a set whose distances are computed: 19,900 pairs."""

BIN = 0.02
"""Width of a bin of distances, in units of [-1, 1]."""

MANY = 9
"""With more thresholds, their values are written slanted and not every point has its number."""

THRESHOLD = "early-stop threshold (0 never stops)"


def quality_against_threshold(points: Sequence[Numbers]) -> Figure:
    """KID ×1000 with its error and mean steps against the early-stop threshold.

    Points have ``threshold``, ``gen/kid``, and ``gen/steps_mean``; the error bars are the interval from
    ``gen/kid_low`` to ``gen/kid_high`` where all points have it, else ± ``gen/kid_se``. ``gen/kid_floor``, the score
    of real slices, is a dashed line; ``recon/kid``, that of the autoencoder's reconstructions, a dotted one.
    ``gen/stopped`` stands above the steps as a percentage. The thresholds stand at equal distances, in order.
    """
    points = sorted(points, key=lambda point: point["threshold"])
    places = range(len(points))
    every = 1 + len(points) // (MANY + 1)
    figure = style.new_figure(4.2)
    quality, steps = figure.subplots(1, 2)

    kid = _column(points, "gen/kid")
    low, high, error = _error_bars(points, kid)
    quality.errorbar(places, kid, yerr=(kid - low, high - kid), color=BLUE, marker="o", capsize=4)
    for place, value, top in list(zip(places, kid, high, strict=True))[::every]:
        style.note(quality, place, top, style.short(value))
    lines = []
    for name, colour, dash, words in (
        ("gen/kid_floor", GREY, "--", "real slices (floor)"),
        ("recon/kid", GREEN, ":", "reconstructions (the autoencoder's limit)"),
    ):
        for value in _finite(points, name)[:1]:
            quality.axhline(
                value, color=colour, linestyle=dash, linewidth=1.8, label=f"{words}: {style.short(value)}"
            )
            lines.append(value)
    style.label(quality, "Quality (lower is better)", THRESHOLD, f"KID ×1000, {error}")
    style.fix_range(quality, "y", style.KID, [*kid, *low, *high, *lines])

    mean = _column(points, "gen/steps_mean")
    steps.plot(places, mean, color=VERMILION, marker="o")
    for place, value, stopped in list(zip(places, mean, _column(points, "gen/stopped"), strict=True))[::every]:
        if math.isfinite(stopped):
            style.note(steps, place, value, f"{100 * stopped:.0f} %")
    shares = " and share stopped early" if _finite(points, "gen/stopped") else ""
    style.label(steps, f"Cost{shares}", THRESHOLD, "denoiser evaluations an image, mean")
    style.fix_range(steps, "y", style.STEPS, mean)

    for axes, values in ((quality, kid), (steps, mean)):
        axes.set_xlim(-0.5, max(0.5, len(points) - 0.5))
        axes.set_xticks(places, [f"{point['threshold']:g}" for point in points])
        if len(points) > MANY:
            axes.tick_params(axis="x", rotation=60)
        if not np.isfinite(values).any():
            style.say(axes, "not measured")
    style.legend(quality)
    return figure


def power_spectra(images: Mapping[str, Bytes]) -> Figure:
    """Radial power spectra and high-frequency shares of named sets of images, each (N, H, W) uint8.

    Left the mean power of each ring of frequencies, in a band from the 10 % to the 90 % quantile of the images;
    right the share of power at high frequencies, mean ± standard deviation over images. Power is drawn as at least
    that of rounding to 8 bits. Compare images of one size, since power grows with their area. Raises
    :class:`trainables.errors.DataError` as :func:`trainables.measures.spectra.radial_spectrum` does.
    """
    figure = style.new_figure(4.2)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    shown = {name: pictures for name, pictures in images.items() if len(pictures)}
    powers: list[float] = []
    shares: list[float] = []
    others = 0
    for place, (name, pictures) in enumerate(shown.items()):
        colour, dash = style.look_of(name, others)
        others += name not in style.SETS
        frequencies, power = radial_spectrum(pictures)
        mean, low, high = np.maximum([power.mean(axis=0), *np.quantile(power, (0.1, 0.9), axis=0)], ROUNDING_POWER)
        left.plot(frequencies, mean, color=colour, linestyle=dash, label=f"{name} ({len(pictures):,})")
        left.fill_between(frequencies, low, high, color=colour, alpha=0.15, linewidth=0)
        powers += [*mean, *low, *high]
        share = 100 * high_frequency_share(pictures)
        centre, spread = float(share.mean()), float(share.std())
        right.errorbar([place], [centre], yerr=[spread], color=colour, marker="o", markersize=7, capsize=6)
        style.note(right, place, centre + spread, f"{centre:.1f} %")
        shares += [centre, centre + spread]
    left.axvspan(HIGH_FREQUENCY, 0.5, color=GREY, alpha=0.1, linewidth=0, label="high frequencies")
    style.label(
        left,
        "Power spectrum, mean and 10–90 % of images",
        "spatial frequency (cycles/pixel)",
        "power (units of [-1, 1], squared)",
    )
    left.set_xlim(0, 0.5)
    style.fix_range(left, "y", style.POWER, powers)
    style.legend(left, loc="upper right")
    style.label(right, "High-frequency share", "", f"power at ≥ {HIGH_FREQUENCY} cycles/pixel (%), mean ± sd")
    right.set_xlim(-0.6, max(1, len(shown)) - 0.4)
    right.set_xticks(range(len(shown)), list(shown), fontsize=9, rotation=0 if len(shown) < 4 else 20)
    right.grid(visible=False, axis="x")
    style.fix_range(right, "y", style.HIGH_FREQUENCY_SHARE, shares)
    if not shown:
        style.say(right, "no images")
    return figure


def pairwise_distances(generated: Bytes, real: Bytes) -> Figure:
    """Distances of images: within the generated (N, H, W), within the real (M, H, W), and between the two.

    They are root-mean-square differences in units of [-1, 1], of at most :data:`PAIRED` images of each set. Where a
    generator repeats itself, its distribution lies left of the real one's.
    """
    figure = style.new_figure(4.0)
    axes = figure.subplots()
    made, true = _spread(generated), _spread(real)
    sets = {
        "within generated": (_within(made), BLUE, "-"),
        "within real": (_within(true), style.BLACK, "-"),
        "generated to real": (_between(made, true).ravel(), VERMILION, "--"),
    }
    values = np.concatenate([distances for distances, _, _ in sets.values()])
    low, high = style.DISTANCE.grow(values)
    edges = np.linspace(low, high, round((high - low) / BIN) + 1)
    tallest = [0.0]
    for name, (distances, colour, dash) in sets.items():
        if not len(distances):
            continue
        shares = 100 * np.histogram(distances, edges)[0] / len(distances)
        axes.stairs(shares, edges, color=colour, linestyle=dash, linewidth=1.8)
        axes.plot([], [], color=colour, linestyle=dash, label=f"{name}, median {np.median(distances):.3f}")
        axes.axvline(float(np.median(distances)), color=colour, linestyle=":", linewidth=1)
        tallest.append(float(shares.max()))
    title = f"Pairwise distances of {len(made)} generated and {len(true)} real slices (dotted: medians)"
    style.label(axes, title, "RMS distance (units of [-1, 1])", f"share of pairs (% per {BIN:g})")
    style.fix_range(axes, "x", style.DISTANCE, values)
    style.fix_range(axes, "y", style.SHARE_OF_PAIRS, tallest)
    if len(values):
        style.legend(axes, loc="upper right")
    else:
        style.say(axes, "needs 2 images")
    return figure


def _error_bars(points: Sequence[Numbers], kid: Array) -> tuple[Array, Array, str]:
    """Lower and upper ends of the error bars, and what they are."""
    low, high = _column(points, "gen/kid_low"), _column(points, "gen/kid_high")
    if len(points) and np.isfinite(low[np.isfinite(kid)]).all() and np.isfinite(high[np.isfinite(kid)]).all():
        return np.minimum(low, kid), np.maximum(high, kid), "95 % interval"
    error = np.nan_to_num(_column(points, "gen/kid_se"))
    return kid - error, kid + error, "± standard error"


def _column(points: Sequence[Numbers], name: str) -> Array:
    return np.array([point.get(name, math.nan) for point in points], dtype=np.float64)


def _finite(points: Sequence[Numbers], name: str) -> list[float]:
    return [point[name] for point in points if math.isfinite(point.get(name, math.nan))]


def _spread(images: Bytes) -> Bytes:
    """At most ``PAIRED`` of the images at equal distances."""
    chosen = np.linspace(0, len(images) - 1, min(PAIRED, len(images))).round().astype(np.intp)
    return images[chosen]


def _within(images: Bytes) -> Array:
    """Distances of all pairs of different images."""
    return _between(images, images)[np.triu_indices(len(images), k=1)]


def _between(first: Bytes, second: Bytes) -> Array:
    """Distances (n, m) of all pairs."""
    x, y = (
        images.reshape(len(images), math.prod(images.shape[1:])) / np.float32(127.5) - 1 for images in (first, second)
    )
    squares = np.sum(x**2, axis=1)[:, None] + np.sum(y**2, axis=1) - 2 * x @ y.T
    distances: npt.NDArray[np.float32] = np.sqrt(squares.clip(0) / max(1, x.shape[1])).clip(max=2)
    return distances
