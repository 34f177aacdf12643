"""The style of all figures: colours, sizes, and the axis range of each quantity.

The colours are those of Okabe and Ito (2008), which colour-blind readers can tell apart; lines also differ in dash or
marker. Raw values are pale and smoothed ones strong; validation is orange, with a star at its best point; real is
near black, generated blue, reconstructed green. Figures are 9 inches wide, to be read at 900 pixels. pyplot and its
global state are not used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

Bytes = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]
Numbers = Mapping[str, float]
"""Named numbers: a record of a training, or what was measured at a threshold."""

BLUE, ORANGE, GREEN, VERMILION, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#777777"
BLACK = "#222222"
SETS = {"real": (BLACK, "-"), "generated": (BLUE, "-"), "reconstructed": (GREEN, "--")}
"""Colour and dash of a set of images or latents by its name."""

OTHER_SETS = ((ORANGE, "-."), (PURPLE, ":"), (VERMILION, "--"))
"""Colours and dashes of sets by other names, in the order in which they come."""

WIDTH = 9.0
DPI = 100
SMALL = 8.5
"""Points of the smallest text: 12 pixels."""


@dataclass(frozen=True)
class AxisRange:
    """The axis range of one quantity, the same in every run.

    Where data lie outside, it grows by whole decades (``log``, ``symlog``) or whole ``step``s (``linear``). For
    ``symlog``, ``step`` is the half-width of the linear part around 0; ``log`` doesn't use it.
    """

    low: float
    high: float
    scale: Literal["linear", "log", "symlog"] = "linear"
    step: float = 1.0

    def grow(self, values: Iterable[float]) -> tuple[float, float]:
        """The range with all finite values in it; on a ``log`` scale all positive ones."""
        found = np.asarray(list(values), dtype=np.float64)
        found = found[np.isfinite(found) & ((found > 0) | (self.scale != "log"))]
        if not len(found):
            return self.low, self.high
        least, most = float(found.min()), float(found.max())
        if self.scale == "linear":
            below = max(0, math.ceil((self.low - least) / self.step - 1e-9))
            above = max(0, math.ceil((most - self.high) / self.step - 1e-9))
            return self.low - below * self.step, self.high + above * self.step
        low = self.low
        if self.scale == "log":
            low /= _decades(low / least)
        elif self.low < 0:
            low *= _decades(least / low)
        return low, self.high * _decades(most / self.high)


def _decades(ratio: float) -> float:
    """The smallest power of ten, at least 1, that is no smaller than the ratio."""
    return float(10.0 ** max(0, math.ceil(math.log10(ratio) - 1e-9))) if ratio > 1 else 1.0


VAE_LOSS = AxisRange(1e-3, 1, "log")
VAE_LOSS_PARTS = AxisRange(1e-5, 1, "log")
KL = AxisRange(1e1, 1e5, "log")
KL_WEIGHT = AxisRange(1e-8, 1e-4, "log")
DENOISING_LOSS = AxisRange(0.02, 2, "log")
KID = AxisRange(-10, 1000, "symlog", 10)
STEPS = AxisRange(0, 60, step=60)
LATENT = AxisRange(-3, 3, step=3)
LATENT_VARIANCE = AxisRange(0, 3, step=3)
CHANNEL_KL = AxisRange(0, 1000, "symlog", 1)
PRINCIPAL = AxisRange(-25, 25, step=25)
POWER = AxisRange(1e-5, 1e3, "log")
HIGH_FREQUENCY_SHARE = AxisRange(0, 20, step=20)
DISTANCE = AxisRange(0, 1, step=0.5)
SHARE_OF_PAIRS = AxisRange(0, 25, step=25)


def new_figure(height: float, *, arranged: bool = True) -> Figure:
    """A white figure, ``WIDTH`` by ``height`` inches; ``arranged``: matplotlib makes room for the labels."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    if arranged:
        figure.set_layout_engine("constrained", hspace=0.06, wspace=0.04)
    FigureCanvasAgg(figure)
    return figure


def label(axes: Axes, title: str, across: str, up: str) -> None:
    """Title and axis labels, a pale grid, and no box around."""
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)


def legend(axes: Axes, **placing: Any) -> None:
    """A legend without a frame, where any line has a label."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=SMALL, **placing)


def say(axes: Axes, text: str) -> None:
    """A grey sentence in the middle of a panel that has nothing else to show."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)


def short(value: float) -> str:
    """A measured number with three digits."""
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}").replace("-", "−")


def note(axes: Axes, across: float, up: float, text: str) -> None:
    """A small text just above a point, on a pale ground."""
    if math.isfinite(up):
        axes.annotate(
            text,
            (across, up),
            (0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=SMALL,
            bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5},
        )


def fix_range(axes: Axes, which: Literal["x", "y"], fixed: AxisRange, values: Iterable[float]) -> tuple[float, float]:
    """Gives the axis the quantity's scale, range and ticks; returns the range with the values in it."""
    low, high = fixed.grow(values)
    options = {"linthresh": fixed.step, "linscale": 0.5} if fixed.scale == "symlog" else {}
    axes.set(**{f"{which}lim": (low, high)})
    axis: Axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)(fixed.scale, **options)
    if fixed.scale == "log":
        decades = math.log10(high / low)
        subdivisions = (1.0, 2.0, 5.0) if decades < 2.5 else (1.0, 3.0) if decades < 3.5 else (1.0,)
        axis.set_major_locator(LogLocator(subs=subdivisions, numticks=12))
    elif fixed.scale == "symlog":
        powers = [fixed.step * 10.0**n for n in range(round(math.log10(max(high, -low) / fixed.step)) + 1)]
        ticks = [*(-power for power in powers), 0.0, *powers]
        axis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axis.set_minor_locator(NullLocator())
    if fixed.scale == "linear":
        axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    else:
        axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    return low, high


def plain(value: float) -> str:
    """The number at a tick: digits from 0.0001 to 100,000, else a power of ten."""
    size = abs(value) * (1 + 1e-9)
    sign = "−" if value < 0 else ""
    if value == 0 or 1e-4 <= size < 1e6:
        return f"{sign}{abs(value):,.10g}"
    exponent = math.floor(math.log10(size))
    factor = abs(value) / 10.0**exponent
    return f"{sign}$10^{{{exponent}}}$" if abs(factor - 1) < 1e-6 else f"{sign}${factor:.3g}·10^{{{exponent}}}$"


def look_of(name: str, others: int = 0) -> tuple[str, str]:
    """Colour and dash of a set of images: those of its name, or the next of :data:`OTHER_SETS`."""
    return SETS.get(name) or OTHER_SETS[others % len(OTHER_SETS)]
