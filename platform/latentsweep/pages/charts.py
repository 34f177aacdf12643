"""Charts as inline SVG, each with a text that says what it shows, and what all of them have in common.

The visual language is that of :mod:`trainables.figures.style`. Every id inside a chart begins with the chart's name,
so that several can stand in one page.
"""

from __future__ import annotations

import base64
import io
import math
import re
from dataclasses import dataclass
from html import escape
from typing import Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trainables.figures.style import new_figure

LARGEST_SVG = 250_000
"""Bytes above which a chart is a PNG instead."""


@dataclass(frozen=True)
class Chart:
    """A chart: HTML that holds it, and the same in words."""

    html: str
    alt: str


def chart(figure: Figure, name: str, alt: str) -> Chart:
    """A figure for a page: an ``<svg>`` whose ids begin with ``name``, or an ``<img>`` where that would be heavy."""
    text, said = io.StringIO(), escape(alt, quote=False).replace('"', "&quot;")
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()
    if len(svg) > LARGEST_SVG:
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=110)
        return Chart(f'<img src="{data_uri(png.getvalue())}" alt="{said}">', alt)
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"([^>]*?) width="[^"]*"', r"\1\2", svg, count=1)
    return Chart(svg.replace("<svg", f'<svg role="img" aria-label="{said}"', 1), alt)


def data_uri(png: bytes) -> str:
    """A PNG as the address of a picture that stands in the page itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def panels(count: int, most: int, height: float) -> tuple[Figure, list[Axes], list[Axes]]:
    """A figure of ``count`` panels, ``most`` in a line of this height; the panels, and those at the left."""
    columns = min(count, most)
    lines = math.ceil(count / columns)
    figure = new_figure(height * lines)
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axes in list(grid.flat)[count:]:
        axes.set_axis_off()
    return figure, list(grid.flat)[:count], list(grid[:, 0])


def plain(axes: Axes, grid: Literal["both", "x", "y"]) -> None:
    """No box around, and a pale grid behind."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, axis=grid)
    axes.set_axisbelow(True)
