"""What is recorded of a sweep. All of it follows from the study and the store, so it can be recorded again."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from latentsweep import stages
from latentsweep.lints import Finding, as_tags, targets
from latentsweep.metrics import objective_of
from latentsweep.records import descriptions
from latentsweep.records.recorder import WINNER, Record, Recorder, StepRecord
from latentsweep.records.results import (
    as_records,
    execution_tags,
    final_record,
    finals,
    guard_tags,
    log_pictures,
    log_samples,
    log_scores,
    milliseconds,
    rounded,
    span,
    value_of,
)
from latentsweep.search.confirmation import choice, confirmation, metric_of
from latentsweep.search.plan import SweepPlan
from latentsweep.search.study import Search
from latentsweep.search.trials import COPIED, run_key
from latentsweep.stages.guards import TAG
from latentsweep.stages.table import DENOISER, EVALUATION, RECONSTRUCTION, VAE
from latentsweep.storage.entries import Entry
from latentsweep.storage.store import Store
from trainables.recipes import Recipe


class SweepRecord:
    """A parent run for the sweep, a child for each configuration and each autoencoder.

    A trial is the configuration that was trained; each other early-stop threshold of its pass can win as well, so it
    is a configuration with a run of its own.
    """

    def __init__(self, recorder: Recorder, plan: SweepPlan, store: Store, search: Search) -> None:
        self.recorder, self.plan, self.store, self.search = recorder, plan, store, search
        self.name = plan.name

    def begin(self, findings: Sequence[Finding]) -> None:
        """Opens the sweep's run, with what the lints found before it, and closes what a crash left open."""
        plan = self.plan.to_plain()
        search = plan["search"]
        params = {
            "dataset": plan["dataset"],
            "objective": ", ".join(search["objectives"]),
            "sampler": search["sampler"],
            "pruner": search["pruner"],
            "seed": plan["seed"],
            **{f"space.{field}": str(values) for field, values in plan["space"]["dimensions"].items()},
        }
        tags = {
            "latentsweep.dataset": plan["dataset"],
            "latentsweep.fingerprint": plan["fingerprint"],
            **as_tags(findings),
        }
        moments = [trial.datetime_start for trial in _begun(self.search) if trial.datetime_start]
        began = milliseconds(min(moments, default=None))
        self.recorder.open_run(self.name, name=self.name, kind="sweep", params=params, tags=tags, began=began)
        self.recorder.log_dataset(self.name, self.plan.dataset, self.plan.fingerprint)
        self._rank()
        self.recorder.close_stale(self.name)

    def autoencoders(self, variants: Mapping[str, Recipe]) -> None:
        """Records each shared autoencoder as a run; ``variants`` are by the names of their results."""
        finished = self.recorder.finished()  # one that a full disk left half written is begun again
        for name, recipe in variants.items():
            entry, key = self.store.find(name), f"{self.name}/{name}"
            measured = self._reconstructions(name, recipe)
            if entry is None or measured is None or key in finished:
                continue
            searched = {field: value_of(recipe, field) for field in self.search.space.touching("data", "vae")}
            began, ended = span([entry, measured])
            self.recorder.open_run(
                key,
                name=f"autoencoder {entry.folder.name[:6]} {self.name}",
                kind="vae",
                parent=self.name,
                params=searched,
                began=began,
            )
            self._used_dataset(key)
            log_pictures(self.recorder, key, [entry, measured])
            final = final_record(measured, recipe.vae.epochs, measured.summary["metrics"])
            self.recorder.close_run(
                key,
                "finished",
                records=[*as_records(stages.records_of(entry)), final],
                text=descriptions.describe_autoencoder(self.name, searched),
                tags=execution_tags(entry),
                ended=ended,
            )

    def _reconstructions(self, vae: str, recipe: Recipe) -> Entry | None:
        """What an autoencoder was measured by: under today's key, or that under which a trial's results have it."""
        results = [self.plan.results(self.search, trial) for trial in self.search.run_trials()]
        names = [self.plan.keys_of(recipe).reconstruction.name]
        names += [each[RECONSTRUCTION.name] for each in results if each[VAE.name] == vae]
        return next((entry for entry in map(self.store.find, names) if entry), None)

    def open_trial(self, trial: FrozenTrial) -> None:
        """Opens the run of a trial that begins or goes on; that of a pruned one that it goes on with says so."""
        self._open(trial, "trial", trial, {})
        if pruned := self.search.pruned_before(trial):
            self.recorder.describe(
                self.trial_key(pruned.number), self._description(pruned), self._pruned_tags(pruned)
            )

    def _open(
        self, trial: FrozenTrial, kind: str, family: FrozenTrial, tags: Mapping[str, str], *, brief: bool = False
    ) -> None:
        """Opens the run of a configuration, which begins with the trial of its ``family``."""
        key = self.trial_key(trial.number)
        self.recorder.open_run(
            key,
            name=descriptions.name_of(self.name, trial.number),
            kind=kind,
            parent=self.name,
            params=trial.params,
            tags={
                "latentsweep.trial": str(trial.number),
                "latentsweep.sweep": self.name,
                "latentsweep.objective": objective_of(self.search.config.objectives[0]).at_end,
                **tags,
            },
            began=milliseconds(family.datetime_start),
            brief=brief,
        )
        self._used_dataset(key)

    def _used_dataset(self, key: str) -> None:
        self.recorder.log_dataset(key, self.plan.dataset, self.plan.fingerprint)

    def trial_records(self, number: int, records: Sequence[Mapping[str, float]]) -> None:
        """Adds points to a trial's curves."""
        self.recorder.log(self.trial_key(number), as_records(records))

    def end_trial(self, trial: FrozenTrial) -> None:
        """Closes the run of a trial as the study says that it ended, and records its points."""
        key, ended = self.trial_key(trial.number), milliseconds(trial.datetime_complete)
        text = self._description(trial)
        if trial.state == TrialState.COMPLETE:
            metrics, recipe = trial.user_attrs["metrics"], self.plan.recipe_of(trial.params)
            keys = self.plan.results(self.search, trial)
            log_scores(self.recorder, key, self.store, keys, recipe, self._with_ends(metrics))
            findings = targets.lint_run(self.store, recipe, keys, metrics)
            denoiser = self.store.find(keys[DENOISER.name])
            tags = as_tags(findings) | (execution_tags(denoiser) if denoiser else {}) | guard_tags(metrics)
            self.recorder.close_run(key, "finished", text=text, tags=tags, ended=ended)
        elif trial.state == TrialState.PRUNED:
            self.recorder.close_run(key, "pruned", text=text, tags=self._pruned_tags(trial), ended=ended)
        else:
            attributes = trial.user_attrs
            said = {name: str(attributes[name]) for name in ("reason", "class", "log") if name in attributes}
            tags = {f"latentsweep.{name}": words for name, words in said.items()}
            self.recorder.close_run(key, "failed", text=text, tags=tags, ended=ended)
        self._points(self.search.points_of(trial.number), trial)

    def _pruned_tags(self, trial: FrozenTrial) -> dict[str, str]:
        """What the run of a pruned trial says of its end, and of the trial that goes on with it."""
        at, later = str(trial.user_attrs["pruned_at"]), self.search.thawed().get(trial.number)
        said = f"at step {at}" + (f", and continued as #{later}" if later else "")
        copied = {TAG: trial.user_attrs[COPIED]} if COPIED in trial.user_attrs else {}
        return {"latentsweep.pruned_at": at, "pruned": said, **copied}

    def _points(self, points: Sequence[FrozenTrial], trial: FrozenTrial) -> None:
        """Records other thresholds of a trial's pass."""
        if points:
            evaluation = self.store.find(self.plan.results(self.search, trial)[EVALUATION.name])
            for point in points:
                self._point(point, trial, evaluation)

    def _point(self, point: FrozenTrial, trial: FrozenTrial, evaluation: Entry | None) -> None:
        """Records another threshold of a trial's pass, with its scores and its own images."""
        key, metrics = self.trial_key(point.number), point.user_attrs["metrics"]
        recipe, ended = self.plan.recipe_of(point.params), milliseconds(trial.datetime_complete) or 0
        self._open(point, "point", trial, {"latentsweep.of": str(trial.number)}, brief=True)
        ends = {**self._with_ends(metrics), **finals(metrics)}
        if evaluation:
            log_samples(self.recorder, key, evaluation, recipe)
        self.recorder.close_run(
            key,
            "finished",
            records=[StepRecord(recipe.diffusion.steps, ended, ends)],
            text=self._description(point),
            tags=guard_tags(metrics),
            ended=ended,
        )

    def _with_ends(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Measurements; those by plug-ins that are objectives also as end results, by which the runs' table ranks."""
        found = [objective_of(name) for name in self.search.config.plugins]
        return {**metrics, **{each.at_end: rounded(metrics[each.name]) for each in found if each.name in metrics}}

    def _description(self, trial: FrozenTrial) -> str:
        return descriptions.describe_configuration(self.plan, self.search, trial)

    def missing(self) -> None:
        """Sends every configuration that ended and that the record lacks, and leaves no other run open."""
        closed = self.recorder.closed()
        for trial in _begun(self.search):
            if trial.state.is_finished() and self.trial_key(trial.number) not in closed:
                self.open_trial(trial)
                denoiser = self.store.find(self.plan.keys(trial.params).denoiser)
                if denoiser:
                    last = trial.user_attrs.get("pruned_at", math.inf)  # what came later is another trial's
                    kept = [record for record in stages.records_of(denoiser) if record["step"] <= last]
                    self.trial_records(trial.number, kept)
                self.end_trial(trial)
                continue
            points = self.search.points_of(trial.number)
            self._points([point for point in points if self.trial_key(point.number) not in closed], trial)
        self.recorder.flush()

    def leaderboard(self, folder: Path, importances: Mapping[str, float]) -> None:
        """Records on the sweep's run what it found so far."""
        for name in ("leaderboard.md", "leaderboard.csv", "confirmed.csv", "sweep.json"):
            if (folder / name).exists():
                self.recorder.log_file(self.name, folder / name)
        now = int(datetime.datetime.now().timestamp() * 1000)
        finished = self.search.finished()
        metrics = {f"importance/{field}": rounded(value) for field, value in importances.items()}
        best = choice(self.search)
        if best:
            metrics |= finals(best[0].user_attrs["metrics"])
        metrics |= self._confirmed()
        winners = {self.trial_key(trial.number): descriptions.winning_words(self.search) for trial in best}
        self.recorder.mark(self.name, WINNER, winners)
        self._rank()
        self.recorder.describe(self.name, descriptions.describe_sweep(self.plan, self.search))
        self.recorder.log(self.name, [StepRecord(finished, now, {"trials": float(finished), **metrics})])

    def _rank(self) -> None:
        """Says what the table of the runs is sorted by, and what it shows: winners, and refusals where there are."""
        refused = any(self.search.refusal(trial) for trial in self.search.measured())
        self.recorder.rank(
            self.name,
            params=list(self.search.space.dimensions),
            metrics=descriptions.columns(self.search.config.objectives),
            tags=[WINNER, *([TAG] if refused else [])],
        )

    def _confirmed(self) -> dict[str, float]:
        """The confirmed best: its trial, its mean score, and what a further seed can be expected to give."""
        found = confirmation(self.search)
        if found is None or found.best is None:
            return {}
        name = metric_of(self.search).objective
        scores = {f"confirmed/{name}": found.mean(found.best), f"confirmed/{name}_expected": found.expected}
        said = {metric: rounded(score) for metric, score in scores.items() if score is not None}
        return {"confirmed/trial": float(found.best.trial), **said}

    def end(self, *, finished: bool) -> None:
        """Closes the sweep's run, and those that it left running."""
        self.recorder.close_stale(self.name)
        moments = [trial.datetime_complete for trial in self.search.run_trials() if trial.datetime_complete]
        ended = milliseconds(max(moments, default=None))
        self.recorder.close_run(self.name, "finished" if finished else "stopped", ended=ended)
        self.recorder.flush()

    def trial_key(self, number: int) -> str:
        """The key of a trial's run."""
        return run_key(self.name, number)


def keep_report(record: Record, plan: SweepPlan, search: Search, files: Sequence[Path]) -> None:
    """Keeps the report's files with the sweep's run, which may be running in another process, and stays so."""
    for path in files:
        record.keep_file(plan.name, path, descriptions.REPORT)
    kept = {descriptions.REPORTED: f"{descriptions.REPORT}/{files[0].name}"}
    record.describe(plan.name, descriptions.describe_sweep(plan, search), kept)
    record.flush()


def is_recorded(record: Record, plan: SweepPlan, search: Search) -> bool:
    """Whether a sweep that has ended is recorded as that, with each of its configurations and autoencoders."""
    trials = _begun(search)
    of_trials = {
        run_key(plan.name, each.number) for trial in trials for each in (trial, *search.points_of(trial.number))
    }
    autoencoders = {f"{plan.name}/{plan.results(search, trial)[VAE.name]}" for trial in trials}
    return {plan.name, *autoencoders} <= record.finished() and of_trials <= record.closed()


def _begun(search: Search) -> list[FrozenTrial]:
    """The trials that have a run each: the run trials, and the pruned ones that some of these go on with."""
    return [*map(search.trial, search.thawed()), *search.run_trials()]
