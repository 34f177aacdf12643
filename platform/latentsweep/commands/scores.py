"""The scores of one model in a terminal: its card, and what the card says. Heavy imports wait until it is shown."""

from __future__ import annotations

from collections.abc import Mapping

WIDTH = 100
"""Columns of text that a card may take where there is no terminal."""


def show_scores(title: str, metrics: Mapping[str, float]) -> None:
    """Prints the card of a model's measurements, its verdict, and that images are few where they are."""
    from rich.console import Console
    from rich.table import Table

    from latentsweep.pages import scorecard

    console = Console() if Console().is_terminal else Console(width=WIDTH)
    card = scorecard.scorecard(metrics)
    grid = Table(box=None, pad_edge=False, padding=(0, 1))
    for heading in card.header:
        text = heading in (card.header[0], card.header[-1])
        grid.add_column(heading, justify="left" if text else "right", no_wrap=heading != card.header[-1])
    for row in card.rows:
        grid.add_row(row.name, *row.cells)
    counted = scorecard.compared(metrics)
    console.print(f"{title}{f', {counted}' if counted else ''}:", highlight=False, markup=False)
    console.print(grid, highlight=False, markup=False)
    few = scorecard.few_images(metrics)
    for sentence in [*scorecard.verdict(metrics), *([f"note: {few}"] if few else [])]:
        console.print(sentence, highlight=False, markup=False)
