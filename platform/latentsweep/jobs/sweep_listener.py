"""What a sweep's view and record are told of its trials and of what these share, as Ray Tune hears of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from latentsweep.execution.shared_stages import Work
from latentsweep.execution.view import View
from latentsweep.execution.work_log import last_line, shorten, tail
from latentsweep.metrics import objective_of
from latentsweep.search import leaderboard
from latentsweep.search.trials import COPIED
from latentsweep.stages import guards
from latentsweep.storage.entries import StageKey
from trainables.errors import ChangedDataError

if TYPE_CHECKING:
    from latentsweep.jobs.sweep import Sweep


class SweepListener:
    """Tells the view and the record what happens to the trials of a sweep, and to what these share.

    It is a :class:`~latentsweep.execution.tuning.TrialListener`.
    """

    def __init__(self, sweep: Sweep, view: View) -> None:
        self.sweep, self.view = sweep, view
        self.began: dict[str, float] = {}
        """When each work began, by its name."""
        objective = objective_of(sweep.plan.search.objectives[0])
        self.objective, self.rung = objective, objective.at_rungs if objective.rung else None

    def wanted(self) -> bool:
        """Whether the dataset is still the sweep's: with another, every trial would be lost."""
        try:
            self.sweep.check_dataset()
        except ChangedDataError:
            return False
        return True

    def another(self) -> bool:
        """Whether time is left for another trial, or one waits that was interrupted."""
        return self.sweep.deadline is None or self.sweep.waiting() or self.sweep.deadline.another()

    def asked(self, number: int, params: Mapping[str, Any]) -> None:
        """A configuration was asked for."""
        if self.sweep.deadline:
            self.sweep.deadline.expect(number, self.sweep.plan.keys(params))
            self.view.target = max(self.view.target, len(self.sweep.search.run_trials()))

    def started(self, number: int, params: Mapping[str, Any]) -> None:
        """A configuration begins, or a pruned one goes on."""
        keys = self.sweep.plan.keys(params)
        self.sweep.use(keys.names())
        if self.sweep.deadline:
            self.sweep.deadline.begin(number, keys)
        trial = self.sweep.search.trial(number)
        self.sweep.record.open_trial(trial)
        self.view.started(number, params)
        if pruned := self.sweep.search.pruned_before(trial):
            self.view.finished = self.sweep.search.finished()
            self.view.say(f"trial {number} continues trial {pruned.number}, which was pruned")

    def shared(self, params: Mapping[str, Any]) -> Sequence[Work]:
        """The autoencoder of a configuration with what follows from it, and the real features."""
        plan = self.sweep.plan
        alone = {field: params[field] for field in plan.space.touching("data", "vae")}
        return Work.of(plan.keys(params), plan.keys(alone), alone)

    def has(self, work: Work) -> bool:
        """Whether the results of a work are in the store."""
        return all(self.sweep.store.find(key) for key in work.keys)

    def work_began(self, work: Work) -> None:
        """A work begins: what it leaves in the store is this sweep's."""
        self.sweep.use(key.name for key in work.keys)
        self.began[work.name] = time.monotonic()
        self.view.stage(work.label, "starting", going=True)

    def work_heard(self, work: Work, result: Mapping[str, Any]) -> None:
        """A work reported."""
        if self.sweep.deadline:
            self.sweep.deadline.heard()
        records = result.get("records", [])
        state = f"training, step {int(records[-1]['step'])}" if records else "computing"
        self.view.stage(work.label, state, going=True)

    def work_lost(self, work: Work, error: str) -> tuple[str, str]:
        """A work was lost again and again, as :meth:`lost` says it of a trial."""
        return self._lost(work.keys[0], error)

    def work_ended(self, work: Work, failure: Mapping[str, str] | None) -> None:
        """A work ended: an autoencoder is recorded, a failure is that of all trials that need it."""
        seconds = time.monotonic() - self.began.pop(work.name)
        how = f"failed, and its trials with it: {failure['reason']}" if failure else f"done in {seconds:.0f} s"
        self.view.stage(work.label, how)
        if not failure and work.section == "vae":
            name, plan = work.keys[0].name, self.sweep.plan
            self.sweep.record.autoencoders({name: plan.recipe_of(work.params)})

    def heard(self, number: int, result: Mapping[str, Any]) -> None:
        """A trial reported."""
        if self.sweep.deadline:
            self.sweep.deadline.heard()
        records = result.get("records", [])
        if records:
            self.sweep.record.trial_records(number, records)
            scores = [record[self.rung] for record in records if self.rung in record]
            copies = [said for said in map(guards.rung_words, records) if said]
            self.view.heard(number, int(records[-1]["step"]), scores[-1] if scores else None, "".join(copies[-1:]))

    def lost(self, number: int, error: str) -> tuple[str, str]:
        """A trial was lost again and again, at last with Ray's ``error``: the reason, and its log's last lines."""
        return self._lost(self.sweep.plan.keys(self.sweep.search.trial(number).params).denoiser, error)

    def _lost(self, key: StageKey, error: str) -> tuple[str, str]:
        """The reason and the log of a training with that key, which was lost at last with Ray's ``error``."""
        log = tail(self.sweep.store.log_of(key))
        return last_line(error) or "the worker was lost again and again", log or shorten(error)

    def ended(self, number: int) -> None:
        """A trial ended; the study knows how."""
        trial = self.sweep.search.trial(number)
        if self.sweep.deadline:
            self.sweep.deadline.end(number, complete=trial.state == TrialState.COMPLETE)
        self.sweep.record.end_trial(trial)
        best = None
        if trial.state == TrialState.COMPLETE:
            points = [trial.user_attrs["metrics"], *(point["metrics"] for point in trial.user_attrs["points"])]
            points = [point for point in points if self.objective.name in point]
            refused = self.sweep.search.refused
            lowest = min(points, key=lambda point: (bool(refused(point)), point[self.objective.name]))
            how = f"{'best ' if len(points) > 1 else ''}{self._score(lowest[self.objective.name])}"
            said = guards.refusal(lowest)
            how += (f", refused: {said}" if refused(lowest) else f", {said}") if said else ""
            first = self.sweep.search.leader()
            best = f"{self._score(first.values[0])} with {leaderboard.described(first.params)}"
            if self.sweep.search.refusal(first):
                best = "none, the guards refuse all"
        elif trial.state == TrialState.PRUNED:
            how = f"pruned at step {trial.user_attrs['pruned_at']}"
            how += f": {trial.user_attrs[COPIED]}" if COPIED in trial.user_attrs else ""
        else:
            how = f"failed: {trial.user_attrs.get('reason', 'no reason given')}"
        self.view.ended(number, how, best)

    def _score(self, value: float) -> str:
        """A score of the objective with its name."""
        return f"{self.objective.label} {self.objective.format(value)}"
