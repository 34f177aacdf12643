"""A sweep: the shared stages first, then the trials, until so many have ended. Run again, it goes on."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from optuna.trial import TrialState
from rich.console import Console

from latentsweep.execution import worker
from latentsweep.execution.cluster import check_resources, cluster
from latentsweep.execution.packing import Packing
from latentsweep.execution.shared_stages import Shared, obtain
from latentsweep.execution.supervision import driving, uninterrupted
from latentsweep.execution.view import View
from latentsweep.execution.work_log import said_last, shortened, tail
from latentsweep.execution.worker import Assignment
from latentsweep.lints import as_text, inspection
from latentsweep.metrics import OBJECTIVES
from latentsweep.records.recorder import Recorder
from latentsweep.records.sweep import SweepRecord, value_of
from latentsweep.search import leaderboard
from latentsweep.search.databases import answering
from latentsweep.search.plan import SweepPlan, threads_of
from latentsweep.search.study import Search
from latentsweep.stages.dataset import published_name
from latentsweep.stages.pipeline import Keys
from latentsweep.storage.home import Home, write_json
from latentsweep.storage.store import Store
from trainables.errors import StoppedError
from trainables.measures.inception import InceptionWeights
from trainables.recipes import Recipe

log = logging.getLogger(__name__)


class Sweep:
    """One sweep in its folder; only one process drives it at a time."""

    def __init__(self, home: Home, plan: SweepPlan, weights: InceptionWeights, recorder: Recorder) -> None:
        self.home, self.plan, self.weights = home, plan, weights
        self.folder = home.writable(home.sweeps / plan.name)
        self.store = Store.of(home)
        self.search = Search(self.folder, plan.space, plan.search, plan.seed, home.study)
        self.record = SweepRecord(recorder, plan, self.store, self.search)
        self.uses: set[str] = set()

    def run(self, target: int, packing: Packing, console: Console, *, address: str = "local") -> None:
        """Runs until ``target`` trials have ended or every configuration was tried.

        Raises :class:`StoppedError` after Ctrl-C.
        """
        with driving(self.folder, self.home.study), answering(self.home.study):
            packing = self._keeping_threads(packing)
            write_json(self.folder / "sweep.json", {**self.plan.to_plain(), "threads": packing.threads})
            self.search.requeue()
            self._use(*(self.plan.keys(trial.params) for trial in self.search.run_trials()))
            findings = inspection.before(self.home, self.plan)
            if findings:
                console.print(as_text(findings), highlight=False, markup=False)
            self.record.begin(findings)
            view = View(console, self.plan.name, target, self.plan.recipe.diffusion.steps)
            view.finished = self.search.finished()
            try:
                if self._unfinished(target):
                    with view, cluster(address, gpus=len(packing.cards), cards=packing.visible_devices):
                        check_resources(packing.threads, packing.gpu_share)
                        self._shared_stages(view, packing)
                        self._trials(view, target, packing)
            except KeyboardInterrupt:
                log.debug("interrupted by the user")
            finally:
                with uninterrupted():
                    self.search.requeue()
                    self.record.autoencoders(self.plan.autoencoders())
                    self.record.missing()
                    self._write_leaderboard()
                    self.record.end(finished=not self._unfinished(target))
            if self._unfinished(target):
                raise StoppedError(
                    f"the sweep was stopped with {self.search.finished()} of {target} trials ended; "
                    "nothing is lost, and the same command goes on"
                )

    def _keeping_threads(self, packing: Packing) -> Packing:
        """The packing with the threads that the sweep began with, so that its trials stay comparable bit for bit."""
        if not (self.folder / "sweep.json").exists():
            return packing
        return dataclasses.replace(packing, threads=threads_of(self.folder))

    def _unfinished(self, target: int) -> bool:
        trials = self.search.run_trials()
        if any(not trial.state.is_finished() for trial in trials):
            return True
        return len(trials) < target and not self.search.exhausted()

    def _assignment(self, packing: Packing, recipe: Recipe | None = None) -> Assignment:
        return Assignment.of(
            self.home,
            self.store,
            self.plan.dataset,
            self.plan.fingerprint,
            self.weights,
            recipe=recipe or self.plan.recipe,
            seed=self.plan.seed,
            execution=packing.limited("diffusion", packing.execution.replace(threads=packing.threads)),
        )

    def _shared_stages(self, view: View, packing: Packing) -> None:
        """The autoencoders that the space needs, and the real features."""
        shared = []
        searched = self.plan.space.touching("data", "vae")
        for recipe in self.plan.autoencoders().values():
            keys = self.plan.keys_of(recipe)
            which = leaderboard.described({field: value_of(recipe, field) for field in searched})
            label = f"autoencoder, {which}" if which else "autoencoder"
            shared.append(Shared(label, self._assignment(packing, recipe), keys))
        names = {name for each in shared for name in each.names()}
        self._use(*names, *published_name(self.home, self.plan.fingerprint))
        obtain(shared, self.store, self.folder / "train", packing, view)
        self.record.autoencoders(self.plan.autoencoders())

    def _trials(self, view: View, target: int, packing: Packing) -> None:
        from latentsweep.execution.tuning import StudySearcher, run_trials

        run_trials(
            worker.trial,
            StudySearcher(self.search, target, Watcher(self, view)),
            assignment=self._assignment(packing),
            threads=packing.threads,
            gpu_share=packing.gpu_share,
            concurrent=packing.concurrent,
            folder=self.folder / "ray",
        )

    def _use(self, *names: str | Keys) -> None:
        """Notes which results of the store the sweep refers to."""
        for name in names:
            self.uses.update([name] if isinstance(name, str) else name.names())
        write_json(self.folder / "uses.json", sorted(self.uses))

    def _write_leaderboard(self) -> None:
        table = leaderboard.rows(self.search)
        (self.folder / "leaderboard.csv").write_text(leaderboard.as_csv(table))
        (self.folder / "leaderboard.md").write_text(leaderboard.as_markdown(table))
        self.record.leaderboard(self.folder, leaderboard.importances(self.search))


class Watcher:
    """Tells the view and the record what Tune's searcher and scheduler hear."""

    def __init__(self, sweep: Sweep, view: View) -> None:
        self.sweep, self.view = sweep, view
        objective = OBJECTIVES[sweep.plan.search.objectives[0]]
        self.objective, self.rung = objective, objective.at_rungs if objective.rung else None

    def started(self, number: int, params: Mapping[str, Any]) -> None:
        """A configuration was asked for."""
        self.sweep._use(self.sweep.plan.keys(params))
        self.sweep.record.open_trial(number, params)
        self.view.started(number, params)

    def heard(self, number: int, result: Mapping[str, Any]) -> None:
        """A trial reported."""
        records = result.get("records", [])
        if records:
            self.sweep.record.trial_records(number, records)
            scores = [record[self.rung] for record in records if self.rung in record]
            self.view.heard(number, int(records[-1]["step"]), scores[-1] if scores else None)

    def lost(self, number: int, error: str) -> tuple[str, str]:
        """A trial was lost again and again, at last with Ray's ``error``: the reason, and its log's last lines."""
        key = self.sweep.plan.keys(self.sweep.search.trial(number).params).denoiser
        log = tail(self.sweep.store.log_of(key))
        return said_last(error) or "the worker was lost again and again", log or shortened(error)

    def ended(self, number: int) -> None:
        """A trial ended; the study knows how."""
        trial = self.sweep.search.trial(number)
        self.sweep.record.end_trial(trial)
        best = None
        if trial.state == TrialState.COMPLETE:
            points = [trial.user_attrs["metrics"], *(point["metrics"] for point in trial.user_attrs["points"])]
            how = f"{self.objective.stem} {min(point[self.objective.name] for point in points):.2f}"
            first = self.sweep.search.leader()
            best = f"{first.values[0]:.2f} with {leaderboard.described(first.params)}"
        elif trial.state == TrialState.PRUNED:
            how = f"pruned at step {trial.user_attrs['pruned_at']}"
        else:
            how = f"failed: {trial.user_attrs.get('reason', 'no reason given')}"
        self.view.ended(number, how, best)
