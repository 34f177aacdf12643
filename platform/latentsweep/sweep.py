"""A sweep: the shared stages first, then the trials, until so many have ended. Run again, it goes on."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

from filelock import FileLock, Timeout
from optuna.trial import TrialState
from rich.console import Console

from latentsweep import inspection, leaderboard, worker
from latentsweep.budget import Packing
from latentsweep.cluster import background, check_resources, cluster, result_of, run_under_train
from latentsweep.home import Home, write_json
from latentsweep.lints import as_text
from latentsweep.pipeline import Keys
from latentsweep.plan import SweepPlan, threads_of
from latentsweep.recording import Recorder
from latentsweep.search import OBJECTIVES, RUNG_OBJECTIVES, Search
from latentsweep.store import Store
from latentsweep.sweep_record import SweepRecord
from latentsweep.view import View, described
from latentsweep.worker import Assignment
from trainables.errors import LatentsweepError, StoppedError
from trainables.execution import Execution
from trainables.inception import InceptionWeights
from trainables.recipes import Recipe

log = logging.getLogger(__name__)


class Sweep:
    """One sweep in its folder; only one process drives it at a time."""

    def __init__(self, home: Home, plan: SweepPlan, weights: InceptionWeights, recorder: Recorder) -> None:
        self.home, self.plan, self.weights = home, plan, weights
        self.folder = home.writable(home.sweeps / plan.name)
        self.store = Store(home.store)
        self.search = Search(self.folder, plan.space, plan.search, plan.seed)
        self.record = SweepRecord(recorder, plan, self.store, self.search)
        self.uses: set[str] = set()

    @contextlib.contextmanager
    def driving(self) -> Iterator[None]:
        """The right to drive, held for the length of a ``with``; a second driver is told so."""
        try:
            with FileLock(self.folder / "lock").acquire(timeout=0):
                yield
        except Timeout:
            raise LatentsweepError(
                f"only one process may drive the sweep {self.plan.name} and another does; wait for it to end"
            ) from None

    def run(self, target: int, packing: Packing, console: Console, *, address: str = "local") -> None:
        """Runs until ``target`` trials have ended or every configuration was tried.

        Raises :class:`StoppedError` after Ctrl-C.
        """
        with self.driving():
            packing = self._keeping_threads(packing)
            write_json(self.folder / "sweep.json", {**self.plan.to_plain(), "threads": packing.threads})
            self.search.requeue()
            self._use(self._reference_key())
            self._use(*(self.plan.keys(trial.params) for trial in self.search.run_trials()))
            findings = inspection.before(self.home, self.plan)
            if findings:
                console.print(as_text(findings), highlight=False, markup=False)
            self.record.begin(findings)
            view = View(console, self.plan.name, target, self.plan.recipe.diffusion.steps)
            view.finished = self.search.finished()
            try:
                if self._unfinished(target):
                    with view, cluster(address):
                        check_resources(packing.threads, packing.gpu_share)
                        self._shared_stages(view, packing)
                        self._trials(view, target, packing)
            except KeyboardInterrupt:
                log.debug("interrupted by the user")
            finally:
                self.search.requeue()
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

    def _assignment(self, packing: Packing, recipe: Recipe | None = None, gpu_share: float = 0.0) -> Assignment:
        return Assignment(
            home=str(self.home.root.resolve()),
            dataset=self.plan.dataset,
            recipe=recipe or self.plan.recipe,
            seed=self.plan.seed,
            execution=Execution(threads=packing.threads),
            weights=str(self.weights.path),
            gpu_share=gpu_share or packing.gpu_share or 1.0,
        )

    def _shared_stages(self, view: View, packing: Packing) -> None:
        """The autoencoders that the space needs, each a Ray Train run, and the reference, all at once."""
        import ray

        waiting: dict[str, Recipe] = {}
        for recipe in self.plan.autoencoders().values():
            keys = self.plan.keys_of(recipe)
            self._use(*(key.name for key in keys.reconstruction.lineage()))
            label = f"autoencoder, {recipe.vae.latent_channels} channels [{keys.vae.digest[:6]}]"
            if all(self.store.find(key) for key in (keys.vae, keys.latents, keys.reconstruction)):
                view.stage(label, "done before", quiet=True)
            else:
                waiting[label] = recipe
        reference = None
        if not self.store.find(self._reference_key()):
            task = ray.remote(num_cpus=packing.threads, num_gpus=packing.gpu_share)(worker.references)
            reference = task.remote(self._assignment(packing), ("validation",))
            view.stage("real features and floor", "computing")
        began = time.monotonic()
        with background(packing.concurrent) as pool:
            jobs = {pool.submit(self._train_vae, recipe, packing): label for label, recipe in waiting.items()}
            while jobs or reference is not None:
                done, _ = concurrent.futures.wait(jobs, timeout=0.5)
                for label in [jobs.pop(future) for future in done if not future.result()]:
                    there = self.store.find(self.plan.keys_of(waiting[label]).latents)
                    how = "done" if there else "diverged, and its trials will fail:"
                    view.stage(label, f"{how} in {time.monotonic() - began:.0f} s")
                for label in jobs.values():
                    view.stage(label, self._vae_progress(waiting[label]), quiet=True)
                if reference is not None and ray.wait([reference], timeout=0 if jobs else 0.5)[0]:
                    result_of(reference)
                    reference = None
                    view.stage("real features and floor", f"done in {time.monotonic() - began:.0f} s")
        self.record.autoencoders(self.plan.autoencoders())

    def _train_vae(self, recipe: Recipe, packing: Packing) -> None:
        keys = self.plan.keys_of(recipe)
        run_under_train(
            worker.autoencoder,
            {"assignment": self._assignment(packing, recipe, packing.vae_share)},
            name=f"vae-{keys.vae.digest}",
            folder=self.folder / "train",
            workers=1,
            threads=packing.threads,
            gpu_share=packing.vae_share,
        )

    def _vae_progress(self, recipe: Recipe) -> str:
        keys = self.plan.keys_of(recipe)
        record = self.store.progress(keys.vae.name)
        return f"training, step {int(record['step'])}" if record else "starting"

    def _trials(self, view: View, target: int, packing: Packing) -> None:
        from ray import tune

        from latentsweep.tuning import StudyScheduler, StudySearcher

        watcher = Watcher(self, view)
        resources: dict[str, float] = {"cpu": packing.threads}
        if packing.gpu_share:
            resources["gpu"] = packing.gpu_share
        trainable = tune.with_resources(
            tune.with_parameters(worker.trial, assignment=self._assignment(packing)), resources
        )
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=StudySearcher(self.search, target, watcher),
                scheduler=StudyScheduler(self.search, watcher),
                num_samples=-1,
                max_concurrent_trials=packing.concurrent,
                reuse_actors=True,
                trial_name_creator=lambda trial: f"trial-{trial.config['number']}",
                trial_dirname_creator=lambda trial: f"trial-{trial.config['number']}",
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(self.folder.resolve() / "ray"),
                failure_config=tune.FailureConfig(max_failures=2),
                verbose=0,
            ),
        )
        tuner.fit()

    def _reference_key(self) -> str:
        return self.plan.keys({}).reference.name

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
        objective = sweep.plan.search.objectives[0]
        self.objective, self.rung = OBJECTIVES[objective], RUNG_OBJECTIVES.get(objective)

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

    def ended(self, number: int) -> None:
        """A trial ended; the study knows how."""
        trial = self.sweep.search.trial(number)
        self.sweep.record.end_trial(trial)
        best = None
        if trial.state == TrialState.COMPLETE:
            points = [trial.user_attrs["metrics"], *(point["metrics"] for point in trial.user_attrs["points"])]
            how = f"{self.objective.split('/')[1]} {min(point[self.objective] for point in points):.2f}"
            first = self.sweep.search.measured()[0]
            best = f"{first.values[0]:.2f} with {described(first.params)}"
        elif trial.state == TrialState.PRUNED:
            how = f"pruned at step {trial.user_attrs['pruned_at']}"
        else:
            how = f"failed: {trial.user_attrs.get('reason', 'no reason given')}"
        self.view.ended(number, how, best)
