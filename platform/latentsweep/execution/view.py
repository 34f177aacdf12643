"""What a user sees while a job runs: one live view in a terminal; elsewhere lines, at least every half minute."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from latentsweep.execution.half_minutes import HalfMinutes
from latentsweep.execution.stopping import stop_told_by
from latentsweep.search.leaderboard import described

VALIDATION = ("val/loss", "val/mse")
"""The metrics that a validation of the autoencoder and of the denoiser is shown by."""


@dataclass
class TrialLine:
    """A trial that is running."""

    params: Mapping[str, Any]
    step: int = 0
    score: float | None = None
    copies: str = ""
    """What its last rung said of copies, in words."""
    state: str = "starting"
    began: float = field(default_factory=time.monotonic)


class View:
    """Stages; for a sweep of ``target`` trials also these, the best so far, and how long it may still take.

    ``seconds_left`` tells the latter for a sweep that was given hours; else the trials that ended do.
    """

    def __init__(
        self,
        console: Console,
        title: str,
        target: int = 0,
        steps: int = 0,
        seconds_left: Callable[[], float] | None = None,
    ) -> None:
        self.console, self.title, self.target, self.steps = console, title, target, steps
        self.seconds_left = seconds_left
        self.stages: dict[str, str] = {}
        self.going: dict[str, str] = {}
        """The stages that go on, among all ``stages``."""
        self.running: dict[int, TrialLine] = {}
        self.finished = 0
        self.ended_here = 0
        self.best: str | None = None
        self.began = time.monotonic()
        self.trials_began: float | None = None
        self._live: Live | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._open.enter_context(stop_told_by(self.say))
        if self.console.is_terminal:
            live = Live(console=self.console, get_renderable=self.render, refresh_per_second=4, transient=True)
            self._live = self._open.enter_context(live)
        else:
            self.say(f"{self.title} begins")
            self._open.enter_context(HalfMinutes(self.say, self.how_far))
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()
        self._live = None

    def say(self, line: str) -> None:
        """Prints a line that stays."""
        text = f"[{clock(time.monotonic() - self.began)}] {line}"
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stage(self, name: str, state: str, *, going: bool = False, quiet: bool = False) -> None:
        """A stage changed its state, or is ``going`` on; ``quiet`` keeps it out of plain output.

        In plain output the first state is said at once, and of those that go on the last every half minute.
        """
        known = name in self.going if going else self.stages.get(name) == state
        self.stages[name] = state
        self.going.pop(name, None)
        if going:
            self.going[name] = state
        if not known and not quiet and not self._live:
            self.say(f"{name}: {state}")

    def started(self, number: int, params: Mapping[str, Any]) -> None:
        """A trial was asked for."""
        self.trials_began = self.trials_began or time.monotonic()
        self.running[number] = TrialLine(params)
        if not self._live:
            self.say(f"trial {number}: {described(params)}")

    def heard(self, number: int, step: int, score: float | None, copies: str = "") -> None:
        """A trial reported; ``copies`` says how much it copies."""
        line = self.running.get(number)
        if line:
            line.step, line.state = step, "training" if step < self.steps else "measuring"
            line.score = score if score is not None else line.score
            line.copies = copies or line.copies

    def ended(self, number: int, how: str, best: str | None) -> None:
        """A trial ended."""
        self.running.pop(number, None)
        self.finished += 1
        self.ended_here += 1
        self.best = best or self.best
        self.say(f"trial {number}: {how}   ({self.finished} of {self.target})")

    def how_far(self) -> str:
        """What goes on, in one line."""
        parts = [f"{name}: {state}" for name, state in list(self.going.items())]
        for number, line in list(self.running.items()):
            score = "" if line.score is None else f", {line.score:.1f}"
            parts.append(f"trial {number}: {line.state}, step {line.step} of {self.steps}{score}")
        if self.target:
            parts += filter(None, (f"{self.finished} of {self.target} trials ended", self.left()))
        return "; ".join(parts) or f"{self.title} goes on"

    def render(self) -> Group:
        """The live view."""
        head = Text(f"{self.title}   {clock(time.monotonic() - self.began)}   {self.left()}", style="bold")
        stages = Table.grid(padding=(0, 2))
        for name, state in self.stages.items():
            stages.add_row(Text(name), Text(state, style="green" if state.startswith("done") else "yellow"))
        if not self.target:
            return Group(head, stages)
        trials = Table(box=None, padding=(0, 2), pad_edge=False)
        for name in ("trial", "configuration", "step", "score on the way", "for"):
            trials.add_column(name, style="dim" if name == "for" else None)
        for number, line in sorted(self.running.items()):
            score = ", ".join(filter(None, ("" if line.score is None else f"{line.score:.1f}", line.copies)))
            where = f"{line.step}/{self.steps} {line.state}"
            trials.add_row(str(number), described(line.params), where, score, clock(time.monotonic() - line.began))
        tail = Text(f"{self.finished} of {self.target} trials ended" + (f"   best: {self.best}" if self.best else ""))
        return Group(head, stages, trials, tail) if self.running else Group(head, stages, tail)

    def left(self) -> str:
        """The time that the sweep has left, or that the remaining trials may take, once one has ended."""
        if self.seconds_left:
            return f"about {clock(max(0.0, self.seconds_left()))} left"
        if not self.ended_here or not self.trials_began:
            return ""
        each = (time.monotonic() - self.trials_began) / self.ended_here
        return f"about {clock(each * max(0, self.target - self.finished))} left"


def describe_progress(record: Mapping[str, Any], total: int) -> str:
    """A training's last ``record`` in words; ``total`` is its number of steps."""
    words = f"step {int(record['step'])} of {total}"
    for name in VALIDATION:
        if name in record:
            words += f", validation {name.removeprefix('val/')} {record[name]:.4g}"
    return words


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
