"""What a sweep tells the recorder. All of it derives from the study and the store, so it can be told again."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from latentsweep import stages
from latentsweep.lints import Finding, as_tags, inspection
from latentsweep.metrics import DENOISER_SECONDS, EVALUATION_SECONDS, FINALS, OBJECTIVES
from latentsweep.records.recorder import Record, Recorder
from latentsweep.search.plan import SweepPlan
from latentsweep.search.study import Search
from latentsweep.storage.entries import Entry
from latentsweep.storage.store import Store
from trainables.config import as_scalar
from trainables.recipes import Recipe


class SweepRecord:
    """A parent run for the sweep, a child for each trial and each autoencoder."""

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
        self.recorder.open_run(self.name, name=self.name, kind="sweep", params=params, tags=tags)
        self.recorder.close_stale(self.name, [])

    def autoencoders(self, variants: Mapping[str, Recipe]) -> None:
        """The runs of the shared autoencoders, by the names of their results."""
        closed = self.recorder.closed()
        for name, recipe in variants.items():
            entry, key = self.store.find(name), f"{self.name}/{name}"
            measured = self.store.find(self.plan.keys_of(recipe).reconstruction)
            if entry is None or measured is None or key in closed:
                continue
            searched = {field: value_of(recipe, field) for field in self.search.space.touching("data", "vae")}
            self.recorder.open_run(
                key, name=f"autoencoder {entry.folder.name[:6]}", kind="vae", parent=self.name, params=searched
            )
            self.recorder.log(key, as_records(stages.replayed(entry)))
            self.recorder.log(key, [final_record(measured, recipe.vae.epochs, measured.summary["metrics"])])
            self._files(key, entry, measured)
            self.recorder.close_run(key, "finished", tags=execution_tags(entry))

    def open_trial(self, number: int, params: Mapping[str, Any]) -> None:
        """A trial began, or goes on."""
        trial = self.search.trial(number)
        self.recorder.open_run(
            self.trial_key(number),
            name=f"trial {number}",
            kind="trial",
            parent=self.name,
            params=params,
            tags={
                "latentsweep.trial": str(number),
                "latentsweep.objective": OBJECTIVES[self.search.config.objectives[0]].at_end,
            },
            began=milliseconds(trial.datetime_start),
        )

    def trial_records(self, number: int, records: Sequence[Mapping[str, float]]) -> None:
        """Points of a trial's curves."""
        self.recorder.log(self.trial_key(number), as_records(records))

    def end_trial(self, trial: FrozenTrial) -> None:
        """A trial ended; the study knows how."""
        key, ended = self.trial_key(trial.number), milliseconds(trial.datetime_complete)
        if trial.state == TrialState.COMPLETE:
            self._measurements(key, trial)
            findings = inspection.of_trial(self.store, self.plan, trial.params, trial.user_attrs["metrics"])
            denoiser = self.store.find(self.plan.keys(trial.params).denoiser)
            tags = as_tags(findings) | (execution_tags(denoiser) if denoiser else {})
            self.recorder.close_run(key, "finished", tags=tags, ended=ended)
        elif trial.state == TrialState.PRUNED:
            tags = {"latentsweep.pruned_at": str(trial.user_attrs["pruned_at"])}
            self.recorder.close_run(key, "pruned", tags=tags, ended=ended)
        else:
            attributes = trial.user_attrs
            said = {name: str(attributes[name]) for name in ("reason", "class", "log") if name in attributes}
            tags = {f"latentsweep.{name}": text for name, text in said.items()}
            self.recorder.close_run(key, "failed", tags=tags, ended=ended)

    def missing(self) -> None:
        """Sends every ended trial that the record lacks, and leaves no other run open."""
        closed = self.recorder.closed()
        for trial in self.search.run_trials():
            if trial.state.is_finished() and self.trial_key(trial.number) not in closed:
                self.open_trial(trial.number, trial.params)
                denoiser = self.store.find(self.plan.keys(trial.params).denoiser)
                if denoiser:
                    self.trial_records(trial.number, stages.replayed(denoiser))
                self.end_trial(trial)
        self.recorder.flush()

    def leaderboard(self, folder: Path, importances: Mapping[str, float]) -> None:
        """What the sweep found so far, on its own run."""
        for name in ("leaderboard.md", "leaderboard.csv", "sweep.json"):
            self.recorder.log_file(self.name, folder / name)
        now = int(datetime.datetime.now().timestamp() * 1000)
        finished = self.search.finished()
        metrics = {f"importance/{field}": value for field, value in importances.items()}
        best = self.search.best()
        if best:
            metrics |= finals(best[0].user_attrs["metrics"])
        self.recorder.log(self.name, [Record(finished, now, {"trials": float(finished), **metrics})])

    def report(self, files: Sequence[Path]) -> None:
        """Keeps the report's files with the sweep's run."""
        self.recorder.open_run(self.name, name=self.name, kind="sweep")
        for path in files:
            self.recorder.log_file(self.name, path, "report")
        self.end(finished=all(trial.state.is_finished() for trial in self.search.run_trials()))

    def end(self, *, finished: bool) -> None:
        """The sweep ended, or was stopped; what it left running waits, and says so."""
        self.recorder.close_stale(self.name, [])
        moments = [trial.datetime_complete for trial in self.search.run_trials() if trial.datetime_complete]
        ended = milliseconds(max(moments, default=None))
        self.recorder.close_run(self.name, "finished" if finished else "pruned", ended=ended)
        self.recorder.flush()

    def trial_key(self, number: int) -> str:
        """By which the recorder knows a trial."""
        return f"{self.name}/trial-{number}"

    def _measurements(self, key: str, trial: FrozenTrial) -> None:
        keys = self.plan.keys(trial.params)
        evaluation, denoiser = self.store.find(keys.evaluation), self.store.find(keys.denoiser)
        if evaluation is None or denoiser is None:
            return
        metrics = trial.user_attrs["metrics"]
        costs = {
            DENOISER_SECONDS.name: denoiser.seconds,
            EVALUATION_SECONDS.name: evaluation.seconds,
        }
        step = int(denoiser.manifest["inputs"]["diffusion"]["steps"])
        self.recorder.log(key, [final_record(evaluation, step, {**metrics, **costs})])
        shared = (self.store.find(stage) for stage in (keys.samples, keys.reconstruction, keys.vae))
        self._files(key, evaluation, *(entry for entry in shared if entry))

    def _files(self, key: str, *entries: Entry) -> None:
        for path in pictures(entries):
            self.recorder.log_file(key, path, stages.FIGURES)


