"""A small sweep to look at from outside: its command, its study, its runs in MLflow, and what must hold of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import optuna
from command_line import THIN, TINY
from measured import REAL
from mlflow import MlflowClient

from latentsweep.search.trials import REPLACES, without_points
from latentsweep.storage.store import Store

FINISHED = {"COMPLETE": "FINISHED"}
"""How a trial may end that nothing prunes, in Optuna and in MLflow."""

SPACE = """
dimensions:
  vae.latent_channels: [4, 8]
  diffusion.frequency_weight: [0.0, 0.3]
  diffusion.cutmix_probability: [0.0, 0.5]
  sampling.early_stop_threshold: [0.0, 0.4]
"""


def sweep_words(
    folder: Path,
    dataset: str,
    trials: int,
    *,
    space: str = SPACE,
    sampler: str = "random",
    pruner: str = "none",
    thin: bool = True,
) -> list[str]:
    """The words of a sweep of that many trials of a small recipe; its space is written to ``folder``.

    It measures with a network that computes a twentieth of the real one, if ``thin``: its scores mean nothing.
    """
    path = folder / "space.yaml"
    path.write_text(space)
    words = ["sweep", "--dataset", dataset, "--recipe", "smoke", "--space", str(path), "--trials", str(trials)]
    return [*words, "--sampler", sampler, "--pruner", pruner, "--json", *TINY, *(THIN if thin else ())]


def ablate_words(components: str, seeds: int, *more: str) -> list[str]:
    """The words of a study of these components of a small recipe, measured with the thin network."""
    options = ["--recipe", "smoke", "--components", components, "--seeds", str(seeds), *more]
    return ["ablate", "--dataset", "demo", *options, "--json", *TINY, *THIN]


def study_of(home: Path, name: str, database: str = "") -> optuna.Study:
    storage = database or f"sqlite:///{home / 'sweeps' / name / 'study.db'}"
    return optuna.load_study(study_name=name, storage=storage)


def results(home: Path, name: str) -> dict[str, Any]:
    """What each configuration scored, and its curve, without the times."""
    store, found = Store(home / "store"), {}
    for trial in study_of(home, name).trials:
        timed = ("gen/seconds_per_image",)
        metrics = {name: value for name, value in trial.user_attrs["metrics"].items() if name not in timed}
        curve = None
        if "keys" in trial.user_attrs:
            denoiser = store.find(next(key for key in trial.user_attrs["keys"] if key.startswith("denoiser/")))
            assert denoiser is not None
            curve = [{k: v for k, v in record.items() if k != "time"} for record in denoiser.json("records.json")]
        found[json.dumps(trial.params, sort_keys=True)] = (metrics, curve)
    return found


def stages_in(home: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for entry in Store(home / "store").entries():
        counts[entry.manifest["stage"]] = counts.get(entry.manifest["stage"], 0) + 1
    return counts


def trained_in(home: Path) -> dict[str, int]:
    """How many results the store holds of each stage that trains or draws; the real slices may be measured ahead."""
    return {stage: count for stage, count in stages_in(home).items() if stage not in REAL}


def mlflow_runs(home: Path, dataset: str, server: str = "") -> list[Any]:
    client = MlflowClient(server or f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(dataset)
    return list(client.search_runs([experiment.experiment_id], max_results=500))


def check_complete(
    home: Path,
    dataset: str,
    name: str,
    trials: int,
    *,
    states: Mapping[str, str] = MappingProxyType(FINISHED),
    database: str = "",
    server: str = "",
    alone: bool = True,
    vaes: int = 2,
) -> None:
    """No trial lost, doubled, or left RUNNING, in Optuna and in MLflow; ``states`` are the ends that may be.

    A trial that was pruned and continued is there twice, and counts once. ``vaes`` autoencoders are recorded.
    ``database`` holds the study and ``server`` the runs, where they are not in the home. The record of a home may
    hold no run of another sweep, unless this one is not ``alone``.
    """
    points = study_of(home, name, database).trials
    run = without_points(points)
    thawed = [trial for trial in points if trial.number in {each.user_attrs.get(REPLACES) for each in points}]
    assert {trial.state.name for trial in thawed} <= {"PRUNED"}
    assert len(run) == trials
    assert {trial.state.name for trial in run} <= set(states)
    assert len({json.dumps(trial.params, sort_keys=True) for trial in run}) == trials
    complete = sum(trial.state.name == "COMPLETE" for trial in run)
    assert len({json.dumps(trial.params, sort_keys=True) for trial in points}) == trials + complete
    assert len(points) == trials + complete + len(thawed), "a threshold beside each complete trial's own"
    runs = mlflow_runs(home, dataset, server)
    runs = [run for run in runs if run.data.tags["latentsweep.key"].startswith(name) or (alone and not server)]
    keys = [r.data.tags["latentsweep.key"] for r in runs]
    assert len(keys) == len(set(keys))
    assert {r.info.status for r in runs} <= set(states.values())
    kinds = [r.data.tags["latentsweep.kind"] for r in runs]
    assert (kinds.count("sweep"), kinds.count("trial"), kinds.count("vae")) == (1, trials + len(thawed), vaes)
    kept = {r.data.tags["latentsweep.trial"]: r.info.status for r in runs if "latentsweep.trial" in r.data.tags}
    assert kept == {str(trial.number): states[trial.state.name] for trial in points}, "a run for each configuration"
