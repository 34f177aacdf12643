"""What results of the store are to people: of which configurations of which sweeps, with how many latent channels."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from latentsweep.search.plan import SweepPlan
from latentsweep.search.sweeps import open_search, sweeps
from latentsweep.search.trials import family_of
from latentsweep.storage.home import Home
from trainables.errors import LatentsweepError

SHOWN = 3
"""Ranges of configurations of one sweep that are named; of more, their number is said."""

SWEEPS = "sweeps/"
"""What the store puts before the name of a sweep among the users of a result."""


@dataclass
class Label:
    """What one result is: whose it is by their sweeps, and its numbers of latent channels."""

    trials: dict[str, list[int]] = field(default_factory=dict)
    """The trials that it was computed for."""
    configurations: dict[str, list[int]] = field(default_factory=dict)
    """The numbers that the leaderboard has of them: also of the further early-stop thresholds of these trials."""
    channels: set[int] = field(default_factory=set)

    def __str__(self) -> str:
        """As it stands in a table: ``demo-small-1a2b3c4d #1, #4; channels 8``."""
        return self.beside(())

    def beside(self, users: Sequence[str]) -> str:
        """The same with those ``users`` of a result, as the store knows them, that are no sweep of the label."""
        others = [user for user in users if user.removeprefix(SWEEPS) not in self.configurations]
        sweeps = [f"{sweep} {ranges(numbers)}" for sweep, numbers in self.configurations.items()]
        channels = [f"channels {next(iter(self.channels))}"] if len(self.channels) == 1 else []
        return "; ".join([*sweeps, *others, *channels])


def ranges(numbers: Sequence[int]) -> str:
    """Sorted numbers in short, ``#0–5, #8``; of many parts the first, and how many numbers there are beside."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    shown, rest = parts[:SHOWN], sum(map(len, parts[SHOWN:]))
    said = ", ".join(f"#{part[0]}" + (f"–{part[-1]}" if len(part) > 1 else "") for part in shown)
    return f"{said} and {rest} more" if rest else said


def users_words(row: Mapping[str, Any], named: Mapping[str, Label]) -> str:
    """Who uses the result of a row of :func:`~latentsweep.storage.housekeeping.overview`, and what it is to them."""
    return named.get(row["name"], Label()).beside(row["used_by"]) or "nothing"


def labels(home: Home) -> dict[str, Label]:
    """The label of each result that a trial of the home's sweeps has or is to have, by the result's name.

    A sweep that can't be read is left out.
    """
    found: dict[str, Label] = {}
    for folder in sweeps(home):
        if not (home.study or (folder / "study.db").exists()):
            continue
        with contextlib.suppress(LatentsweepError):
            plan, search = SweepPlan.read(folder), open_search(folder, home.study)
            points: dict[int, list[int]] = {}
            for trial in search.measured():
                points.setdefault(family_of(trial), []).append(trial.number)
            for trial in search.run_trials():
                channels = plan.recipe_of(trial.params).vae.latent_channels
                for name in plan.results(search, trial).values():
                    label = found.setdefault(name, Label())
                    label.trials.setdefault(folder.name, []).append(trial.number)
                    known = label.configurations.setdefault(folder.name, [])
                    known[:] = sorted({*known, trial.number, *points.get(trial.number, ())})
                    label.channels.add(channels)
    return found
