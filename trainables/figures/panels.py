"""Rows of square pictures, such as slices, with names on the left, words above and a colour bar on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.cm import ScalarMappable
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from trainables.figures import style
from trainables.figures.style import GREY, WIDTH, Array

LARGEST_SIDE = 1.4
GAP = 0.04
NAMES = 0.42
BAR = 0.95
ABOVE = 4 / 72
FRAME = 2.5


class Panels:
    """A figure and its pictures, by row and column.

    All are in one bare axes, whose unit is an inch: axes for each would take ten times as long.
    """

    def __init__(self, names: Sequence[str], columns: int, *, top: float) -> None:
        """A row for each name; ``top`` inches are left above for words, :data:`BAR` on the right for a colour bar."""
        self.rows, self.columns = len(names), columns
        self.side = min(LARGEST_SIDE, (WIDTH - NAMES - BAR) / columns - GAP) if columns else GAP
        self.indent = (WIDTH - NAMES - BAR - columns * (self.side + GAP)) / 2 + NAMES
        height = self.rows * (self.side + GAP) + top + 0.1
        self.top = height - top
        self.figure = style.new_figure(height, arranged=False)
        self.axes = self.figure.add_axes((0, 0, 1, 1), frame_on=False, autoscale_on=False)
        self.axes.set(xlim=(0, WIDTH), ylim=(0, height))
        self.axes.set_axis_off()
        for row, name in enumerate(names if columns else ()):
            left, bottom = self._corner(row, 0)
            self.axes.text(
                left - ABOVE, bottom + self.side / 2, name, fontsize=style.SMALL, rotation=90, ha="right", va="center"
            )

    def show(
        self, row: int, column: int, image: Array, colours: str = "gray", limits: tuple[float, float] = (0, 255)
    ) -> AxesImage:
        """Shows an image (H, W) in these colours between these values, or one in colour (H, W, 3)."""
        left, bottom = self._corner(row, column)
        return self.axes.imshow(
            image,
            cmap=colours,
            vmin=limits[0],
            vmax=limits[1],
            interpolation="nearest" if colours == "PuOr" else "auto",
            aspect="auto",
            extent=(left, left + self.side, bottom, bottom + self.side),
        )

    def head(self, column: int, text: str, **look: Any) -> None:
        """Writes ``text`` above a column."""
        left, bottom = self._corner(0, column)
        place = left + self.side / 2, bottom + self.side + ABOVE
        self.axes.text(*place, text, ha="center", va="bottom", gid="head", **look)

    def frame(self, row: int, column: int, colour: str) -> None:
        """Draws a border around a picture."""
        corner = self._corner(row, column)
        self.axes.add_patch(Rectangle(corner, self.side, self.side, fill=False, edgecolor=colour, linewidth=FRAME))

    def add_bar(self, shown: ScalarMappable, rows: range, name: str, *, extend: str) -> None:
        """Adds the colour bar of what is shown in these rows, on their right."""
        left, low = self._corner(rows[-1], self.columns - 1)
        high = self._corner(rows[0], 0)[1] + self.side
        height = self.figure.get_figheight()
        place = (left + self.side + 0.1) / WIDTH, low / height, 0.13 / WIDTH, (high - low) / height
        bar = self.figure.colorbar(shown, cax=self.figure.add_axes(place), extend=extend)
        bar.set_label(name, fontsize=9)
        bar.ax.tick_params(labelsize=style.SMALL)
        bar.locator = MaxNLocator(nbins=max(2, 2 * len(rows)), steps=[1, 2, 2.5, 5, 10])
        bar.update_ticks()

    def say(self, text: str, at: float = 0.5) -> None:
        """Writes ``text`` in grey at a height, where there is nothing to show."""
        self.figure.text(0.5, at, text, color=GREY, ha="center")

    def _corner(self, row: int, column: int) -> tuple[float, float]:
        """Where a picture begins on the left, and where at the bottom, in inches."""
        return self.indent + column * (self.side + GAP), self.top - (row + 1) * (self.side + GAP) + GAP
