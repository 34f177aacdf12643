"""How far a training is, and when it logs, validates and writes a checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from trainables.errors import DivergenceError
from trainables.loop import execution as ex
from trainables.loop.checkpoint import TrainingState
from trainables.loop.records import Record, Report
from trainables.loop.watchdog import beat


class Progress:
    """The way of a training from its ``state`` to step ``total``; the records that ``state`` has are reported at
    once.

    The training logs about 200 times. After each step of ``validate_at`` it validates and saves.
    """

    def __init__(
        self, state: TrainingState, folder: Path, report: Report, *, total: int, validate_at: Iterable[int]
    ) -> None:
        self.state, self.folder, self.report = state, folder, report
        self.validate_at, self.log_every = set(validate_at), max(1, total // 200)
        self.steps = range(state.step, total)
        self.fresh: list[Record] = []
        self.last_good = state.step
        if state.records and ex.rank() == 0:
            report(state.records)

    def finish(self, step: int) -> None:
        """Counts optimiser step ``step``, from 0, as done."""
        beat()
        self.state.step = step + 1

    @property
    def validates(self) -> bool:
        """Whether the training validates after this step."""
        return self.state.step in self.validate_at

    @property
    def logs(self) -> bool:
        """Whether the training records its losses after this step."""
        return self.state.step % self.log_every == 0 or self.validates

    def check(self, metrics: Mapping[str, float]) -> None:
        """Raises :class:`DivergenceError` where a metric is not finite: no such state becomes a checkpoint."""
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise DivergenceError(
                    f"{name} is no longer finite at step {self.state.step} (last good checkpoint: step "
                    f"{self.last_good}); try a lower learning rate or fp32",
                    step=self.state.step,
                )

    def record(self, metrics: Mapping[str, float]) -> None:
        """Keeps ``metrics`` as a record of this step, for the next checkpoint."""
        self.fresh.append({"step": float(self.state.step), "time": float(int(time.time() * 1000)), **metrics})

    def save(self) -> None:
        """Writes the checkpoint and then reports the new records, both on the first worker."""
        self.state.records += self.fresh
        if ex.rank() == 0:
            self.state.save(self.folder)
            self.report(self.fresh)
        ex.barrier()
        self.fresh, self.last_good = [], self.state.step


class RunningMeans:
    """Means of losses between two logs, kept on the device so that a step never waits for it."""

    def __init__(self, names: Iterable[str], device: torch.device) -> None:
        self.names = tuple(names)
        self.sums = torch.zeros(len(self.names), device=device)
        self.count = 0

    def add(self, values: torch.Tensor) -> None:
        """Adds the values of one step, in the order of the names."""
        self.sums += values
        self.count += 1

    def take(self) -> dict[str, float]:
        """The means since the last call."""
        means = (self.sums / max(1, self.count)).tolist()
        self.sums.zero_()
        self.count = 0
        return dict(zip(self.names, means, strict=True))
