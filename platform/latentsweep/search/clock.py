"""The clock of a sweep that was given hours: what may still begin, so that it ends when they do.

What counts are the seconds that the sweep's driver ran. The schedule says what each part takes; what parts took in
this run corrects it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from latentsweep.search.schedule import Schedule, waves
from latentsweep.storage.home import read_json

FILE = "clock.json"
"""The file in a sweep's folder that says how many ``seconds`` its driver has run."""

NEAR = 0.015
"""Ends that lie within this share of the budget around it are all near enough; further ones are avoided first."""

MOST_SEEDS = 10
"""The most fresh seeds of a confirmation, however much time is left."""

CORRECTION = 0.5, 2.0
"""By how much one part of a confirmation corrects what is expected of the next, at least and at most."""

CLOSING = 5.0
"""Seconds for the tables and the record at the end."""

Needs = Callable[[int, int], tuple[int, int]]
"""How many autoencoders and denoisers are to be trained to confirm so many configurations with so many seeds."""


def spent_seconds(folder: Path) -> float:
    """How long the driver of a sweep has run, over all its runs; 0 where that was never noted."""
    return float(read_json(folder / FILE, {"seconds": 0.0})["seconds"])


@dataclass
class Clock:
    """The clock of one run of the driver, which began at the moment ``began`` of ``now()``; times are in seconds."""

    schedule: Schedule
    slots: int
    began: float
    before: float = 0.0
    """What earlier runs of the driver took."""
    now: Callable[[], float] = time.monotonic
    running: dict[int, float] = field(default_factory=dict)
    """When each trial that runs or waits began, or is expected to begin, by its number."""
    trials: list[float] = field(default_factory=list)
    """What trials took that ran to their end."""
    autoencoders: list[float] = field(default_factory=list)
    """What autoencoders took, with all that follows from each."""
    slower: float = 1.0
    """What the confirmation took so far, over what was expected of it."""
    part: tuple[float, float] | None = None
    """When the part of the confirmation that runs began, and how long it was expected to take."""

    @property
    def spent(self) -> float:
        """What all runs of the driver took so far."""
        return self.before + self.now() - self.began

    @property
    def left(self) -> float:
        """Until the sweep must close; negative after that."""
        return self.schedule.seconds - CLOSING - self.spent

    @property
    def trial(self) -> float:
        """Seconds of a trial that is not pruned; the first of each slot, which starts a worker, counts only alone."""
        took = self.trials[self.slots :] or self.trials
        return statistics.fmean(took) if took else self.schedule.parts.trial

    @property
    def autoencoder(self) -> float:
        """Seconds of an autoencoder, with all that follows from it."""
        return statistics.fmean(self.autoencoders) if self.autoencoders else self.schedule.parts.autoencoder

    def expect(self, number: int, *, without_autoencoder: bool) -> None:
        """A trial was asked for, whose autoencoder may have to be trained first."""
        self.running[number] = self.now() + (self.autoencoder if without_autoencoder else 0.0)

    def begin(self, number: int) -> None:
        """A trial begins."""
        self.running[number] = self.now()

    def end(self, number: int, *, whole: bool) -> None:
        """A trial ended; ``whole`` where its time tells that of others: it trained here from its first step on."""
        began = self.running.pop(number, None)
        if whole and began is not None:
            self.trials.append(self.now() - began)

    def another(self, *, without_autoencoder: bool = False) -> bool:
        """Whether one more trial may begin in a free slot, and all that is planned after it still fits.

        ``without_autoencoder`` says that its autoencoder may have to be trained first.
        """
        schedule, first = self.schedule, self.autoencoder if without_autoencoder else 0.0

        def all_of(configurations: int, seeds: int) -> tuple[int, int]:
            return seeds * min(configurations, schedule.autoencoders), seeds * configurations

        if self.left > first + 2 * self.trial + self.confirmation(*all_of(schedule.configurations, schedule.seeds)):
            return True
        most = 2 * self.slots + self.slots * max(0, int(self.left / self.trial))
        return min(self._choices(most, all_of, first=first))[-1][0] > 0

    def extent(self, needs: Needs, done: tuple[int, int] | None = None) -> tuple[int, int]:
        """How many of the best to confirm, and with how many seeds, so that the sweep ends in time: at least 1 and 1.

        Where an extent is ``done``: the same configurations with as many seeds or more. What it took, over what was
        expected of it, then corrects what is expected of further seeds.
        """
        if not self.schedule.configurations:
            return 0, 0
        if self.part:
            began, expected = self.part
            self.slower *= min(max((self.now() - began) / expected, CORRECTION[0]), CORRECTION[1])
        chosen = min(self._choices(0, needs, done))[-1][1:]
        expected = self.confirmation(*needs(*chosen))
        self.part = (self.now(), expected) if expected else None
        return chosen

    def confirmation(self, autoencoders: int, denoisers: int) -> float:
        """Seconds of so many autoencoders and, after them, denoisers with fresh seeds."""
        parts = self.schedule.parts
        fresh = self.trial * parts.fresh / parts.trial
        first = waves(autoencoders, self.slots) * self.autoencoder
        return self.slower * (first + waves(denoisers, self.slots) * fresh)

    def _choices(
        self, most: int, needs: Needs, done: tuple[int, int] | None = None, first: float = 0.0
    ) -> Iterator[tuple[float, int, float, tuple[int, int, int]]]:
        """What may still be done: up to ``most`` trials, then a confirmation; each ends with these three numbers.

        ``first`` are the seconds of the autoencoder that the next trial may need.
        The lower, the better: the end is near the budget, the confirmation is as planned, with fewer seeds rather
        than fewer configurations, and then the end is as near as can be.
        """
        planned = self.schedule.configurations, self.schedule.seeds
        (few, less), many = done or (1, 1), done[0] if done else planned[0]
        extents = [(k, s) for k in range(few, many + 1) for s in range(less, MOST_SEEDS + 1)] or [(0, 0)]
        took = {each: self.confirmation(*needs(*each)) for each in extents}
        for trials in range(most + 1):
            until = self._until_ended(trials, first)
            for (configurations, seeds), seconds in took.items():
                away = abs(until + seconds - self.left)
                far = max(0.0, away - NEAR * self.schedule.seconds)
                changed = abs(configurations * seeds - planned[0] * planned[1]) + planned[0] - configurations
                yield far, changed, away, (trials, configurations, seeds)

    def _until_ended(self, more: int, first: float) -> float:
        """Seconds until the running trials, and so many ``more``, have ended; the next one begins with ``first``."""
        now = self.now()
        ends = sorted(max(0.0, began + self.trial - now) for began in self.running.values())
        ends = [0.0] * (self.slots - len(ends)) + ends
        for took in [first + self.trial, *[self.trial] * more][:more]:
            ends = sorted([ends[0] + took, *ends[1:]])
        return ends[-1]
