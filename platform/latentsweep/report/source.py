"""A sweep as it lies on disk: its settings, its study, and its results in the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from latentsweep.search.plan import SweepPlan
from latentsweep.search.study import Search
from latentsweep.search.sweeps import chosen_sweep, open_search
from latentsweep.search.trials import family_of
from latentsweep.stages.table import STAGES
from latentsweep.storage.entries import Entry
from latentsweep.storage.home import Home, read_json
from latentsweep.storage.store import Store


@dataclass(frozen=True)
class Source:
    """What a report is made from; opening it changes nothing."""

    home: Home
    folder: Path
    plan: SweepPlan
    search: Search
    store: Store

    def results(self, trial: FrozenTrial) -> dict[str, str]:
        """:meth:`SweepPlan.results` of a trial."""
        return self.plan.results(self.search, trial)

    def entries(self, trial: FrozenTrial) -> dict[str, Entry]:
        """A trial's results that are in the store, by stage."""
        found = {stage: self.store.find(name) for stage, name in self.results(trial).items()}
        return {stage: entry for stage, entry in found.items() if entry}


@dataclass(frozen=True)
class StageCost:
    """What the results of one stage cost."""

    stage: str
    results: int
    seconds: float
    unfinished: int
    """Trainings that were pruned or stopped; their time is in ``seconds``."""
    freed: int
    """Results that are no longer in the store; their time is not known any more."""


@dataclass(frozen=True)
class Compute:
    """What a sweep cost, and what it would have cost more without sharing; wall seconds of work."""

    stages: list[StageCost]
    shared_seconds: float
    """If each trial had trained and encoded with an autoencoder of its own."""
    threshold_seconds: float
    """If each further early-stop threshold had been a training of its own."""

    @property
    def seconds(self) -> float:
        """The sum over the stages."""
        return sum(stage.seconds for stage in self.stages)


def open_source(home: Home, name: str) -> Source:
    """The sweep of that name; raises :class:`~trainables.errors.DataError` where there is none."""
    folder = chosen_sweep(home, None, name)
    plan = SweepPlan.read(folder)
    return Source(home, folder, plan, open_search(folder, home.study), Store.of(home))


def compute(source: Source) -> Compute:
    """The cost of every result that the sweep refers to, whoever computed it first."""
    expected = {name for trial in source.search.run_trials() for name in trial.user_attrs.get("keys", [])}
    names = sorted(expected.union(read_json(source.folder / "uses.json", [])))
    entries = {name: source.store.find(name) for name in names}
    costs = []
    for stage in sorted({name.split("/")[0] for name in names}, key=_place):
        own = {name: entries[name] for name in names if name.split("/")[0] == stage}
        there = [entry.seconds for entry in own.values() if entry]
        begun = {name: source.store.spent(name) for name, entry in own.items() if not entry}
        unfinished = [seconds for seconds in begun.values() if seconds is not None]
        freed = sum(seconds is None and name in expected for name, seconds in begun.items())
        if there or unfinished or freed:
            costs.append(StageCost(stage, len(there), sum(there) + sum(unfinished), len(unfinished), freed))
    return Compute(costs, *_saved(source, {name: entry.seconds for name, entry in entries.items() if entry}))


def _saved(source: Source, seconds: Mapping[str, float]) -> tuple[float, float]:
    """The seconds of :class:`Compute` that sharing saved, from those of each result."""
    users: Counter[str] = Counter()
    passes = Counter(family_of(trial) for trial in source.search.measured())
    thresholds = 0.0
    for trial in source.search.run_trials():
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            results = source.results(trial)
            users.update(results[stage] for stage in ("vae", "latents"))
            thresholds += max(0, passes[trial.number] - 1) * seconds.get(results["denoiser"], 0.0)
    return sum((count - 1) * seconds.get(name, 0.0) for name, count in users.items()), thresholds


def _place(stage: str) -> tuple[int, str]:
    return (list(STAGES).index(stage) if stage in STAGES else len(STAGES), stage)
