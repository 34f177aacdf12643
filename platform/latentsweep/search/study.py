"""What Optuna decides: which configuration next, which to prune, and the record of what each scored."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from latentsweep.metrics import objective_of
from latentsweep.search.optuna_internals import annotate, constrain, put_back
from latentsweep.search.priced import Priced, Prices
from latentsweep.search.proposals import WithoutRepeats
from latentsweep.search.pruning import behind
from latentsweep.search.ranking import Ranking
from latentsweep.search.tpe import TPEOfDenoisers
from latentsweep.search.trials import (
    COPIED,
    KEPT,
    REPLACES,
    RUNGS,
    WARM_START,
    Point,
    feasible,
    tried,
    without_points,
)
from latentsweep.stages import guards
from trainables.errors import INFRASTRUCTURE
from trainables.loop.seeds import derived_seed
from trainables.space import THRESHOLD


class Search(Ranking):
    """A study that is asked for configurations and told how they ended. The driver of a sweep alone has one."""

    prices = Prices()
    """What trainings cost, as far as whoever opens the search knows."""
    _pruning = False

    @functools.cached_property
    def _asked(self) -> dict[int, optuna.Trial]:
        """The trials that run, by number."""
        return {}

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
        for number, points in self._untold().items():
            self._add_points(number, points)
        for trial in self._lost():
            self._go_on_with(trial)
        return len(self._trials(TrialState.WAITING))

    def ended(self, target: int) -> bool:
        """Whether ``target`` trials have ended or every configuration was tried, and nothing is left to put in order.

        Then :meth:`requeue` would change nothing. Unlike that, this is for readers, too.
        """
        return not (self.lacks(target) or self._untold() or self._lost())

    def _untold(self) -> dict[int, list[Mapping[str, Any]]]:
        """The points of complete trials, by the trial, that the study was not told before its driver was killed."""
        told: dict[int, list[Mapping[str, Any]]] = {}
        for trial in self._trials():
            told.setdefault(trial.user_attrs.get("of", -1), []).append(trial.params)
        found = {
            trial.number: [
                p for p in trial.user_attrs.get("points", ()) if p["params"] not in told.get(trial.number, ())
            ]
            for trial in self._complete()
        }
        return {number: points for number, points in found.items() if points}

    def _lost(self) -> list[FrozenTrial]:
        """The trials that the infrastructure lost."""
        return [trial for trial in self.run_trials() if trial.user_attrs.get("class") == INFRASTRUCTURE]

    def begin_with(self, choose: Callable[[], Mapping[str, Mapping[str, Any]]]) -> Mapping[str, Any] | None:
        """Lets configurations wait to be asked for first, which ``choose`` gives by where they come from.

        They are chosen once, before the first trial: None where that was done before. Whatever a kill left out of
        what was chosen then is made up for.
        """
        chosen, fresh = self.study.user_attrs.get(WARM_START), None
        if chosen is None and not self._trials():
            chosen = fresh = {origin: dict(params) for origin, params in choose().items()}
            self.study.set_user_attr(WARM_START, chosen)
        there = {trial.user_attrs.get(WARM_START) for trial in self._trials()}
        for origin, params in (chosen or {}).items():
            if origin not in there:
                self.study.enqueue_trial(params, user_attrs={WARM_START: origin})
        return fresh

    def ask(self, target: float = math.inf) -> tuple[int, dict[str, Any]] | None:
        """The number and parameters of the next trial, which may go on with a pruned one.

        None where none waits and every configuration was tried, or ``target`` run trials are there.
        """
        trials = self._trials()
        runs = without_points(trials)
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        if not waiting and (len(runs) >= target or self._all_tried(runs)):
            return None
        seed, seen = derived_seed(self.seed, "ask", len(runs)) % 2**32, tried(runs)
        proposer = self._proposer(trials, seen, seed)
        if not waiting and self.frozen() and isinstance(proposer, Priced) and (pruned := proposer.find_to_thaw()):
            self._go_on_with(pruned)
        self.study.sampler = WithoutRepeats(proposer, self.distributions, seen=seen, seed=seed)
        trial = self.study.ask(fixed_distributions=self.distributions)
        self._asked[trial.number] = trial
        return trial.number, dict(trial.params)

    def _go_on_with(self, trial: FrozenTrial) -> None:
        """Lets a new trial wait, with the configuration and rungs of one that was pruned or lost.

        The key of its training is the same, so its worker goes on from the checkpoint that the store has.
        """
        self.study.add_trial(
            create_trial(
                state=TrialState.WAITING,
                intermediate_values=trial.intermediate_values,
                system_attrs={"fixed_params": trial.params},
                user_attrs={REPLACES: trial.number},
            )
        )

    def report(self, number: int, step: int, metrics: Mapping[str, float]) -> bool:
        """Notes a rung's score; True where the trial is to be pruned. Saying it again changes nothing.

        Whoever copies more than chance explains is pruned by any pruner, at any rung, and infeasible.
        """
        if copied := self._guarded(guards.rung_constraint, metrics):
            constrain(self.study, number, copied)  # first: a trial that is pruned isn't judged again after a kill
            self._annotate(number, {COPIED: guards.rung_words(metrics), "pruned_at": step})
            return True
        objectives = [objective_of(name) for name in self.config.objectives]
        trained = [objective for objective in objectives if not objective.cost]
        values = [metrics.get(objective.at_rungs) for objective in trained if objective.rung]
        found = [value for value in values if value is not None]
        if not trained or len(found) < len(trained):
            return False
        prune = self._report_one if len(objectives) == 1 else self._report_several
        if not prune(number, step, found) or self.config.pruner == "none":
            return False
        self._annotate(number, {"pruned_at": step})
        return True

    def _proposer(
        self, trials: Sequence[FrozenTrial], seen: Collection[tuple[tuple[str, Any], ...]], seed: int
    ) -> BaseSampler:
        """The sampler that the configuration names; TPE in place of the Gaussian process for two objectives."""
        if self.config.sampler == "random":
            return RandomSampler(seed=seed)
        if self.config.sampler == "gp" and self._learns:
            return Priced(self.distributions, trials, self.prices, seen=seen, seed=seed)
        if len(self.config.objectives) == 1:
            return TPEOfDenoisers(trials, startup=self.config.startup, seed=seed)
        startup = self.config.startup * max(1, len(self.space.thresholds))
        return TPESampler(multivariate=True, constant_liar=True, n_startup_trials=startup, seed=seed)

    @property
    def _learns(self) -> bool:
        """Whether the Gaussian process has anything to learn: of one objective, and of more than thresholds."""
        return len(self.config.objectives) == 1 and bool(self.distributions.keys() - {THRESHOLD})

    def _report_one(self, number: int, step: int, values: Sequence[float]) -> bool:
        """Notes the rung in Optuna; True where the pruner ends the trial, which may not be where it ended before."""
        trial, known = self._asked[number], self.trial(number)
        if step not in known.intermediate_values:
            trial.report(values[0], step)
        pruned = self.pruned_before(known)
        if pruned and step <= pruned.user_attrs["pruned_at"]:
            return False
        if self.config.pruner == "gp" and self._learns:
            return Priced(self.distributions, self._trials(), self.prices).can_hardly_win(number)
        return self._startup_over() and trial.should_prune()

    def _report_several(self, number: int, step: int, values: Sequence[float]) -> bool:
        """The same for two objectives, which Optuna's pruners don't take: by the median, and by no other pruner.

        A trial ends where it is behind the median in each objective that a training decides.
        """
        rungs = {str(step): [*values], **self.trial(number).user_attrs.get(RUNGS, {})}
        self._annotate(number, {RUNGS: rungs})
        others = [trial for trial in self.run_trials() if trial.state == TrialState.COMPLETE and feasible(trial)]
        theirs = [
            trial.user_attrs[RUNGS][str(step)] for trial in others if str(step) in trial.user_attrs.get(RUNGS, {})
        ]
        return self.config.pruner == "median" and self._startup_over() and behind(rungs[str(step)], theirs)

    def tell(self, number: int, points: Sequence[Point], attributes: Mapping[str, Any]) -> None:
        """A finished trial: ``points`` are all thresholds of its pass, among them the trial's own.

        It counts as failed where an objective was not measured.
        """
        trial = self.trial(number)
        points = [replace(p, metrics=guards.with_bound(p.metrics, self.config.most_seconds)) for p in points]
        own = next((point for point in points if dict(point.params) == trial.params), None)
        found = [own.metrics.get(objective_of(name).name) for name in self.config.objectives] if own else []
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

    def _startup_over(self) -> bool:
        """Whether enough trials are finished for others to be pruned, without those that the guards refuse; once they
        are, they stay so."""
        if not self._pruning:
            scored = sum(trial.state == TrialState.COMPLETE and feasible(trial) for trial in self.run_trials())
            self._pruning = scored >= self.config.startup
        return self._pruning

    def _add_points(self, number: int, points: Iterable[Mapping[str, Any]]) -> None:
        """Tells the study the other thresholds of a trial, each once."""
        metrics = [objective_of(name).name for name in self.config.objectives]
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

    def _annotate(self, number: int, attributes: Mapping[str, Any]) -> None:
        annotate(self.study, number, attributes)

    def _end(self, number: int, values: Sequence[float] | None = None, state: TrialState | None = None) -> None:
        self.study.tell(number, values, state)
        self._asked.pop(number, None)
