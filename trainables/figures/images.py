"""Pictures of slices: side by side, with their reconstructions or neighbours, and at steps of their sampling.

Intensities are grey from 0 to 255; errors have a colour scale of their own, the same in all figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from trainables.figures import style
from trainables.figures.overlay import outline
from trainables.figures.panels import Panels
from trainables.figures.style import BLACK, VERMILION, WIDTH, Array, Bytes

ERROR_RANGE = 0.5
"""Upper end of the colour scale of absolute errors, in units of [-1, 1]."""

HEAT = "inferno", (0.0, ERROR_RANGE)
"""The colours of absolute errors."""

LATENT_CHANNELS_SHOWN = 4
BLOCK = 36
"""The most slices in each block of generated beside real."""

MOST_COLUMNS = 8
LARGEST_SHOWN = 2.4
MARGIN = 2


def generated_beside_real(generated: Bytes, real: Bytes, *, title: str = "") -> Figure:
    """The first :data:`BLOCK` generated slices (N, H, W) in a block, and beside it one of real slices (M, H, W).

    Both may be in colour, (N, H, W, 3), as :func:`~trainables.figures.overlay.outlined` gives them.
    """
    shown = min(BLOCK, max(len(generated), len(real)))
    columns = max(1, math.ceil(math.sqrt(shown)))
    rows = max(1, math.ceil(shown / columns))
    width = min((WIDTH - 0.45) / 2, LARGEST_SHOWN * columns)
    block = width * rows / columns
    top = 0.75 if title else 0.4
    figure = style.new_figure(block + top + 0.1, arranged=False)
    if title:
        figure.suptitle(title, y=1 - 0.12 / figure.get_figheight(), va="top")
    for place, (images, name) in enumerate(((generated, "Generated"), (real, "Real"))):
        axes = _panel(figure, WIDTH / 2 + (place - 1) * (width + 0.15) + 0.075, 0.1, width, block)
        few = len(images) <= BLOCK
        axes.set_title(f"{name} ({len(images):,})" if few else f"{name} (first {BLOCK} of {len(images):,})")
        if len(images):
            picture = np.asarray(image_grid(images[:BLOCK], columns, rows=rows))
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="auto")
        else:
            style.say(axes, "none")
    return figure


def reconstructions(
    originals: Array, reconstructions: Array, *, count: int = 8, masks: tuple[Bytes, Bytes] | None = None
) -> Figure:
    """Rows of at most ``count`` originals, their reconstructions, and the absolute error as a heat map.

    Both (N, H, W), uint8 or float in [-1, 1]. The error is in units of [-1, 1], on a fixed colour scale up to
    :data:`ERROR_RANGE`. Above each column stands its root-mean-square error. The lesions of ``masks``, those of the
    originals and of the reconstructions, both (N, H, W), are outlined; the slices are then uint8.
    """
    pairs = list(zip(_signed(originals[:count]), _signed(reconstructions[:count]), strict=True))
    panels, heat = Panels(("original", "reconstruction", "|error|"), len(pairs), top=0.35), None
    for column, (original, reconstruction) in enumerate(pairs):
        error = np.abs(original - reconstruction)
        for row, signed in enumerate((original, reconstruction)):
            if masks is None:
                panels.show(row, column, signed, limits=(-1, 1))
            else:
                slices = (originals, reconstructions)[row]
                panels.show(row, column, outline(slices[column], masks[row][column]))
        heat = panels.show(2, column, error, *HEAT)
        panels.head(column, f"RMS {math.sqrt(float(np.mean(error**2))):.3f}", fontsize=style.SMALL + 0.5)
    if heat:
        panels.add_bar(heat, range(2, 3), "units of [-1, 1]", extend="max")
    else:
        panels.say("no slices")
    return panels.figure


def nearest_neighbours(
    generated: Bytes, neighbours: Bytes, distances: Array, threshold: float, *, count: int = 8
) -> Figure:
    """The ``count`` generated slices that are nearest to a training slice, above that slice and their difference.

    ``generated``, aligned by :func:`trainables.measures.memorisation.align`, and ``neighbours`` (N, H, W) are pairs;
    those whose ``distances`` (N,) are within ``threshold`` are marked as near copies. The difference has the colour
    scale of :func:`reconstructions`.
    """
    order = np.argsort(distances, kind="stable")[:count]
    panels, heat = Panels(("generated, aligned", "nearest", "|difference|"), len(order), top=0.8), None
    copies = int(np.sum(distances <= threshold))
    for column, index in enumerate(order):
        panels.show(0, column, generated[index])
        panels.show(1, column, neighbours[index])
        heat = panels.show(2, column, np.abs(_signed(generated[index]) - _signed(neighbours[index])), *HEAT)
        near = distances[index] <= threshold
        panels.head(
            column,
            f"{distances[index]:.3f}\n{'near copy' if near else ' '}",
            fontsize=style.SMALL + 0.5,
            color=VERMILION if near else BLACK,
            fontweight="bold" if near else "normal",
        )
        for row in (0, 1) if near else ():
            panels.frame(row, column, VERMILION)
    panels.figure.suptitle(
        f"Nearest training slices: {copies:,} of {len(distances):,} generated slices are near copies "
        f"(distance ≤ {threshold:.3f})",
        y=1 - 0.1 / panels.figure.get_figheight(),
        va="top",
        fontsize=11,
    )
    if heat:
        panels.add_bar(heat, range(2, 3), "units of [-1, 1]", extend="max")
    else:
        panels.say("no slices", at=0.4)
    return panels.figure


def denoising_trajectory(latents: Sequence[tuple[int, Array, Bytes]]) -> Figure:
    """Of (t, latent (C, h, w), image (H, W)): the latent's first channels above the image at each t, in order given.

    At most :data:`MOST_COLUMNS` are shown, at equal distances, with the first and the last. All latents have one
    colour scale, ±3, wider by whole threes where 1 % of the values are outside.
    """
    chosen = np.linspace(0, len(latents) - 1, min(MOST_COLUMNS, len(latents))).round().astype(int)
    shown = [latents[place] for place in chosen]
    channels = min(LATENT_CHANNELS_SHOWN, len(shown[0][1])) if shown else 1
    names = (*(f"channel {channel}" for channel in range(channels)), "decoded")
    panels, heat = Panels(names, len(shown), top=0.35), None
    if shown:
        largest = float(np.quantile(np.abs([latent[:channels] for _, latent, _ in shown]), 0.99))
        limits = style.LATENT.grow([-largest, largest])
    for column, (t, latent, image) in enumerate(shown):
        panels.head(column, f"t = {t}", fontsize=10)
        for channel in range(channels):
            heat = panels.show(channel, column, latent[channel], "PuOr", limits)
        panels.show(channels, column, image)
    if heat:
        panels.add_bar(heat, range(channels), "latent value", extend="both")
    else:
        panels.say("no snapshots")
    return panels.figure


def image_grid(images: Bytes, columns: int | None = None, *, rows: int | None = None) -> Image.Image:
    """A picture of the images (N, H, W), row by row with thin white lines between; by default a square.

    It is grey, or in colour where the images are (N, H, W, 3).
    """
    count, height, width, *colours = images.shape
    columns = columns or max(1, math.ceil(math.sqrt(count)))
    rows = rows or max(1, math.ceil(count / columns))
    size = rows * (height + MARGIN) - MARGIN, columns * (width + MARGIN) - MARGIN
    canvas = np.full((*size, *colours), 255, dtype=np.uint8)
    for number, image in enumerate(images):
        top, left = (number // columns) * (height + MARGIN), (number % columns) * (width + MARGIN)
        canvas[top : top + height, left : left + width] = image
    return Image.fromarray(canvas)


def _panel(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Bare axes at this place in inches."""
    whole = figure.get_figheight()
    axes = figure.add_axes((left / WIDTH, bottom / whole, width / WIDTH, height / whole))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return axes


def _signed(images: Array) -> Array:
    """uint8 as float in [-1, 1]; floats as they are."""
    return images / 127.5 - 1 if images.dtype == np.uint8 else images
