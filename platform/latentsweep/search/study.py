"""What Optuna decides: which configuration next, which to prune, and the record of what each scored.

The study in the sweep's folder is the single truth about the search. A *run* trial is one that a denoiser was
trained for; a *point* is another threshold of it, told to the study without any training (attribute ``of``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from latentsweep import guards
from latentsweep.metrics import KID, OBJECTIVES, STEPS
from latentsweep.search.databases import storage, translate_errors
from latentsweep.search.optuna_internals import annotate, constrain, put_back, trial_of
from latentsweep.search.pairing import PAIRING, Pairing, paired_error
from latentsweep.search.proposals import WithoutRepeats, distribution, trained_part
from trainables.config import Config, setting
from trainables.errors import INFRASTRUCTURE, ConfigError, StoreError
from trainables.loop.seeds import derived_seed
from trainables.space import SearchSpace

optuna.logging.set_verbosity(optuna.logging.WARNING)
REPLACES = "replaces"
"""The attribute of a trial that runs a lost one again; it holds the number of the lost one."""

KEPT = ("metrics", PAIRING)
"""What the study keeps of a point beside its parameters."""

COPIED = "copied"
"""The attribute of a trial that was pruned since it copied: what its last rung said, in words."""


def feasible(trial: FrozenTrial) -> bool:
    """Whether no guard refuses a trial, as far as the study was told."""
    return all(excess <= 0 for excess in trial.constraints.values())


class MedianOfFeasible(MedianPruner):
    """Optuna's pruner by the median, of feasible trials only: a copyist's low score would prune honest ones."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether ``trial`` is to end."""
        return super().prune(cast("Study", _Feasible(study)), trial)


class _Feasible:
    """A study without the trials that aren't :func:`feasible`."""

    def __init__(self, study: Study) -> None:
        self.study = study

    def get_trials(self, *args: Any, **named: Any) -> list[FrozenTrial]:
        return [trial for trial in self.study.get_trials(*args, **named) if feasible(trial)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.study, name)


PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "median": partial(MedianOfFeasible, n_startup_trials=0, n_warmup_steps=0),
    "hyperband": HyperbandPruner,
    "none": NopPruner,
}
"""Optuna's pruners by the names that ``--pruner`` takes."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Config):
    """How configurations are chosen and pruned."""

    objectives: tuple[str, ...] = setting(
        (KID.objective,), "what is minimised; two give a Pareto front", choices=None
    )
    sampler: str = setting("tpe", "how configurations are proposed", choices=("tpe", "random"))
    pruner: str = setting("median", "which trials end early", choices=tuple(PRUNERS))
    startup: int = setting(
        4, "trials that are finished before any is pruned, and drawn at random before TPE begins", low=1
    )
    guarded: bool = setting(True, "whether what copies its training slices or collapses can't win", later=True)

    def check(self) -> None:
        if not 1 <= len(self.objectives) <= 2 or len(set(self.objectives)) < len(self.objectives):
            raise ConfigError(f"--objective takes one name or two different ones, got {', '.join(self.objectives)}")
        for name in self.objectives:
            if name not in OBJECTIVES:
                raise ConfigError(f"--objective must be among {', '.join(OBJECTIVES)}; got {name!r}")


@dataclass(frozen=True)
class Point:
    """One measured configuration: its parameters and metrics."""

    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    pairing: Mapping[str, str] | None = None
    """:meth:`Pairing.to_plain`; None where it is not known."""

    @property
    def attributes(self) -> dict[str, Any]:
        """What the study keeps of it beside its parameters."""
        known = {} if self.pairing is None else {PAIRING: dict(self.pairing)}
        return {"metrics": dict(self.metrics), **known}


class Search:
    """One Optuna study, asked for configurations and told how they ended."""

    def __init__(
        self,
        folder: Path,
        space: SearchSpace,
        config: SearchConfig,
        seed: int,
        database: str = "",
        *,
        reading: bool = False,
    ) -> None:
        """Opens the study in ``folder`` or ``database``, and begins it where there is none.

        ``reading`` opens it for questions alone and begins none, so that the folder may be read-only. Raises
        :class:`~trainables.errors.StoreError` where it can't be opened.
        """
        self.folder, self.space, self.config, self.seed = folder, space, config, seed
        self.distributions = {field: distribution(d) for field, d in space.dimensions.items()}
        with translate_errors(database):
            place = storage(folder, database, reading=reading)
            if reading:
                self.study = _loaded(folder.name, place)
            else:
                self.study = optuna.create_study(
                    study_name=folder.name,
                    storage=place,
                    directions=["minimize"] * len(config.objectives),
                    pruner=PRUNERS[config.pruner](),
                    load_if_exists=True,
                )
        self.apart: frozenset[int] = frozenset()
        """Trials whose scores don't compare with the others': they are in no ranking, nor are their points."""
        self._asked: dict[int, optuna.Trial] = {}
        self._pruning = False

    def requeue(self) -> int:
        """After an interruption: RUNNING trials wait again, decided ones are told, missing points are added.

        Trials that the infrastructure lost wait again under a new number. Only the driver of the sweep may call this.
        Returns how many trials wait.
        """
        for trial in self._trials(TrialState.RUNNING):
            if "pruned_at" in trial.user_attrs:
                self.study.tell(trial.number, state=TrialState.PRUNED)
            else:
                put_back(self.study, trial.number)
        told: dict[int, list[Mapping[str, Any]]] = {}
        for trial in self._trials():
            told.setdefault(trial.user_attrs.get("of", -1), []).append(trial.params)
        for trial in self._complete():
            points = [p for p in trial.user_attrs.get("points", ()) if p["params"] not in told.get(trial.number, ())]
            self._add_points(trial.number, points)
        for trial in self.run_trials():
            if trial.user_attrs.get("class") == INFRASTRUCTURE:
                self.study.enqueue_trial(trial.params, user_attrs={REPLACES: trial.number})
        return len(self._trials(TrialState.WAITING))

    def ask(self, target: float = math.inf) -> tuple[int, dict[str, Any]] | None:
        """The number and parameters of the next trial.

        None where none waits and every configuration was tried, or ``target`` run trials are there.
        """
        trials = self._trials()
        runs = without_points(trials)
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        if not waiting and (len(runs) >= target or self._all_tried(runs)):
            return None
        self.study.sampler = WithoutRepeats(
            self.config.sampler,
            self.distributions,
            seen=tried(runs),
            startup=self.config.startup * max(1, len(self.space.thresholds)),
            seed=derived_seed(self.seed, "ask", len(runs)) % 2**32,
        )
        trial = self.study.ask(fixed_distributions=self.distributions)
        self._asked[trial.number] = trial
        return trial.number, dict(trial.params)

    def report(self, number: int, step: int, metrics: Mapping[str, float]) -> bool:
        """Notes a rung's score; True where the trial is to be pruned. Saying it again changes nothing.

        Whoever copies more than chance explains is pruned by any pruner, at any rung, and infeasible.
        """
        if copied := self._guarded(guards.rung_constraint, metrics):
            constrain(self.study, number, copied)  # first: a trial that is pruned isn't judged again after a kill
            self._annotate(number, {COPIED: guards.rung_words(metrics), "pruned_at": step})
            return True
        objective = OBJECTIVES[self.config.objectives[0]]
        if len(self.config.objectives) > 1 or not objective.rung:
            return False
        value = metrics.get(objective.at_rungs)
        if value is None:
            return False
        trial = self._asked[number]
        if step not in self.trial(number).intermediate_values:
            trial.report(value, step)
        if self.config.pruner == "none" or not self._startup_over() or not trial.should_prune():
            return False
        trial.set_user_attr("pruned_at", step)
        return True

    def tell(self, number: int, points: Sequence[Point], attributes: Mapping[str, Any]) -> None:
        """A finished trial: ``points`` are all thresholds of its pass, among them the trial's own.

        It counts as failed where an objective was not measured.
        """
        trial = self.trial(number)
        own = next((point for point in points if dict(point.params) == trial.params), None)
        found = [own.metrics.get(OBJECTIVES[name].name) for name in self.config.objectives] if own else []
        values = [value for value in found if value is not None]
        if len(values) < len(self.config.objectives):
            self.fail(number, f"no finite {' and '.join(self.config.objectives)} was measured", "divergence")
            return
        others = [{"params": dict(p.params), **p.attributes} for p in points if p is not own]
        self._annotate(number, {**attributes, **(own.attributes if own else {"metrics": {}}), "points": others})
        constrain(self.study, number, self._guarded(guards.constraints, own.metrics if own else {}))
        self._end(number, values)
        self._add_points(number, others)

    def prune(self, number: int, attributes: Mapping[str, Any]) -> None:
        """A trial that was stopped on the way."""
        self._annotate(number, attributes)
        self._end(number, state=TrialState.PRUNED)

    def fail(self, number: int, reason: str, kind: str, log: str = "") -> None:
        """A trial that gave no result: why, of what class that is, and the last lines of its log."""
        self._annotate(number, {"reason": reason, "class": kind, "log": log})
        self._end(number, state=TrialState.FAIL)

    def wait(self, number: int) -> None:
        """A trial that was interrupted: it is asked again first."""
        put_back(self.study, number)

    def trial(self, number: int) -> FrozenTrial:
        """One trial as the study has it."""
        return trial_of(self.study, number)

    def run_trials(self) -> list[FrozenTrial]:
        """Trials that a denoiser is trained for; points, and trials that were replaced, left out."""
        return without_points(self._trials())

    def points_of(self, number: int) -> list[FrozenTrial]:
        """The other thresholds of a trial's pass."""
        return [trial for trial in self._complete() if trial.user_attrs.get("of") == number]

    def finished(self) -> int:
        """How many run trials have ended, one way or another."""
        return sum(trial.state.is_finished() for trial in self.run_trials())

    def exhausted(self) -> bool:
        """Whether a denoiser of every configuration was asked for."""
        return self._all_tried(self.run_trials())

    def measured(self) -> list[FrozenTrial]:
        """Every configuration with a score, points among them, best first; what the guards refuse is last.

        Those of trials that are :attr:`apart` are left out.
        """
        return sorted(self._ranked(), key=self._rank)

    def leader(self) -> FrozenTrial:
        """The first of :meth:`measured`, which must not be empty."""
        return min(self._ranked(), key=self._rank)

    def refusal(self, trial: FrozenTrial) -> str:
        """Why the guards refuse a measured trial, in words; empty where they don't, or the search has none.

        What they say of any search's measurements is :func:`~latentsweep.guards.refusal`.
        """
        return self.refused(trial.user_attrs.get("metrics", {}))

    def refused(self, metrics: Mapping[str, float]) -> str:
        """The same of measurements."""
        return guards.refusal(metrics) if self.config.guarded else ""

    def feasible(self) -> list[FrozenTrial]:
        """Those of :meth:`measured` that no guard refuses."""
        return [trial for trial in self.measured() if not self.refusal(trial)]

    def best(self) -> list[FrozenTrial]:
        """The Pareto front of two objectives; of one the cheapest threshold within one standard error of the best.

        That error is of the difference of the two scores, see :meth:`paired_error`; where there is none, that of the
        best score. Nothing that the guards refuse is among them; where they refuse all, there is no best.
        """
        if len(self.config.objectives) > 1:
            return self._front()
        measured = self.feasible()
        if not measured:
            return []
        best = measured[0]
        unpaired = best.user_attrs["metrics"].get(OBJECTIVES[self.config.objectives[0]].error, 0.0)
        good = []
        for trial in measured:
            if family_of(trial) == family_of(best):
                paired = self.paired_error(trial, best)
                if trial.values[0] <= best.values[0] + (unpaired if paired is None else paired):
                    good.append(trial)
        return [min(good, key=lambda t: (t.user_attrs["metrics"].get(STEPS.name, 0.0), t.values[0]))]

    def paired_error(self, trial: FrozenTrial, other: FrozenTrial) -> float | None:
        """Standard error of the difference of two measured trials' scores, as :func:`~.pairing.paired_error` has it.

        None where KID is not the one objective.
        """
        if self.config.objectives != (KID.objective,):
            return None
        return paired_error(*(Pairing.from_plain(each.user_attrs.get(PAIRING)) for each in (trial, other)))

    def _complete(self) -> list[FrozenTrial]:
        return self._trials(TrialState.COMPLETE)

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials of the study, in some states or all; those that another client of Optuna added are left out."""
        return [
            trial for trial in self.study.get_trials(deepcopy=False, states=states or None) if self._is_ours(trial)
        ]

    def _is_ours(self, trial: FrozenTrial) -> bool:
        """Whether a trial has dimensions of the space alone and, where it is complete, measurements."""
        measured = trial.state != TrialState.COMPLETE or isinstance(trial.user_attrs.get("metrics"), Mapping)
        return measured and trial.params.keys() <= self.distributions.keys()

    def _ranked(self) -> list[FrozenTrial]:
        return [trial for trial in self._complete() if family_of(trial) not in self.apart]

    def _front(self) -> list[FrozenTrial]:
        """The ranked trials, none refused, that no other one beats in one objective and equals or beats in all."""
        ranked = [trial for trial in self._ranked() if not self.refusal(trial)]

        def beaten(trial: FrozenTrial) -> bool:
            pairs = ([*zip(other.values, trial.values, strict=True)] for other in ranked)
            return any(all(a <= b for a, b in pair) and any(a < b for a, b in pair) for pair in pairs)

        return [trial for trial in ranked if not beaten(trial)]

    def _startup_over(self) -> bool:
        """Whether enough trials are finished for others to be pruned, without those that the guards refuse; once they
        are, they stay so."""
        if not self._pruning:
            scored = sum(trial.state == TrialState.COMPLETE and feasible(trial) for trial in self.run_trials())
            self._pruning = scored >= self.config.startup
        return self._pruning

    def _all_tried(self, runs: Iterable[FrozenTrial]) -> bool:
        size = self.space.size / max(1, len(self.space.thresholds))
        return math.isfinite(size) and len(tried(runs)) >= size

    def _add_points(self, number: int, points: Iterable[Mapping[str, Any]]) -> None:
        """Tells the study the other thresholds of a trial, each once."""
        metrics = [OBJECTIVES[name].name for name in self.config.objectives]
        for point in points:
            if not all(name in point["metrics"] for name in metrics):
                continue
            self.study.add_trial(
                create_trial(
                    params=point["params"],
                    distributions=self.distributions,
                    values=[point["metrics"][name] for name in metrics],
                    constraints=self._guarded(guards.constraints, point["metrics"]),
                    user_attrs={"of": number, **{name: point[name] for name in KEPT if name in point}},
                )
            )

    def _guarded(
        self, judge: Callable[[Mapping[str, float]], dict[str, float]], metrics: Mapping[str, float]
    ) -> dict[str, float]:
        """What a judge of the guards says of measurements; nothing in a search without guards."""
        return judge(metrics) if self.config.guarded else {}

    def _rank(self, trial: FrozenTrial) -> tuple[bool, Sequence[float], int]:
        return bool(self.refusal(trial)), trial.values, trial.number

    def _annotate(self, number: int, attributes: Mapping[str, Any]) -> None:
        annotate(self.study, number, attributes)

    def _end(self, number: int, values: Sequence[float] | None = None, state: TrialState | None = None) -> None:
        self.study.tell(number, values, state)
        self._asked.pop(number, None)


def _loaded(name: str, place: str | RDBStorage) -> Study:
    """A study that is there; raises :class:`StoreError` where it isn't."""
    try:
        return optuna.load_study(study_name=name, storage=place)
    except KeyError:
        raise StoreError(
            f"a sweep's study must be where it was searched, and that of {name} isn't there; say where with "
            "--study-storage, or put back its study.db"
        ) from None


def without_points(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials of a study that a denoiser is trained for and that were not replaced."""
    replaced = {trial.user_attrs.get(REPLACES) for trial in trials}
    return [trial for trial in trials if "of" not in trial.user_attrs and trial.number not in replaced]


def tried(trials: Iterable[FrozenTrial]) -> set[tuple[tuple[str, Any], ...]]:
    """The configurations that the trials stand for."""
    return {trained_part(trial.params) for trial in trials if trial.params}


def family_of(trial: FrozenTrial) -> int:
    """The number of the trial whose denoiser this one shares."""
    return int(trial.user_attrs.get("of", trial.number))
