"""What results of the store are to people: of which configurations of which sweeps, with how many latent channels."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from latentsweep.search.plan import SweepPlan
from latentsweep.search.sweeps import open_search, sweeps
from latentsweep.search.trials import family_of
from latentsweep.storage.home import Home
from trainables.errors import LatentsweepError

SHOWN = 6
"""Configurations of one sweep that are named; of more, their number is said."""


@dataclass
class Label:
    """What one result is: whose it is by their sweeps, and its numbers of latent channels."""

    trials: dict[str, list[int]] = field(default_factory=dict)
    """The trials that it was computed for."""
    configurations: dict[str, list[int]] = field(default_factory=dict)
    """The numbers that the leaderboard has of them: also of the further early-stop thresholds of these trials."""
    channels: set[int] = field(default_factory=set)

    def __str__(self) -> str:
        """As it stands in a table: ``channels 8; #1, #4 of demo-smoke-1a2b3c4d``."""
        channels = [f"channels {next(iter(self.channels))}"] if len(self.channels) == 1 else []
        parts = []
        for sweep, numbers in self.configurations.items():
            first = ", ".join(f"#{number}" for number in numbers[:SHOWN])
            more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
            parts.append(f"{first}{more} of {sweep}")
        return "; ".join([*channels, *parts])


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
