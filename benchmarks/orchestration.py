"""What a trial costs when it does nothing: our tuning path against a plain Ray Tune function, actors reused.

Seconds from one trial's end to the next, after the first, as the driver sees them, in turns in one Ray. A trial of
ours is asked of the study (TPE), reported, told, and every threshold of it recorded, each in the study's database on
disk before the search goes on. Ends with exit code 1 where ours takes
longer than a plain Tune with its defaults, or with all that a sweep does more than 0.3 s.

    python benchmarks/orchestration.py --report
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from rich.console import Console
from simulation import SPACE, Silent, plan_of
from timing import publish

from latentsweep.execution.cluster import ENVIRONMENT, cluster
from latentsweep.execution.shared_stages import Work
from latentsweep.execution.tuning import StudySearcher, run_trials
from latentsweep.execution.view import View
from latentsweep.jobs.sweep import Sweep
from latentsweep.jobs.sweep_listener import SweepListener
from latentsweep.search.choice import SearchConfig
from latentsweep.search.study import Search
from latentsweep.storage.home import Home
from latentsweep_mlflow.recorder import recorder_for
from trainables.measures.weights import find_weights
from trainables.space import THRESHOLD

LIMIT = 0.3
LOGGERS = ("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "RAY_AIR_NEW_OUTPUT", "RAY_CHDIR_TO_TRIAL_DIR")
"""What of our settings for Ray a plain user's Tune would not have."""


def score(params: Mapping[str, Any]) -> float:
    return float(params["diffusion.frequency_weight"] + params[THRESHOLD])


def our_trial(config: Mapping[str, Any], brief: object) -> None:
    """Trains nothing, and reports as many points as a sampling pass gives."""
    each = [{**config["params"], THRESHOLD: threshold} for threshold in SPACE.thresholds]
    metrics = {"gen/kid_se": 1.0, "gen/steps_mean": 50.0}
    tune.report({"points": [{"params": p, "metrics": {"gen/kid": score(p), **metrics}} for p in each], "keys": []})


def plain_trial(config: Mapping[str, Any]) -> None:
    tune.report({"score": score(config)})


class Ends(Silent):
    """Notes when trials end."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def ended(self, number: int) -> None:
        self.moments.append(time.perf_counter())


class EndsOfTrials(tune.Callback):
    """The same for a plain Tune."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def on_trial_complete(self, *arguments: Any, **named: Any) -> None:
        self.moments.append(time.perf_counter())


class ListenerWithEnds(SweepListener):
    """What a sweep's listener does, and when trials end."""

    def __init__(self, sweep: Sweep, view: View) -> None:
        super().__init__(sweep, view)
        self.moments: list[float] = []

    def shared(self, params: Mapping[str, Any]) -> Sequence[Work]:
        return ()

    def ended(self, number: int) -> None:
        super().ended(number)
        self.moments.append(time.perf_counter())


def run_ours(searcher: StudySearcher, concurrent: int, folder: Path) -> None:
    run_trials(our_trial, searcher, brief=0, threads=1, gpu_share=0.0, concurrent=concurrent, folder=folder / "ray")


def searched(folder: Path, trials: int, concurrent: int) -> list[float]:
    """The search alone: the study, the searcher and the scheduler."""
    ends = Ends()
    run_ours(StudySearcher(Search(folder, SPACE, SearchConfig(), seed=0), trials, ends), concurrent, folder)
    return ends.moments


def swept(folder: Path, trials: int, concurrent: int) -> list[float]:
    """All that a sweep's driver does: also the live view, the list of what it refers to, and the runs in MLflow."""
    recorder = recorder_for(folder, "orchestration")
    sweep = Sweep(Home(folder), plan_of(SPACE, SearchConfig(), 0), find_weights(), recorder)
    sweep.record.begin([])
    with open(os.devnull, "w") as nowhere:
        view = View(Console(file=nowhere), "orchestration", trials, 1)
        listener = ListenerWithEnds(sweep, view)
        run_ours(StudySearcher(sweep.search, trials, listener), concurrent, folder)
    assert recorder.complete
    return listener.moments


def plain(folder: Path, trials: int, concurrent: int, searcher: OptunaSearch | None = None) -> list[float]:
    """Ray Tune's random search over the same space, or what ``searcher`` proposes."""
    ends = EndsOfTrials()
    space = {
        field: tune.choice(list(d.values)) if hasattr(d, "values") else tune.uniform(d.low, d.high)
        for field, d in SPACE.dimensions.items()
    }
    tune.Tuner(
        tune.with_resources(plain_trial, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=searcher, num_samples=trials, max_concurrent_trials=concurrent, reuse_actors=True
        ),
        run_config=tune.RunConfig(name="tune", storage_path=str(folder), verbose=0, callbacks=[ends]),
    ).fit()
    return ends.moments