def execution_tags(training: Entry) -> dict[str, str]:
    """What a training was computed on and in, and what of the ladder it took where memory was short."""
    taken = {name: value for name, value in training.summary.get("memory", {}).items() if value}
    return {
        f"latentsweep.{name}": str(value) for name, value in (training.summary.get("execution", {}) | taken).items()
    }


def pictures(entries: Iterable[Entry]) -> list[Path]:
    """The figures that these results hold."""
    return [path for entry in entries for path in sorted((entry.folder / stages.FIGURES).glob("*.png"))]


def as_records(records: Sequence[Mapping[str, float]]) -> list[Record]:
    """Records of a training loop as the recorder takes them."""
    return [
        Record(int(r["step"]), int(r["time"]), {k: v for k, v in r.items() if k not in ("step", "time")})
        for r in records
    ]


def final_record(entry: Entry, step: int, metrics: Mapping[str, float]) -> Record:
    """The end result under its own names and, for the columns of the runs' table, under ``final/``."""
    created = datetime.datetime.fromisoformat(entry.manifest["created"])
    return Record(step, int(created.timestamp() * 1000), {**metrics, **finals(metrics)})


def finals(metrics: Mapping[str, float]) -> dict[str, float]:
    """The few scores that the runs' table shows, under ``final/``."""
    return {final: metrics[name] for name, final in FINALS.items() if name in metrics}


def milliseconds(moment: datetime.datetime | None) -> int | None:
    """A moment of the study as milliseconds since the epoch."""
    return None if moment is None else int(moment.timestamp() * 1000)


def value_of(recipe: Recipe, field: str) -> Any:
    """The value of a dotted field, as a search space holds it."""
    section, name = field.split(".")
    return as_scalar(getattr(getattr(recipe, section), name))
