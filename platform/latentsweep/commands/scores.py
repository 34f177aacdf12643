"""The scores of one model in a terminal: tables, and what they say. Heavy imports wait until they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from latentsweep.ablation.statistics.downstream import Usefulness
    from latentsweep.pages.tables import Table

WIDTH = 100
"""Columns of text that a card may take where there is no terminal."""


def show_scores(title: str, metrics: Mapping[str, float]) -> None:
    """Prints the card of a model's measurements, its verdict, and that images are few where they are."""
    from latentsweep.pages import scorecard

    console, counted = _console(), scorecard.compared(metrics)
    console.print(f"{title}{f', {counted}' if counted else ''}:", highlight=False, markup=False)
    card = scorecard.scorecard(metrics)
    _print_table(console, card, texts=(card.header[0], card.header[-1]))
    few = scorecard.few_images(metrics)
    for sentence in [*scorecard.verdict(metrics), *([f"note: {few}"] if few else [])]:
        console.print(sentence, highlight=False, markup=False)


def show_usefulness(found: Usefulness) -> None:
    """Prints what segmentation networks learned of real and of generated slices."""
    from latentsweep.ablation.page import downstream

    console, table = _console(), downstream.table(found)
    console.print(table.caption, highlight=False, markup=False)
    _print_table(console, table, texts=table.header[:1])
    for sentence in (downstream.sentence(found), downstream.CAVEAT):
        console.print(sentence, highlight=False, markup=False)


def _console() -> Console:
    from rich.console import Console

    return Console() if Console().is_terminal else Console(width=WIDTH)


def _print_table(console: Console, table: Table, texts: tuple[str, ...]) -> None:
    """Prints a table whose columns ``texts`` hold words; the last column may be folded."""
    from rich.table import Table as Grid

    grid = Grid(box=None, pad_edge=False, padding=(0, 1))
    for heading in table.header:
        text = heading in texts
        grid.add_column(heading, justify="left" if text else "right", no_wrap=heading != table.header[-1])
    for row in table.rows:
        grid.add_row(row.name, *row.cells)
    console.print(grid, highlight=False, markup=False)