def with_optuna(folder: Path, trials: int, concurrent: int) -> list[float]:
    """Ray's own OptunaSearch: the same sampler, and a study in SQLite; it records one configuration a trial."""
    sampler = optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=0)
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'study.db'}")
    searcher = OptunaSearch(metric="score", mode="min", sampler=sampler, storage=storage)
    return plain(folder, trials, concurrent, searcher)


@contextlib.contextmanager
def as_users_have_it() -> Iterator[None]:
    """Tune's own loggers and output for the length of a ``with``."""
    for name in LOGGERS:
        os.environ.pop(name, None)
    yield
    os.environ.update({name: ENVIRONMENT[name] for name in LOGGERS})


def usual(folder: Path, trials: int, concurrent: int) -> list[float]:
    """A plain Tune with all that it does by default."""
    with as_users_have_it():
        return plain(folder, trials, concurrent)


WAYS: dict[str, Callable[[Path, int, int], list[float]]] = {
    "ours, the search": searched,
    "ours, all that a sweep's driver does, MLflow too": swept,
    "Tune with OptunaSearch and a database, its loggers off": with_optuna,
    "Tune, random, Tune's defaults": usual,
    "Tune, random, its loggers off": plain,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--concurrent", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--report", action="store_true", help="write benchmarks/reports/<date>-orchestration.md")
    arguments = parser.parse_args()

    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as place, cluster(cpus=arguments.concurrent):
        for turn in range(arguments.rounds):
            for number, (name, way) in enumerate(WAYS.items()):
                folder = Path(place) / f"{turn}-{number}"
                folder.mkdir()
                with contextlib.redirect_stdout(sys.stderr):
                    moments = way(folder, arguments.trials, arguments.concurrent)
                assert len(moments) == arguments.trials
                seconds[name].append((moments[-1] - moments[0]) / (arguments.trials - 1))

    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ours, all_of_it, same, default, bare = medians.values()
    holds = ours <= default and all_of_it < LIMIT
    verdict = [
        {
            "what": "orchestration per trial that does nothing, after the first",
            "against": "plain Ray Tune function, actors reused",
            "at_least": "not slower; under 0.3 s",
            "measured": f"{ours:.3f} s ({all_of_it:.3f} s with MLflow and the view) against {default:.3f} s of a "
            f"random search that keeps nothing, {same:.3f} s of OptunaSearch with a database; "
            f"{len(SPACE.thresholds)} configurations recorded a trial",
            "holds": holds,
        }
    ]
    text = [
        f"{arguments.trials} trials, {arguments.concurrent} at once, actors reused, in turns in one Ray; time "
        "from one trial's end to the next, after the first. Each trial of ours also records the "
        f"{len(SPACE.thresholds)} thresholds of its pass as configurations of the study.",
        "",
        "| driver | ms a trial, median of turns | turns |",
        "| --- | --- | --- |",
        *(
            f"| {name} | {medians[name] * 1e3:.0f} | {', '.join(f'{value * 1e3:.0f}' for value in values)} |"
            for name, values in seconds.items()
        ),
        "",
        f"Ours {'is SLOWER' if ours > default else 'is no slower'}: {(ours - default) * 1e3:+.0f} ms a trial "
        f"against a random search that keeps nothing with Tune's defaults, {(ours - bare) * 1e3:+.0f} ms against "
        "one without its loggers. The difference is the study: asking, telling and "
        f"{len(SPACE.thresholds)} recorded configurations, each in the database on disk before the search goes "
        "on. Ray's own OptunaSearch with a database, which records one configuration a trial, takes "
        f"{same * 1e3:.0f} ms: for each configuration recorded ours takes "
        f"{ours / len(SPACE.thresholds) / same:.2f} of its time. With all else that a sweep's driver does, "
        f"MLflow too, a trial costs {all_of_it * 1e3:.0f} "
        "ms; one of the smallest recipe takes a minute.",
        "",
        "Helped: fewer reads of the study, 4 a trial where there were 11 (38 ms of the study's CPU time "
        "against 47, in one run).",
        "",
        "## Tried, and did not help",
        "",
        "- SQLite's write-ahead log takes 11 ms off each trial (44 to 33 ms of the study's own time). It is not "
        "used, since a home may lie on a network file system, where SQLite rules it out.",
        "- SQLite's `TRUNCATE` and `PERSIST` journals: within the noise of `DELETE`.",
    ]
    return publish(
        "orchestration",
        "Orchestration of trials that do nothing",
        text,
        report=arguments.report,
        rows=verdict,
        libraries=("ray", "optuna"),
    )


if __name__ == "__main__":
    raise SystemExit(main())
