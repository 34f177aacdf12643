"""Diagnostics of the latent space: channels, positions, divergence from the prior, principal components."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trainables.figures import style
from trainables.figures.style import BLACK, GREEN, GREY, Array
from trainables.measures.latent_statistics import active_channels, kl_by_channel, principal_components

MANY = 16
"""With more channels, marks are drawn smaller."""


def latent_diagnostics(mean: Array, log_variance: Array, generated: Array | None = None) -> Figure:
    """Held-out posteriors and, where given, generated latents, both in the autoencoder's own units.

    ``mean`` and ``log_variance`` are (N, C, h, w), ``generated`` (M, C, h, w). Raises
    :class:`trainables.errors.DataError` for latents that are not finite or of two shapes.
    """
    sets = {"real": mean} | ({"generated": generated} if generated is not None and len(generated) else {})
    figure = style.new_figure(7.0)
    places = figure.add_gridspec(2, 6)
    _channels(figure.add_subplot(places[0, :3]), sets)
    _divergence(figure.add_subplot(places[0, 3:]), mean, log_variance)
    maps = [figure.add_subplot(places[1, :2]), figure.add_subplot(places[1, 2:4])]
    _positions(figure, maps, sets)
    _components(figure.add_subplot(places[1, 4:]), sets)
    return figure


def _channels(axes: Axes, sets: dict[str, Array]) -> None:
    drawn: list[float] = []
    for place, (name, latents) in enumerate(sets.items()):
        centre, spread = latents.mean(axis=(0, 2, 3)), latents.std(axis=(0, 2, 3))
        colour, _ = style.look_of(name)
        at = np.arange(len(centre)) + (place - (len(sets) - 1) / 2) * 0.3
        axes.errorbar(
            at,
            centre,
            yerr=spread,
            color=colour,
            marker="os"[place],
            markersize=2.5 if len(centre) > MANY else 5,
            linestyle="none",
            linewidth=1 if len(centre) > MANY else 1.5,
            capsize=0 if len(centre) > MANY else 3,
            label=f"{name} ({len(latents):,})",
        )
        drawn += [*(centre - spread), *(centre + spread)]
    axes.axhline(0, color=GREY, linewidth=0.8)
    style.label(axes, "Channels: mean ± standard deviation", "latent channel", "latent value")
    _count_channels(axes, next(iter(sets.values())).shape[1])
    style.fix_range(axes, "y", style.LATENT, drawn)
    style.legend(axes, loc="upper right", ncols=2)


def _divergence(axes: Axes, mean: Array, log_variance: Array) -> None:
    divergence = kl_by_channel(mean, log_variance)
    active = active_channels(mean) if len(mean) > 1 else np.ones(len(divergence), dtype=bool)
    places = np.arange(len(divergence))
    for chosen, colour, hatch in ((active, GREEN, ""), (~active, "white", "//////")):
        axes.bar(places[chosen], divergence[chosen], color=colour, hatch=hatch, edgecolor=BLACK, linewidth=0.6)
    count = f": {active.sum()} of {len(active)} active" if len(mean) > 1 else ""
    across = "latent channel" if active.all() else "latent channel (inactive: hatched)"
    style.label(axes, f"Divergence from the prior{count}", across, "KL (nats a latent)")
    _count_channels(axes, len(divergence))
    style.fix_range(axes, "y", style.CHANNEL_KL, divergence)


def _positions(figure: Figure, maps: list[Axes], sets: dict[str, Array]) -> None:
    variances = {name: latents.var(axis=0).mean(axis=0) for name, latents in sets.items()}
    low, high = style.LATENT_VARIANCE.grow([float(variance.max()) for variance in variances.values()])
    for axes in maps:
        axes.set_xticks([])
        axes.set_yticks([])
    for axes, (name, variance) in zip(maps, variances.items(), strict=False):
        heat = axes.imshow(variance, cmap="viridis", vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(f"Spatial variance, {name}", fontsize=10)
        axes.set_xlabel(f"{variance.shape[0]} × {variance.shape[1]} positions, mean {variance.mean():.2f}")
    figure.colorbar(heat, ax=maps, location="bottom", aspect=40, pad=0.03, shrink=0.8).set_label(
        "variance over images, mean over channels"
    )
    if len(variances) < len(maps):
        maps[1].set_axis_off()
        style.say(maps[1], "no generated latents")


def _components(axes: Axes, sets: dict[str, Array]) -> None:
    style.label(axes, "Principal components", "first", "second")
    real, generated = sets["real"], sets.get("generated")
    if sum(map(len, sets.values())) < 2:
        axes.set_xticks([])
        axes.set_yticks([])
        style.say(axes, "needs 2 latents")
        return
    first, second, shares = principal_components(real, generated)
    drawn = np.concatenate([first.ravel(), np.empty(0) if second is None else second.ravel()])
    for name, points, marker in (("real", first, "o"), ("generated", second, "s")):
        if points is not None:
            colour, _ = style.look_of(name)
            axes.scatter(
                points[:, 0], points[:, 1], s=14, marker=marker, color=colour, alpha=0.5, linewidth=0, label=name
            )
    largest = float(np.abs(drawn).max())
    for which in ("x", "y"):
        style.fix_range(axes, which, style.PRINCIPAL, [-largest, largest])
    axes.set_aspect("equal")
    axes.set_xlabel(f"first ({100 * shares[0]:.0f} % of the variance)")
    axes.set_ylabel(f"second ({100 * shares[1]:.0f} %)")
    if second is not None:
        style.legend(axes, loc="upper right", handletextpad=0.1, borderpad=0)


def _count_channels(axes: Axes, channels: int) -> None:
    axes.set_xlim(-0.6, channels - 0.4)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=16, integer=True, min_n_ticks=1))
