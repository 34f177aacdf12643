"""A training in full from Python: the model, its measurements, and its place among the registered ones."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from latentsweep.api.models import Model, configuration_in, load
from latentsweep.api.places import Settings, at_least, dataset_of, home_of, recorder_of, texts_of
from latentsweep.configuration import Configuration
from latentsweep.execution.cluster import pack_job
from latentsweep.execution.packing import pack_trials, planned_cards
from latentsweep.jobs import forecast as forecasts
from latentsweep.jobs.job import Runtime
from latentsweep.jobs.timing import StageTimes
from latentsweep.jobs.train import Retraining, Training, checked_keys, record_training
from latentsweep.metrics import KID
from latentsweep.records.results import guard_tags
from latentsweep.stages.guards import refusal
from latentsweep.storage.home import Home
from trainables.errors import DataError
from trainables.measures.weights import find_weights
from trainables.recipes import packages_of

if TYPE_CHECKING:
    from latentsweep_mlflow.registry import Registered


@dataclass(frozen=True)
class TrainResult:
    """What a training gave; of a dry run, only its ``forecast``."""

    home: Home
    training: Training | None = None
    """The finished training, with its lints and its results in the store; None in a dry run."""
    registered: Registered | None = None
    """The version in MLflow's registry; None where it isn't recorded, or the guards refuse it."""
    forecast: Mapping[str, Any] = field(default_factory=dict)
    """What would run, with memory and time, as ``--dry-run --json`` prints it; empty where it ran."""

    @property
    def folder(self) -> Path:
        """The folder of the model; raises :class:`~trainables.errors.DataError` after a dry run."""
        if self.training is None:
            raise DataError("a dry run trains nothing and has no model; train without dry_run")
        return self.training.job.folder

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """The measurements by the held-out split that they were made on."""
        done = self.training
        return {split: done.metrics(split) for split in done.evaluations} if done else {}

    @property
    def refused(self) -> str:
        """Why the guards refuse it, in words; empty where they don't."""
        return self.training.refused if self.training else ""

    def load(self, *, device: str | None = None) -> Model:
        """The trained model; raises :class:`~trainables.errors.DataError` after a dry run."""
        return load(self.folder, home=self.home, device=device)


def train(
    config: str | Path | Configuration,
    *,
    steps: int | None = None,
    settings: Settings = (),
    workers: int = 1,
    despite_guards: bool = False,
    card_gib: float | None = None,
    device: str | None = None,
    ray_address: str = "local",
    inception: str | Path | None = None,
    mlflow: bool = True,
    dry_run: bool = False,
    home: str | Path | Home = "runs",
    store: str = "",
    study_storage: str = "",
    console: Console | None = None,
    tell: Callable[[str], None] | None = None,
) -> TrainResult:
    """Trains a configuration in full, measures it on held-out data, and registers the model.

    ``config`` is a configuration, as :meth:`SweepResult.best` gives it, or the file of one. One that was trained is
    answered from the store. ``steps`` (at least 1) replaces the configuration's number of denoiser steps,
    ``settings`` change further fields, and ``workers`` train data-parallel. A model that copies is taken as it was
    before it copied, and one that the guards refuse isn't registered, unless ``despite_guards``.

    The other arguments are those of :func:`latentsweep.sweep`. Raises :class:`~trainables.errors.ConfigError` and
    :class:`~trainables.errors.DataError` for what can't be trained, and what
    :meth:`latentsweep.jobs.train.Retraining.run` raises.
    """
    at_least(1, steps=steps, workers=workers)
    place = home_of(home, store, study_storage)
    configuration = configuration_in(config).with_steps(steps).with_settings(texts_of(settings)).on_device(device)
    weights = find_weights(Path(inception) if inception else None)
    dataset = dataset_of(place, configuration.dataset, shown=console is not None)
    wanted: dict[str, Any] = {
        "execution": configuration.execution.replace(workers=workers),
        "concurrent": 1,
        "card_gib": card_gib,
        "slices": dataset.counts(configuration.recipe.data.rule)["train"],
    }
    pack = pack_job(configuration.recipe, ray_address, **wanted)
    if dry_run:
        keys, on_card = checked_keys(configuration, dataset, weights, workers), pack
        if not pack.gpu_share:
            on_card = pack_trials(configuration.recipe, **wanted, present=planned_cards(card_gib))
        times = StageTimes.here(place, dataset, weights, pack)
        forecast = forecasts.forecast_training(configuration, keys, place, pack, on_card, times.of)
        return TrainResult(place, forecast=forecast)
    job = Retraining(place, configuration, dataset, weights, workers)
    registered, runtime = None, Runtime(pack, console or Console(quiet=True), ray_address)
    with contextlib.ExitStack() as held:
        held.enter_context(job.locked())
        result = job.run(runtime)
        clean = None if despite_guards else job.before_copying(result)
        if clean:
            if tell:
                tell(before_copying_words(_named(config), result, clean))
            held.enter_context(clean.locked())
            result = dataclasses.replace(clean.run(runtime), from_store=result.from_store)
        if mlflow:
            run_id = record_training(recorder_of(place, dataset.name, True), result)
            registered = register(result, run_id, despite_guards=despite_guards)
    return TrainResult(place, result, registered)


def _named(config: str | Path | Configuration) -> str:
    return "the configuration" if isinstance(config, Configuration) else str(config)


def before_copying_words(config: str | Path, training: Training, clean: Retraining) -> str:
    """Why the weights before a training copied are taken, and from where they are drawn."""
    said = refusal(training.metrics(next(iter(training.evaluations))))
    steps = clean.configuration.recipe.sampling.after_steps
    return (
        f"note: it copies at its end ({said}), so it is taken as it was after {steps} steps: draw from "
        f"{clean.folder}, not from {config}"
    )


def register(training: Training, run_id: str | None, *, despite_guards: bool) -> Registered | None:
    """Registers a trained model, with a tag where the guards refuse it; None where they do, unless despite them."""
    from latentsweep_mlflow.registry import register_model

    if training.refused and not despite_guards:
        return None
    job = training.job
    return register_model(
        job.home.root,
        dataset=job.dataset.name,
        folder=job.folder,
        run_id=run_id,
        score=training.scores[KID.name],
        objective=f"{KID.objective} on the {job.last} split",
        comparable=training.comparable,
        masks=job.configuration.recipe.data.mask,
        packages=packages_of(job.configuration.recipe),
        tags=guard_tags(training.judged),
    )
