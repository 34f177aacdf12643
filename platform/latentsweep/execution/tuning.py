"""Ray Tune's side of the search: a searcher and a scheduler that pass on what the Optuna study decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from latentsweep.metrics import RUNG
from latentsweep.search.pairing import PAIRING
from latentsweep.search.plan import VERSIONS_OF
from latentsweep.search.study import Search
from latentsweep.search.trials import Point
from trainables.errors import INFRASTRUCTURE

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController


RETRIES = 4
"""How often a trial whose worker was lost is tried again, each time from its last checkpoint."""


class TrialListener(Protocol):
    """Its methods are called when something happens to a trial, given by its number in the study."""

    def wanted(self) -> bool:
        """Whether another configuration may be asked for."""

    def started(self, number: int, params: Mapping[str, Any]) -> None:
        """A configuration was asked for."""

    def heard(self, number: int, result: Mapping[str, Any]) -> None:
        """A trial reported."""

    def lost(self, number: int, error: str) -> tuple[str, str]:
        """Ray gave a trial up with ``error``. Returns the reason, and the last lines of the trial's log."""

    def ended(self, number: int) -> None:
        """A trial ended; the study knows how."""


class StudySearcher(Searcher):
    """Asks the study for configurations and tells it how they ended, until it has ``target`` run trials."""

    def __init__(self, search: Search, target: float, listener: TrialListener) -> None:
        super().__init__(metric=None, mode=None)
        self.search, self.target, self.listener = search, target, listener
        self.numbers: dict[str, int] = {}
        self.errors: dict[int, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next configuration; ``FINISHED`` where there is none."""
        asked = self.search.ask(self.target) if self.listener.wanted() else None
        if asked is None:
            return Searcher.FINISHED  # type: ignore[return-value]
        number, params = asked
        self.numbers[trial_id] = number
        self.listener.started(number, params)
        return {"number": number, "params": params}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False, **kwargs: Any
    ) -> None:
        """Tells the study how a trial ended: scored, failed, pruned, or interrupted."""
        number = self.numbers.pop(trial_id, None)
        if number is None:
            return
        result = result or {}
        if error:
            reason, log = self.listener.lost(number, self.errors.pop(number, ""))
            self.search.fail(number, reason, INFRASTRUCTURE, log)
        elif "class" in result:
            self.search.fail(number, result["reason"], result["class"], result["log"])
        elif "points" in result:
            points = [Point(point["params"], point["metrics"], point.get(PAIRING)) for point in result["points"]]
            said = {name: result[name] for name in ("keys", VERSIONS_OF) if name in result}
            self.search.tell(number, points, said)
        elif "pruned_at" in self.search.trial(number).user_attrs:
            self.search.prune(number, {})
        else:
            self.search.wait(number)
            return
        self.listener.ended(number)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: the study is on disk, and a sweep resumes from it, never from Ray's copy."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing, for the same reason."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, for the same reason."""


class StudyScheduler(FIFOScheduler):
    """Runs trials in the order they come. Stops those that the study prunes; ``search/study.py`` decides which."""

    def __init__(self, searcher: StudySearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.searcher = searcher

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as for :class:`StudySearcher`."""
        return {}

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        """Passes Ray's error on: Tune tells the searcher only that there was one."""
        self.searcher.errors[trial.config["number"]] = str(trial.get_error())

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """Passes a report on, rung by rung; returns whether the trial stops or goes on."""
        number = trial.config["number"]
        self.searcher.listener.heard(number, result)
        for record in result.get("records", ()):
            rung = any(name.startswith(RUNG) for name in record)
            if rung and self.searcher.search.report(number, int(record["step"]), record):
                return TrialScheduler.STOP
        return TrialScheduler.CONTINUE


def run_trials(
    work: Callable[..., None],
    searcher: StudySearcher,
    *,
    brief: object,
    threads: int,
    gpu_share: float,
    concurrent: int,
    folder: Path,
) -> None:
    """Runs ``work(config, brief=…)`` in Ray Tune until the searcher has no more trials, ``concurrent`` at once.

    Each trial gets ``threads`` CPUs and ``gpu_share`` of a card (0: none). Tune's own files go to ``folder``.
    """
    resources: dict[str, float] = {"cpu": threads, **({"gpu": gpu_share} if gpu_share else {})}
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(work, brief=brief), resources),
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
