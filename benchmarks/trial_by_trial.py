"""Trials the usual way: plain Ray Tune, where each trains its autoencoder, encodes, trains its denoiser and measures.

What :mod:`sweep` compares with. A trial keeps its files in a folder of its own that is thrown away, and computes the
features of the real slices for itself. Tune is at its defaults, under which each trial has a process of its own, but
for what would only slow it down: no dashboard, no loggers. With ``reuse_actors`` PyTorch and the Inception network
are loaded once for each of the trials that run at a time.

    python benchmarks/trial_by_trial.py JOB.json RESULTS.json
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "3600",
}


@dataclass(frozen=True)
class Job:
    """What is to be run: ``trials`` of ``space`` (as YAML has it) proposed by TPE, or 0: its whole grid."""

    datasets: str
    dataset: str
    recipe: dict[str, Any]
    space: dict[str, Any]
    trials: int
    startup: int
    seed: int
    concurrent: int
    reuse_actors: bool

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))


def trial(config: dict[str, Any], job: dict[str, Any]) -> None:
    """All stages of one configuration, under its one early-stop threshold."""
    from ray import tune

    from latentsweep import stages
    from latentsweep.datasets.slices import open_dataset
    from latentsweep.stages.pipeline import Pipeline
    from latentsweep.storage.store import Store
    from trainables.loop.settings import Execution
    from trainables.measures.weights import find_weights
    from trainables.recipes import Recipe

    recipe = Recipe.from_dict(job["recipe"]).replace(**config)
    dataset = open_dataset(Path(job["datasets"]), job["dataset"])
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        pipeline = Pipeline(store, dataset, recipe, job["seed"], Execution(threads=1), find_weights())
        metrics = stages.metrics_of(pipeline.evaluation(), recipe)
        costs = {entry.manifest["stage"]: entry.manifest["cost"]["cpu_seconds"] for entry in store.entries()}
    tune.report({"kid": metrics["gen/kid"], "params": config, "measured": metrics, "cpu_seconds": costs})


def main() -> int:
    job = json.loads(Path(sys.argv[1]).read_text())
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray
    from optuna.samplers import TPESampler
    from ray import tune
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    from latentsweep.search.proposals import distribution
    from trainables.space import SearchSpace

    space = SearchSpace.from_plain(job["space"])
    dimensions = {field: distribution(dimension) for field, dimension in space.dimensions.items()}
    param_space: dict[str, Any] = {}
    search: Any = None
    if job["trials"]:
        sampler = TPESampler(
            multivariate=True,
            constant_liar=True,
            n_startup_trials=job["startup"],
            seed=job["seed"],
            warn_independent_sampling=False,
        )
        search = OptunaSearch(dimensions, metric="kid", mode="min", sampler=sampler)
        search = ConcurrencyLimiter(search, max_concurrent=job["concurrent"])
    else:
        param_space = {field: tune.grid_search(list(d.choices)) for field, d in dimensions.items()}
    ray.init(num_cpus=job["concurrent"], include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(trial, job=job), {"cpu": 1}),
            param_space=param_space,
            tune_config=tune.TuneConfig(
                search_alg=search,
                num_samples=job["trials"] or 1,
                max_concurrent_trials=None if search else job["concurrent"],
                reuse_actors=job["reuse_actors"],
            ),
            run_config=tune.RunConfig(name="trials", storage_path=folder, verbose=0),
        )
        results = tuner.fit()
    if results.errors:
        raise results.errors[0]
    Path(sys.argv[2]).write_text(
        json.dumps([{name: r.metrics[name] for name in ("params", "measured", "cpu_seconds")} for r in results])
    )
    ray.shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
