"""A sweep: the shared stages, trials until the wanted number has ended, then its best with fresh seeds.

Run again, it goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from optuna.trial import TrialState

from latentsweep import guards
from latentsweep.execution import worker
from latentsweep.execution.packing import Packing
from latentsweep.execution.shared_stages import Shared
from latentsweep.execution.supervision import hold_signals, ignore_signals
from latentsweep.execution.view import View
from latentsweep.execution.work_log import last_line, shorten, tail
from latentsweep.jobs.job import Job, Runtime
from latentsweep.jobs.measuring import Failure, measure
from latentsweep.lints import as_text, targets
from latentsweep.metrics import OBJECTIVES
from latentsweep.pages.numbers import number
from latentsweep.pages.tables import records_as_csv
from latentsweep.pages.templates import write_texts
from latentsweep.records.recorder import Recorder
from latentsweep.records.results import value_of
from latentsweep.records.sweep import SweepRecord
from latentsweep.search import confirmation, confirmation_table, leaderboard
from latentsweep.search.confirmation import NOTHING, Extent, FreshRun, Wanted
from latentsweep.search.databases import translate_errors
from latentsweep.search.plan import SweepPlan
from latentsweep.search.study import Search
from latentsweep.search.sweeps import TURN, next_turn
from latentsweep.search.trials import COPIED
from latentsweep.stages.pipeline import scores_of
from latentsweep.storage.home import Home
from trainables.errors import INFRASTRUCTURE, ChangedDataError, DivergenceError, StoppedError, UnfinishedError
from trainables.measures.inception import InceptionWeights


class Sweep(Job):
    """A sweep in its folder: the Optuna study, ``sweep.json``, the leaderboard."""

    noun = "sweep"

    def __init__(self, home: Home, plan: SweepPlan, weights: InceptionWeights, recorder: Recorder) -> None:
        super().__init__(home, home.sweeps / plan.name, plan.dataset, plan.fingerprint, weights)
        self.plan = plan
        self.search = Search(self.folder, plan.space, plan.search, plan.seed, home.study)
        self.search.apart = plan.apart(self.search)
        self.record = SweepRecord(recorder, plan, self.store, self.search)
        self.undecided = ""
        """The last run with a fresh seed whose failure says nothing of its configuration, with the reason."""

    def run(self, target: int, runtime: Runtime, extent: Extent = NOTHING) -> None:
        """Runs until ``target`` trials have ended or every configuration was tried, then confirms the best.

        Where an earlier version measured the trials, nothing is confirmed. Raises
        :class:`~trainables.errors.ConfigError` where new trials would follow such ones, :class:`StoppedError` after
        Ctrl-C, :class:`UnfinishedError` where a training to confirm by has failed, and what :meth:`Job.locked` and
        :meth:`Runtime.ray` raise.
        """
        with self.locked(self.home.study), translate_errors(self.home.study):
            runtime = self.keep_threads(runtime, "sweep.json", {**self.plan.to_plain(), TURN: next_turn(self.home)})
            self.search.requeue()
            if self._unfinished(target):
                self.plan.check_outdated(self.search, self.home)
            extent = self._comparable(extent, runtime)
            self.use(name for trial in self.search.run_trials() for name in self.plan.keys(trial.params).names())
            self.use(name for run in confirmation.runs_on_record(self.plan, self.search) for name in run.keys.names())
            findings = targets.lint_plan(self.home, self.plan)
            if findings:
                runtime.console.print(
                    as_text(findings), highlight=False, markup=False, soft_wrap=not runtime.console.is_terminal
                )
            reached, asked = self.plan.reachable(target), True
            with contextlib.ExitStack() as ending, contextlib.suppress(KeyboardInterrupt):
                with hold_signals():  # nothing comes between the run that opens and what closes it
                    self.record.begin(findings)
                    ending.callback(self._close, target, extent)
                view = View(runtime.console, self.plan.name, reached, self.plan.recipe.diffusion.steps)
                view.finished = self.search.finished()
                if self._unfinished(target) or self._begin_confirmation(extent):
                    with view, runtime.ray():
                        if self._unfinished(target):
                            self._shared_stages(view, runtime.packing)
                            self._trials(view, target, runtime.packing)
                        if not self._unfinished(target):
                            self._confirm(extent, view, runtime.packing)
                asked = False
            self.check_dataset()
            left = self._wanted(extent).missing
            if self._unfinished(target):  # Tune takes Ctrl-C for itself, and nothing else leaves trials behind
                raise StoppedError(
                    f"the sweep was stopped with {self.search.finished()} of {reached} trials ended; "
                    "nothing is lost, and the same command goes on"
                )
            if left:
                last = f" (the last failure was {self.undecided})" if self.undecided else ""
                raise (StoppedError if asked else UnfinishedError)(
                    f"the sweep was stopped with {number(len(left), 'training')} of its best to confirm{last}; "
                    "nothing is lost, and the same command goes on"
                )

    def _close(self, target: int, extent: Extent) -> None:
        """Puts the study and the record in order at the end, however it came."""
        with ignore_signals():
            self.search.requeue()
            try:
                self.record.autoencoders(self.plan.autoencoders())
                self.record.missing()
                self._write_leaderboard()
            finally:
                self.record.end(finished=not (self._unfinished(target) or self._wanted(extent).missing))

    def _comparable(self, extent: Extent, runtime: Runtime) -> Extent:
        """``extent``; nothing, and a line that says so, where an earlier version measured the trials."""
        if not self._wanted(extent).missing or not self.plan.outdated(self.search):
            return extent
        runtime.console.print(
            "note: the best are not confirmed, since an earlier version measured this sweep's trials, and scores of "
            "today don't compare with theirs",
            highlight=False,
            soft_wrap=True,
        )
        return NOTHING

    def _unfinished(self, target: int) -> bool:
        trials = self.search.run_trials()
        if any(not trial.state.is_finished() for trial in trials):
            return True
        return len(trials) < target and not self.search.exhausted()

    def _shared_stages(self, view: View, packing: Packing) -> None:
        """The autoencoders that the space needs, and the real features."""
        shared = []
        searched = self.plan.space.touching("data", "vae")
        for recipe in self.plan.autoencoders().values():
            which = leaderboard.described({field: value_of(recipe, field) for field in searched})
            label = f"autoencoder, {which}" if which else "autoencoder"
            brief = self.brief(packing, recipe, self.plan.seed)
            shared.append(Shared(label, brief, self.plan.keys_of(recipe)))
        self.use(name for each in shared for name in each.names())
        self.obtain(shared, packing, view)
        self.record.autoencoders(self.plan.autoencoders())

    def _trials(self, view: View, target: int, packing: Packing) -> None:
        from latentsweep.execution.tuning import StudySearcher, run_trials

        run_trials(
            worker.trial,
            StudySearcher(self.search, target, SweepListener(self, view)),
            brief=self.brief(packing, self.plan.recipe, self.plan.seed),
            threads=packing.threads,
            gpu_share=packing.gpu_share,
            concurrent=packing.concurrent,
            folder=self.folder / "ray",
        )

    def _wanted(self, extent: Extent) -> Wanted:
        return confirmation.wanted(self.search, self.plan, extent)

    def _begin_confirmation(self, extent: Extent) -> list[FreshRun]:
        """Notes what is to be confirmed, and the scores that the store has; returns the runs that it lacks.

        Where all of it has ended, it is noted only in place of something that hasn't.
        """
        wanted = self._wanted(extent)
        if wanted.missing or (wanted.finalists and not confirmation.confirmation(self.search)):
            confirmation.begin(self.search, wanted.finalists, wanted.seeds)
            self.use(name for run in wanted.missing for name in run.keys.names())
        lacking = [run for run in wanted.missing if scores_of(self.store, run.keys, run.recipe) is None]
        for run in wanted.missing:
            if run not in lacking:
                self._note_end(run, None)
        return lacking

    def _confirm(self, extent: Extent, view: View, packing: Packing) -> None:
        """Trains and measures the best with fresh seeds."""
        lacking = self._begin_confirmation(extent)
        done = len(self._wanted(extent).finalists) * extent.seeds - len(lacking)
        measure(self, lacking, packing, view, self._note_end, before=done)

    def _note_end(self, run: FreshRun, failure: Failure | None) -> str:
        """Notes in the study how a run with a fresh seed ended; returns it in words.

        Only a divergence, a score that isn't finite and what the guards refuse are a configuration's own failures.
        After another, such as too little memory or a result that isn't there, the run stays missing.
        """
        metric, score, said = confirmation.metric_of(self.search), None, ""
        if not failure:
            measured = scores_of(self.store, run.keys, run.recipe)
            metrics = measured or {}
            score, refused, said = metrics.get(metric.name), self.search.refused(metrics), guards.refusal(metrics)
            if measured is None:
                failure = {"reason": "its measurement is not in the store", "class": INFRASTRUCTURE}
            elif score is None:
                failure = {"reason": f"no finite {metric.objective} was measured", "class": DivergenceError.kind}
            elif refused:
                failure = {"reason": refused, "class": guards.REFUSED}
        if failure and failure["class"] not in (DivergenceError.kind, guards.REFUSED):
            self.undecided = f"{run.name}: {failure['reason']}"
            return f"failed: {failure['reason']}; it is tried again when the sweep goes on"
        confirmation.note(self.search, run, score, failure)
        if failure:
            return f"failed: {failure['reason']}"
        return f"done, {metric.label} {metric.format(score)}" + (f", {said}" if said else "")

    def _write_leaderboard(self) -> None:
        table = leaderboard.rows(self.search)
        again, said = leaderboard.confirmed_rows(self.search), "\n".join(confirmation_table.words(self.search))
        shown = confirmation_table.rounded(again, confirmation.metric_of(self.search))
        apart = leaderboard.apart(self.search)
        below = f"\n{apart[0].upper()}{apart[1:]}.\n" if apart else ""
        below += f"\nConfirmed:\n\n{leaderboard.as_markdown(shown)}\n{said}\n" if again else ""
        texts = {"leaderboard.csv": records_as_csv(table), "leaderboard.md": leaderboard.as_markdown(table) + below}
        write_texts(self.folder, texts | ({"confirmed.csv": records_as_csv(again)} if again else {}))
        self.record.leaderboard(self.folder, leaderboard.importances(self.search))


class SweepListener:
    """Tells the view and the record what happens to the trials of a sweep."""

    def __init__(self, sweep: Sweep, view: View) -> None:
        self.sweep, self.view = sweep, view
        objective = OBJECTIVES[sweep.plan.search.objectives[0]]
        self.objective, self.rung = objective, objective.at_rungs if objective.rung else None

    def wanted(self) -> bool:
        """Whether the dataset is still the sweep's: with another, every trial would be lost."""
        try:
            self.sweep.check_dataset()
        except ChangedDataError:
            return False
        return True

    def started(self, number: int, params: Mapping[str, Any]) -> None:
        """A configuration was asked for."""
        self.sweep.use(self.sweep.plan.keys(params).names())
        self.sweep.record.open_trial(number, params)
        self.view.started(number, params)

    def heard(self, number: int, result: Mapping[str, Any]) -> None:
        """A trial reported."""
        records = result.get("records", [])
        if records:
            self.sweep.record.trial_records(number, records)
            scores = [record[self.rung] for record in records if self.rung in record]
            copies = [said for said in map(guards.rung_words, records) if said]
            self.view.heard(number, int(records[-1]["step"]), scores[-1] if scores else None, "".join(copies[-1:]))

    def lost(self, number: int, error: str) -> tuple[str, str]:
        """A trial was lost again and again, at last with Ray's ``error``: the reason, and its log's last lines."""
        key = self.sweep.plan.keys(self.sweep.search.trial(number).params).denoiser
        log = tail(self.sweep.store.log_of(key))
        return last_line(error) or "the worker was lost again and again", log or shorten(error)

    def ended(self, number: int) -> None:
        """A trial ended; the study knows how."""
        trial = self.sweep.search.trial(number)
        self.sweep.record.end_trial(trial)
        best = None
        if trial.state == TrialState.COMPLETE:
            points = [trial.user_attrs["metrics"], *(point["metrics"] for point in trial.user_attrs["points"])]
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
