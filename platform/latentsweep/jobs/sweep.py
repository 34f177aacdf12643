"""A sweep: trials, and what they share when they ask for it, until so many have ended; its best with fresh seeds.

Run again, it goes on.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable

from optuna.trial import TrialState

from latentsweep.execution import worker
from latentsweep.execution.packing import Packing
from latentsweep.execution.supervision import hold_signals, ignore_signals
from latentsweep.execution.view import View
from latentsweep.jobs.deadline import Deadline
from latentsweep.jobs.forecast import schedule_lines
from latentsweep.jobs.job import Job, Runtime
from latentsweep.jobs.measuring import Failure, measure
from latentsweep.jobs.sweep_listener import SweepListener
from latentsweep.lints import as_text, targets
from latentsweep.pages.numbers import number
from latentsweep.pages.tables import records_as_csv
from latentsweep.pages.templates import write_texts
from latentsweep.records.recorder import Recorder
from latentsweep.records.sweep import SweepRecord
from latentsweep.search import confirmation, confirmation_table, leaderboard
from latentsweep.search.clock import spent_seconds
from latentsweep.search.confirmation import NOTHING, Extent, FreshRun, Wanted
from latentsweep.search.databases import translate_errors
from latentsweep.search.plan import SweepPlan
from latentsweep.search.priced import Prices
from latentsweep.search.study import Search
from latentsweep.search.sweeps import TURN, close, next_turn
from latentsweep.search.trials import untouched
from latentsweep.search.warm_start import first_configurations
from latentsweep.stages import guards
from latentsweep.stages.pipeline import scores_of
from latentsweep.storage.home import Home
from trainables.errors import INFRASTRUCTURE, DiskError, DivergenceError, StoppedError, UnfinishedError
from trainables.measures.weights import InceptionWeights

SECTIONS = ("vae", "diffusion")
"""The sections of a recipe whose trainings take a part of a card each."""

log = logging.getLogger(__name__)


class Sweep(Job):
    """A sweep in its folder: the Optuna study, ``sweep.json``, the leaderboard."""

    noun = "sweep"

    def __init__(self, home: Home, plan: SweepPlan, weights: InceptionWeights, recorder: Recorder) -> None:
        super().__init__(home, home.sweeps / plan.name, plan.dataset, plan.fingerprint, weights)
        self.plan = plan
        self.search = Search(self.folder, plan.space, plan.search, plan.seed, home.study)
        self.search.apart = plan.apart(self.search)
        self.search.prices = Prices(plan.recipe.diffusion.steps, self._price)
        self.record = SweepRecord(recorder, plan, self.store, self.search)
        self.extent = NOTHING
        """What is confirmed."""
        self.deadline: Deadline | None = None
        """Where the sweep was given hours."""
        self.undecided = ""
        """The last run with a fresh seed whose failure says nothing of its configuration, with the reason."""
        self.given_up = ""
        """Why no more trials are asked for, though more are planned."""

    def run(self, target: int, runtime: Runtime, extent: Extent = NOTHING, began: float | None = None) -> None:
        """Runs until ``target`` trials have ended or every configuration was tried, then confirms the best.

        Of a sweep that was given hours, ``target`` and ``extent`` are what is planned, and its deadline decides; its
        driver began at ``began`` of ``time.monotonic()``. Where an earlier version measured the trials, nothing is
        confirmed. Raises :class:`~trainables.errors.ConfigError` where new trials would follow such ones,
        :class:`StoppedError` after Ctrl-C, :class:`DiskError` where a disk is full, :class:`UnfinishedError` where a
        training to confirm by has failed, or what trials share and no trial can begin without, and what
        :meth:`Job.locked` and :meth:`Runtime.ray` raise.
        """
        with self.locked(self.home.study), translate_errors(self.home.study):
            runtime = self.keep_threads(runtime, "sweep.json", {**self.plan.to_plain(), TURN: next_turn(self.home)})
            self.search.requeue()
            self.deadline = self._deadline(runtime, began)
            if self._unfinished(target):
                self.plan.check_outdated(self.search, self.home)
            self.extent = self._comparable(self.deadline.begun if self.deadline else extent, runtime)
            self.use(name for trial in self.search.run_trials() for name in self.plan.keys(trial.params).names())
            self.use(name for run in confirmation.runs_on_record(self.plan, self.search) for name in run.keys.names())
            self._begin_with_earlier(target, runtime)
            findings = targets.lint_plan(self.home, self.plan)
            if findings:
                runtime.console.print(
                    as_text(findings), highlight=False, markup=False, soft_wrap=not runtime.console.is_terminal
                )
            reached, asked = self.plan.reachable(target), True
            with contextlib.ExitStack() as ending, contextlib.suppress(KeyboardInterrupt):
                with hold_signals():  # nothing comes between the run that opens and what closes it
                    self.record.begin(findings)
                    ending.push(_ending(lambda: self._close(target)))
                seconds_left = None if self.deadline is None else self.deadline.seconds_left
                view = View(runtime.console, self.plan.name, reached, self.plan.recipe.diffusion.steps, seconds_left)
                view.finished = self.search.finished()
                undecided = self.deadline is not None and self.deadline.undecided
                if self._unfinished(target) or self._begin_confirmation() or undecided:
                    if self.deadline:
                        ending.push(_ending(self.deadline.note))
                    with view, runtime.ray():
                        if self._unfinished(target):
                            self._trials(view, target, runtime.packing)
                        if not self._unfinished(target):
                            self._confirm(view, runtime.packing)
                asked = False
            self.check_dataset()
            left = self._wanted().missing
            if self._unfinished(target):
                ended = f"{self.search.finished()} of {reached} trials ended"
                if self.given_up:
                    raise UnfinishedError(
                        f"the sweep asks for no more trials, with {ended}: {self.given_up}; "
                        "nothing is lost, and the same command tries again"
                    )
                # Tune takes Ctrl-C for itself.
                raise StoppedError(
                    f"the sweep was stopped with {ended}; nothing is lost, and the same command goes on"
                )
            if left:
                last = f" (the last failure was {self.undecided})" if self.undecided else ""
                raise (StoppedError if asked else UnfinishedError)(
                    f"the sweep was stopped with {number(len(left), 'training')} of its best to confirm{last}; "
                    "nothing is lost, and the same command goes on"
                )

    def _close(self, target: int) -> None:
        """Puts the study and the record in order at the end, however it came."""
        with ignore_signals():
            try:
                self.search.requeue()
                self.record.autoencoders(self.plan.autoencoders())
                self.record.missing()
                self._write_leaderboard()
                close(self.folder)
            finally:
                self.record.end(finished=not (self._unfinished(target) or self._wanted().missing))

    def _comparable(self, extent: Extent, runtime: Runtime) -> Extent:
        """``extent``; nothing, and a line that says so, where an earlier version measured the trials."""
        if not confirmation.wanted(self.search, self.plan, extent).missing or not self.plan.outdated(self.search):
            return extent
        runtime.console.print(
            "note: the best are not confirmed, since an earlier version measured this sweep's trials, and scores of "
            "today don't compare with theirs",
            highlight=False,
            soft_wrap=True,
        )
        return NOTHING

    def _deadline(self, runtime: Runtime, began: float | None) -> Deadline | None:
        """The deadline of a sweep that was given hours, whose schedule it prints; None for another."""
        if self.plan.schedule is None:
            return None
        table = "\n".join(schedule_lines(self.plan.schedule, spent_seconds(self.folder)))
        runtime.console.print(table, highlight=False, markup=False, soft_wrap=True)
        slots, began = runtime.packing.concurrent, time.monotonic() if began is None else began
        return Deadline(self.plan, self.plan.schedule, self.search, self.store, self.folder, slots, began)

    def waiting(self) -> bool:
        """Whether a trial waits that was interrupted."""
        trials = self.search.run_trials()
        return any(trial.state == TrialState.WAITING and not untouched(trial) for trial in trials)

    def _unfinished(self, target: int) -> bool:
        if self.deadline is None:
            return self.search.lacks(target)
        trials = self.search.run_trials()
        going = any(not trial.state.is_finished() and not untouched(trial) for trial in trials)
        return going or self.deadline.another()

    def _trials(self, view: View, target: int, packing: Packing) -> None:
        from latentsweep.execution.tuning import StudySearcher, run_trials

        listener, wide = SweepListener(self, view), packing.vae_share > packing.gpu_share
        briefs = {each: self.brief(packing, self.plan.recipe, self.plan.seed, section=each) for each in SECTIONS}
        going = True
        while going:
            before = self._ended()
            searcher = StudySearcher(self.search, math.inf if self.deadline else target, listener, wide=wide)
            try:
                run_trials(
                    worker.run,
                    searcher,
                    briefs=briefs,
                    threads=packing.threads,
                    gpu_share=packing.gpu_share,
                    vae_share=packing.vae_share,
                    concurrent=packing.concurrent,
                    folder=self.folder / "ray",
                )
            except Exception:
                if not searcher.no_disk:  # then the study can't be written either
                    raise
            if searcher.no_disk:
                done = number(self.search.finished(), "ended trial")
                raise DiskError(f"the sweep was stopped with {done}: {searcher.no_disk}")
            # Once the last trials have ended, there may be time for more than there seemed to be. After Ctrl-C, which
            # Tune takes for itself, some haven't.
            ended = all(trial.state.is_finished() for trial in self.search.run_trials())
            self.given_up = searcher.given_up if ended else ""
            more = ended and not self.given_up and self._ended() > before
            going = self.deadline is not None and more and self._unfinished(target)

    def _ended(self) -> int:
        """How many trials have ended; one that was pruned and continued counts twice."""
        return self.search.finished() + len(self.search.thawed())

    def _begin_with_earlier(self, target: int, runtime: Runtime) -> None:
        """Lets the best of the home's earlier sweeps wait as the first trials, and says so."""
        found, note = self.search.begin_with(lambda: first_configurations(self.home, self.plan, target)), ""
        if found:
            taken = ", ".join(found)
            note = f"note: the first trials are the best of earlier sweeps, {taken}; --warm-start 0 tries none"
        elif found is None and not self.plan.search.warm_start and self.search.warm_start:
            note = (
                "note: this sweep began with the best of earlier ones; another --seed and --warm-start 0 begin anew"
            )
        if note:
            runtime.console.print(note, highlight=False, markup=False, soft_wrap=not runtime.console.is_terminal)

    def _price(self) -> float:
        """What an autoencoder costs, in denoisers of the recipe's steps.

        By the last trial whose two trainings the store has; 1 where there is none.
        """
        for trial in reversed(self.search.run_trials()):
            keys = self.plan.keys(trial.params) if "keys" in trial.user_attrs else None
            found = [self.store.find(key) for key in (keys.vae, keys.denoiser)] if keys else []
            seconds = [entry.seconds for entry in found if entry and entry.seconds]
            if len(seconds) == 2:
                return seconds[0] / seconds[1] * self.search.prices.denoiser(trial.params)
        return 1.0

    def _wanted(self) -> Wanted:
        return confirmation.wanted(self.search, self.plan, self.extent)

    def _begin_confirmation(self) -> list[FreshRun]:
        """Notes what is to be confirmed, and the scores that the store has; returns the runs that it lacks.

        Where all of it has ended, it is noted only in place of something that hasn't.
        """
        wanted = self._wanted()
        if wanted.missing or (wanted.finalists and not confirmation.confirmation(self.search)):
            confirmation.begin(self.search, wanted.finalists, wanted.seeds)
            self.use(name for run in wanted.missing for name in run.keys.names())
        lacking = [run for run in wanted.missing if scores_of(self.store, run.keys, run.recipe) is None]
        for run in wanted.missing:
            if run not in lacking:
                self._note_end(run, None)
        return lacking

    def _confirm(self, view: View, packing: Packing) -> None:
        """Trains and measures the best with fresh seeds; with more of them while a deadline leaves time for that."""
        going = True
        while going:
            if self.deadline:
                self.extent = self.deadline.next_extent()
            lacking = self._begin_confirmation()
            done = len(self._wanted().finalists) * self.extent.seeds - len(lacking)
            measure(self, lacking, packing, view, self._note_end, before=done)
            going = self.deadline is not None and bool(lacking) and not self._wanted().missing

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
        if self.deadline:
            self.deadline.note()
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


def _ending(close: Callable[[], object]) -> Callable[..., None]:
    """``close`` as the end of a ``with``. After a full disk, what it can't write is no news: the first line stays."""

    def end(kind: object, error: BaseException | None, *_: object) -> None:
        try:
            close()
        except Exception:
            if not isinstance(error, DiskError):
                raise
            log.debug("nothing could be written on the full disk", exc_info=True)

    return end
