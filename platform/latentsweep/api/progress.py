"""How far a work of many equal parts is, as the reading of scans: a bar in a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from latentsweep.execution.half_minutes import HalfMinutes


@contextmanager
def show_progress(label: str, parts: str = "scans") -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal's error stream; a plain line at the begin and every half minute where that is none."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        far: dict[str, int] = {}

        def how_far() -> str:
            return f"{label}: {far['done']} of {far['total']} {parts}" if far else f"{label}: looking for {parts}"

        def say(line: str) -> None:
            print(line, file=sys.stderr)

        say(f"{label} begins")
        with HalfMinutes(say, how_far):
            yield lambda done, total: far.update(done=done, total=total)
        if far:
            say(how_far())
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
