"""What is recorded of a study: a parent run, and a child for each arm and seed."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

from latentsweep import stages
from latentsweep.ablation.design.arms import slug
from latentsweep.ablation.design.plan import AblationPlan, ArmRun
from latentsweep.ablation.statistics.effect import Effect
from latentsweep.lints import as_tags, targets
from latentsweep.metrics import AUTOENCODER_SECONDS, KID
from latentsweep.pages.repetition import differences
from latentsweep.records import descriptions
from latentsweep.records.recorder import Recorder, StepRecord
from latentsweep.records.results import as_records, guard_tags, log_scores, rounded, span
from latentsweep.storage.entries import MANIFEST
from latentsweep.storage.store import Store
from trainables.space import Value


class AblationRecord:
    """Records a study. All of it follows from the plan and the store, so it can be recorded again."""

    def __init__(self, recorder: Recorder, plan: AblationPlan, store: Store) -> None:
        self.recorder, self.plan, self.store = recorder, plan, store
        self.closed: set[str] = set()
        self.seeds = 0

    def key(self, run: ArmRun) -> str:
        """The key of a run."""
        fold = "" if run.fold is None else f"-fold-{run.fold}"
        return f"{self.plan.name}/{slug(run.arm.name)}/seed-{run.seed}{fold}"

    def begin(self, seeds: int) -> None:
        """Opens the study's run."""
        plan = self.plan
        params = {
            "dataset": plan.dataset,
            "design": plan.kind,
            **({"arms": "; ".join(arm.option for arm in plan.arms)} if plan.arms else {}),
            **({} if plan.arms else {"components": ", ".join(plan.components)}),
            "recipe": plan.recipe_name,
            "split": plan.split,
            "tune_per_arm": plan.tune,
            **({"minutes": plan.minutes} if plan.minutes else {}),
            **({"folds": plan.folds} if plan.folds > 1 else {}),
        }
        tags = {
            "latentsweep.dataset": plan.dataset,
            "latentsweep.fingerprint": plan.fingerprint,
            "latentsweep.seeds": str(seeds),
        }
        self.seeds, self.closed = seeds, self.recorder.closed()
        self.recorder.open_run(plan.name, name=plan.name, kind="ablation", params=params, tags=tags)
        self.recorder.log_dataset(plan.name, plan.dataset, plan.fingerprint)
        self.recorder.rank(plan.name, params=["arm", "seed"], metrics=descriptions.columns([KID.objective or ""]))
        self.recorder.describe(plan.name, descriptions.describe_study(plan, seeds))

    def run(self, run: ArmRun, failure: Mapping[str, str] | None) -> None:
        """Records once a run that ended, with its curves, scores and pictures."""
        key = self.key(run)
        evaluation, denoiser = self.store.find(run.keys.evaluation), self.store.find(run.keys.denoiser)
        measured = evaluation is not None and denoiser is not None
        if key in self.closed or not (measured or failure):
            return
        fold = {} if run.fold is None else {"fold": run.fold}
        began, ended = span([denoiser, evaluation]) if evaluation and denoiser else (None, None)
        self.recorder.open_run(
            key,
            name=f"{run.name} {self.plan.name}",
            kind="ablation-run",
            parent=self.plan.name,
            params={"arm": run.arm.name, "seed": run.seed, **fold, **run.arm.changes, **self._steps(run)},
            tags={
                "latentsweep.arm": run.arm.name,
                "latentsweep.seed": str(run.seed),
                "latentsweep.study": self.plan.name,
                "latentsweep.objective": KID.at_end,
                **{f"latentsweep.{name}": str(value) for name, value in fold.items()},
            },
            began=began,
        )
        self.recorder.log_dataset(key, self.plan.dataset, self.plan.fingerprint)
        if not evaluation or not denoiser:
            tags = {f"latentsweep.{name}": value for name, value in (failure or {}).items()}
            text = descriptions.describe_arm(self.plan.name, run.arm.name, run.seed, {})
            self.recorder.close_run(key, "failed", text=text, tags=tags)
            return
        metrics = stages.metrics_of(evaluation, run.recipe)
        text = descriptions.describe_arm(self.plan.name, run.arm.name, run.seed, metrics)
        autoencoder = self.store.find(run.keys.vae) if self.plan.minutes else None
        seconds = {AUTOENCODER_SECONDS.name: autoencoder.seconds} if autoencoder else {}
        self.recorder.log(key, as_records(stages.records_of(denoiser, rungs=False)))
        log_scores(self.recorder, key, self.store, run.keys, run.recipe, metrics | seconds)
        self.recorder.log_file(key, evaluation.file(MANIFEST), "evaluation")
        findings = targets.lint_run(self.store, run.recipe, run.keys, metrics)
        tags = as_tags(findings) | guard_tags(metrics)
        self.recorder.close_run(key, "finished", text=text, tags=tags, ended=ended)
        self.closed.add(key)

    def _steps(self, run: ArmRun) -> dict[str, Value]:
        """The numbers of steps, where the study's minutes set them."""
        changed = differences(run.arm.recipe, run.recipe) if self.plan.minutes else {}
        return {field: value for field, value in changed.items() if not field.startswith("data.")}

    def stopped(self) -> None:
        """Closes the run of a study that was stopped and can go on."""
        self.recorder.close_stale(self.plan.name)
        self.recorder.close_run(self.plan.name, "stopped")
        self.recorder.flush()

    def end(self, files: Sequence[Path], effects: Sequence[Effect], *, finished: bool) -> None:
        """Records the study's tables and the differences that it found, and closes its run."""
        for path in files:
            self.recorder.log_file(self.plan.name, path)
        page = next((path.name for path in files if path.suffix == ".html"), "")
        report = {"latentsweep.report": page} if page else {}
        self.recorder.describe(self.plan.name, descriptions.describe_study(self.plan, self.seeds, page), report)
        now = int(datetime.datetime.now().timestamp() * 1000)
        found = {f"difference/{slug(effect.contrast.name)}": effect.mean for effect in effects}
        metrics = {name: rounded(value) for name, value in found.items() if value is not None}
        self.recorder.log(self.plan.name, [StepRecord(len(effects[0].seeds) if effects else 0, now, metrics)])
        self.recorder.close_run(self.plan.name, "finished" if finished else "failed")
        self.recorder.flush()
