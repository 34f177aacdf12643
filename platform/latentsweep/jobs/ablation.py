"""A study at work: tuning, the shared stages, then every denoiser as a Ray task. Run again, it goes on."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from latentsweep import stages
from latentsweep.ablation.design.plan import AblationPlan, ArmRun
from latentsweep.ablation.design.walltime import SECONDS, WallTime, allotted, timings
from latentsweep.ablation.statistics.effect import Run
from latentsweep.datasets.ledger import note_use
from latentsweep.datasets.slices import PreparedDataset
from latentsweep.execution import worker
from latentsweep.execution.cluster import result_of
from latentsweep.execution.view import View
from latentsweep.jobs.job import Job, Runtime
from latentsweep.jobs.measuring import Failure, measure
from latentsweep.jobs.sweep import Sweep
from latentsweep.metrics import KID
from latentsweep.program.invocation import hint
from latentsweep.records.ablation import AblationRecord
from latentsweep.records.recorder import Recorder
from latentsweep.storage.home import Home, read_json, write_json
from latentsweep.storage.store import Store
from trainables.errors import INFRASTRUCTURE, DivergenceError, LatentsweepError
from trainables.measures.weights import InceptionWeights
from trainables.recipes import Recipe
from trainables.resources.memory import NAMES
from trainables.space import Value

PLAN, FAILURES = "ablation.json", "failures.json"


class Study(Job):
    """An ablation study in its folder: ``ablation.json``, what failed, the tables."""

    noun = "study"

    def __init__(
        self, home: Home, plan: AblationPlan, dataset: PreparedDataset, weights: InceptionWeights, recorder: Recorder
    ) -> None:
        super().__init__(home, home.ablations / plan.name, plan.dataset, plan.fingerprint, weights)
        self.plan, self.dataset, self.recorder = plan, dataset, recorder
        self.record = AblationRecord(recorder, plan, self.store)

    def run(self, seeds: int, runtime: Runtime) -> list[ArmRun]:
        """Runs every arm with so many of the plan's seeds where the store lacks the result; returns all runs.

        What failed is in :meth:`failures`. Raises :class:`LatentsweepError` where the search of an arm found nothing,
        and what :meth:`Job.locked` and :meth:`Runtime.ray` raise.
        """
        with self.locked():
            runtime = self.keep_threads(runtime, PLAN, {"plan": self.plan.to_plain(), "seeds": seeds})
            changes = self._timed(seeds, runtime).changes if self.plan.minutes else self._tuned(runtime)
            jobs = self.plan.jobs(self.plan.seeds(seeds), changes)
            self.note_use()
            self.use(name for job in jobs for name in job.keys.names())
            self.record.begin(seeds)
            missing = self.missing(jobs)
            if missing:
                before = len(jobs) - len(missing)
                with View(runtime.console, self.plan.name) as view, runtime.ray():
                    measure(
                        self, missing, runtime.packing, view, self._note_end, split=self.plan.split, before=before
                    )
            for job in jobs:
                self.record.run(job, self.failures().get(job.name))
            return jobs

    def note_use(self) -> int | None:
        """Notes once that the study reads the test split; how many others have, None where it reads validation."""
        plan = self.plan
        rule = f"subject, all {plan.folds} folds" if plan.folds > 1 else plan.recipe.data.rule
        return note_use(self.home, self.dataset, "study", plan.name, plan.split, rule)

    def note_stop(self) -> None:
        """Records that the user stopped the study."""
        self.record.stopped()

    def missing(self, jobs: Sequence[ArmRun]) -> list[ArmRun]:
        """The runs without a result, those left out that would fail again."""
        decided = {name for name, failure in self.failures().items() if failure["class"] != INFRASTRUCTURE}
        return [job for job in jobs if job.name not in decided and not self.store.find(job.keys.evaluation)]

    def failures(self) -> dict[str, dict[str, str]]:
        """``reason`` and ``class`` of each run that failed, by its name."""
        path = self.folder / FAILURES
        found: dict[str, dict[str, str]] = read_json(path, {})
        return found

    def diverged(self, jobs: Sequence[ArmRun]) -> list[tuple[str, int]]:
        """The arm and seed of each run whose training diverged: an outcome, unlike what the infrastructure lost."""
        kinds = {name: failure["class"] for name, failure in self.failures().items()}
        return [(job.arm.name, job.replicate) for job in jobs if kinds.get(job.name) == DivergenceError.kind]

    def runs(self, jobs: Sequence[ArmRun]) -> list[Run]:
        """The measured runs."""
        return [run for run in (measured_run(self.store, job, self.record.key(job)) for job in jobs) if run]

    def _timed(self, seeds: int, runtime: Runtime) -> WallTime:
        """The steps that each arm can take in its minutes, measured once under the load of the real trainings."""
        kept = WallTime.read(self.folder)
        if kept:
            return kept
        import ray

        minutes, packing = self.plan.minutes or 0.0, runtime.packing
        self.record.begin(seeds)
        jobs, seconds = {job.arm.name: job for job in self.plan.jobs(self.plan.seeds(1))}, {}
        slices = {arm.recipe.data.split: min(self.training_slices(arm.recipe)) for arm in self.plan.design.arms}
        at_once = min(packing.concurrent, seeds * len(jobs))
        task = ray.remote(num_cpus=packing.threads, num_gpus=packing.gpu_share)(worker.step_time)
        with View(runtime.console, self.plan.name) as view, runtime.ray():
            for key, (arm, section) in timings(self.plan.design).items():
                label = f"a step of the {NAMES[section]}, {arm.name}"
                view.stage(label, "timing", going=True)
                run = jobs[arm.name]
                work = self.brief(packing, run.recipe, run.seed, split=self.plan.split, section=section)
                asked = (work, section, slices[arm.recipe.data.split], min(SECONDS, 60 * minutes / 10))
                waiting = [task.remote(*asked) for _ in range(at_once)]
                seconds[key] = statistics.fmean(result_of(each) for each in waiting)
                view.stage(label, f"done, {seconds[key]:.3g} s")
        found = WallTime.now(allotted(self.plan.design, minutes, seconds, slices), packing.threads, at_once)
        found.write(self.folder)
        return found

    def training_slices(self, recipe: Recipe) -> list[int]:
        """How many slices train, fold by fold."""
        return [self.dataset.counts(each.data.rule)["train"] for each in self.plan.in_folds(recipe)]

    def _tuned(self, runtime: Runtime) -> dict[str, Mapping[str, Value]]:
        """What each arm's own search found best, by the arm's name; arms of one denoiser share a search."""
        found: dict[str, Mapping[str, Value]] = {}
        for arm in self.plan.design.arms if self.plan.tune else ():
            sweep = Sweep(self.home, self.plan.tuning(arm, self.dataset, self.weights), self.weights, self.recorder)
            sweep.run(self.plan.tune, runtime)
            best = sweep.search.best()
            if not best:
                raise LatentsweepError(
                    f"no trial of the tuning of {arm.name!r} has a result that the guards let win; see "
                    f"{hint(f'report {sweep.plan.name}')}"
                )
            found[arm.name] = dict(best[0].params)
        return found

    def _note_end(self, job: ArmRun, failure: Failure | None) -> str:
        """Notes and records how a run ended; returns it in words."""
        failures = self.failures()
        failures.pop(job.name, None)
        if failure:
            failures[job.name] = dict(failure)
        write_json(self.folder / FAILURES, failures)
        self.record.run(job, failure)
        if failure:
            return f"failed: {failure['reason']}"
        run = measured_run(self.store, job, "")
        return f"done, KID {run.metrics[KID.name]:.2f}" if run else "no result"


def measured_run(store: Store, job: ArmRun, key: str) -> Run | None:
    """A run's measurements, where the store has them."""
    evaluation = store.find(job.keys.evaluation)
    if evaluation is None:
        return None
    point = stages.point_of(evaluation.summary, job.recipe)
    cross = {name: (1000 * total, int(count)) for name, (total, count) in point["kernel_by_subject"].items()}
    return Run(job.arm.name, job.replicate, point["metrics"], key, cross)
