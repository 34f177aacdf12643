"""Ray Tune's side of the search: a searcher and a pruning scheduler, both thin, over one Optuna study."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from latentsweep.metrics import RUNG
from latentsweep.search.study import Point, Search
from trainables.errors import INFRASTRUCTURE

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController


RETRIES = 4
"""How often a trial whose worker was lost is tried again, each time from its last checkpoint."""


class Watcher(Protocol):
    """Who wants to know what happens to trials, by their numbers in the study."""

    def started(self, number: int, params: Mapping[str, Any]) -> None:
        """A configuration was asked for."""

    def heard(self, number: int, result: Mapping[str, Any]) -> None:
        """A trial reported."""

    def lost(self, number: int, error: str) -> tuple[str, str]:
        """A trial was lost again and again, at last with Ray's ``error``: the reason, and its log's last lines."""

    def ended(self, number: int) -> None:
        """A trial ended; the study knows how."""


class StudySearcher(Searcher):
    """Asks the study for configurations and tells it how they ended, up to ``target`` run trials in all."""

    def __init__(self, search: Search, target: int, watcher: Watcher) -> None:
        super().__init__(metric=None, mode=None)
        self.search, self.target, self.watcher = search, target, watcher
        self.numbers: dict[str, int] = {}
        self.errors: dict[int, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next configuration, or that there is none."""
        asked = self.search.ask(self.target)
        if asked is None:
            return Searcher.FINISHED  # type: ignore[return-value]
        number, params = asked
        self.numbers[trial_id] = number
        self.watcher.started(number, params)
        return {"number": number, "params": params}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False, **kwargs: Any
    ) -> None:
        """Tells the study: scored, failed, pruned, or interrupted."""
        number = self.numbers.pop(trial_id, None)
        if number is None:
            return
        result = result or {}
        if error:
            reason, log = self.watcher.lost(number, self.errors.pop(number, ""))
            self.search.fail(number, reason, INFRASTRUCTURE, log)
        elif "class" in result:
            self.search.fail(number, result["reason"], result["class"], result["log"])
        elif "points" in result:
            points = [Point(point["params"], point["metrics"]) for point in result["points"]]
            self.search.tell(number, points, {"keys": result["keys"]})
        elif "pruned_at" in self.search.trial(number).user_attrs:
            self.search.prune(number, {})
        else:
            self.search.wait(number)
            return
        self.watcher.ended(number)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: the study is on disk, and a sweep resumes from it, never from Ray's copy."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see above."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see above."""


class StudyScheduler(FIFOScheduler):
    """Runs trials in the order they come and stops those that the study's pruner gives up."""

    def __init__(self, searcher: StudySearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.searcher, self.search, self.watcher = searcher, searcher.search, searcher.watcher

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: as for :class:`StudySearcher`."""
        return {}

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        """Passes on what Ray says of it: Tune tells the searcher only that there was an error."""
        self.searcher.errors[trial.config["number"]] = str(trial.get_error())

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """Passes a report on, rung by rung, and answers whether the trial goes on."""
        number = trial.config["number"]
        self.watcher.heard(number, result)
        for record in result.get("records", ()):
            if any(name.startswith(RUNG) for name in record) and self.search.report(
                number, int(record["step"]), record
            ):
                return TrialScheduler.STOP
        return TrialScheduler.CONTINUE


def run_trials(
    work: Callable[..., None],
    searcher: StudySearcher,
    *,
    assignment: object,
    threads: int,
    gpu_share: float,
    concurrent: int,
    folder: Path,
) -> None:
    """Runs ``work(config, assignment=…)`` in Ray Tune until the searcher has no more trials, ``concurrent`` at once.

    Each trial gets ``threads`` CPUs and ``gpu_share`` of a card (0: none). Tune's own files go to ``folder``.
    """
    resources: dict[str, float] = {"cpu": threads}
    if gpu_share:
        resources["gpu"] = gpu_share
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(work, assignment=assignment), resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=StudyScheduler(searcher),
            num_samples=-1,
            max_concurrent_trials=concurrent,
            reuse_actors=True,
            trial_name_creator=lambda trial: f"trial-{trial.config['number']}",
            trial_dirname_creator=lambda trial: f"trial-{trial.config['number']}",
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder.resolve()),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            verbose=0,
        ),
    )
    tuner.fit()
