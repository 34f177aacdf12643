"""What is asked of a trained model: itself, its measurements, its images as files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from latentsweep import stages
from latentsweep.ablation.statistics.downstream import Usefulness
from latentsweep.configuration import Configuration
from latentsweep.datasets.ledger import note_use
from latentsweep.datasets.slices import PreparedDataset, check_fingerprint
from latentsweep.jobs.comparison import compare
from latentsweep.jobs.train import name_of
from latentsweep.program.invocation import hint
from latentsweep.search.export import configuration_at
from latentsweep.stages import guards
from latentsweep.stages.denoiser import check_kept, image_seeds, keeps
from latentsweep.stages.keys import keys_of
from latentsweep.stages.model_folder import Results, TrainedModel, from_store, read_model
from latentsweep.stages.pipeline import Pipeline
from latentsweep.stages.results import DICE_BY_PATIENTS
from latentsweep.stages.table import DOWNSTREAM
from latentsweep.storage.entries import Entry
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.errors import DataError
from trainables.loop.execution import fewer_threads
from trainables.loop.machine import cores
from trainables.loop.settings import Execution
from trainables.measures.weights import InceptionWeights
from trainables.recipes import Recipe

log = logging.getLogger(__name__)

Open = Callable[[str], PreparedDataset]


def trained_model(
    home: Home, run: str, open_named: Open, device: str | None = None
) -> tuple[TrainedModel, Execution]:
    """The model that ``run`` names; ``device`` replaces that of its configuration.

    A trial's is that which it was measured by, whatever its dataset and the versions of the stages are today. Warns
    where it copies and an earlier state of it doesn't. Raises :class:`DataError` where it isn't trained.
    """
    named, store = configuration_at(home, run), Store.of(home)
    configuration = named.configuration
    execution = _execution_here(configuration, device)
    if named.folder:
        return read_model(named.folder), execution
    keys: Results | None = named.results
    if keys is None:
        dataset = trained_on(configuration, open_named)
        read = dataset.fingerprint_of(masks=configuration.recipe.data.mask)
        keys = keys_of(configuration.recipe, read, configuration.seed, "")
    model = from_store(store, keys, configuration.recipe)
    if model is None:
        raise _untrained(run)
    if ending := store.find(keys["denoiser"]):
        _warn_of_copies(run, configuration.recipe, ending, last_copies(ending))
    return model, execution


def _execution_here(configuration: Configuration, device: str | None) -> Execution:
    """How the configuration runs on this machine and ``device``; says where it has not the threads for it."""
    execution = configuration.on_device(device).execution
    found = execution.at_most(cores())
    if found != execution:
        log.warning("%s", fewer_threads(execution.threads, found.threads))
    return found


class Evaluated(NamedTuple):
    """What was measured of a run."""

    metrics: dict[str, float]
    dataset: str
    earlier: int | None
    """How many other decisions had read the test split; None where it wasn't measured on that."""
    usefulness: Usefulness | None = None
    """What segmentation networks learned of its slices, where that was asked for."""
    figure: Path | None = None
    """The picture of that."""


def evaluated_run(
    home: Home,
    run: str,
    open_named: Open,
    weights: InceptionWeights,
    split: str,
    device: str | None = None,
    *,
    downstream: bool = False,
) -> Evaluated:
    """The measurements of a trained run on a split, computed where the store lacks them.

    Notes a use of the test split. ``device`` replaces that of the run's configuration. A model's folder that the
    store doesn't know, or whose weights of an earlier step it lacks, is measured by the images of the same seeds.
    With ``downstream`` its slices are tried as training data of segmentation networks, too. Warns where the run
    copies and an earlier state of it doesn't. Raises :class:`DataError` where the run isn't trained, or the store's
    training lacks such weights, and :class:`~trainables.errors.ConfigError` with ``downstream`` where it draws no
    masks.
    """
    named = configuration_at(home, run)
    configuration, folder = named.configuration, named.folder
    recipe, seed, execution = configuration.recipe, configuration.seed, _execution_here(configuration, device)
    if downstream:
        recipe = recipe.replace(**{"downstream.measured": True})
    dataset, store = trained_on(configuration, open_named), Store.of(home)
    pipeline = Pipeline(store, dataset, recipe, seed, execution, weights, split)
    found = store.find(pipeline.keys.denoiser)
    there = found if found is not None and keeps(found, recipe) else None
    if found is None and not folder:
        if named.results and store.find(named.results["denoiser"]):
            raise DataError(
                f"what is measured must be of today's versions of the stages, and {run} was trained by earlier ones: "
                "draw from it with sample, or export and train it anew"
            )
        raise _untrained(run)
    if found and not folder:
        check_kept(found, recipe)
    if downstream and not there:
        raise DataError(
            f"evaluate --downstream needs the training of {run} in the store, and it isn't there; train its "
            f"configuration here with: {hint('train')}"
        )
    name = name_of(dataset.name, pipeline.keys)
    earlier = note_use(home, dataset, "evaluate", name, split, recipe.data.rule)
    if there or not folder:
        tried = pipeline.downstream() if DOWNSTREAM.wanted(recipe) else None
        metrics = stages.metrics_of(pipeline.evaluation(), recipe, tried)
        if there and guards.copies(metrics):
            _warn_of_copies(run, recipe, there, guards.refusal(metrics))
        if not tried:
            return Evaluated(metrics, dataset.name, earlier)
        figure = tried.folder / stages.FIGURES / f"{DICE_BY_PATIENTS}.png"
        return Evaluated(metrics, dataset.name, earlier, Usefulness.of(tried.summary), figure)
    images = read_model(folder).images(image_seeds(seed, recipe.evaluation.samples), execution)
    metrics = compare(images, dataset, store, weights, recipe, split=split, execution=execution, seed=seed)
    return Evaluated(metrics, dataset.name, earlier)


def last_copies(denoiser: Entry) -> str:
    """What the last rung of a training says of copies beyond the bound, in words; empty where it says nothing."""
    rungs = [record for record in stages.records_of(denoiser) if guards.rung_words(record)]
    return "".join(
        f"{guards.rung_words(rung)} at its last rung" for rung in rungs[-1:] if guards.rung_constraint(rung)
    )


def _warn_of_copies(run: str, recipe: Recipe, denoiser: Entry, copies: str) -> None:
    """Says that ``run`` draws a copyist, where what it was before it copied was kept."""
    clean = denoiser.summary.get("clean_until", 0)
    if copies and clean and not recipe.sampling.after_steps:
        log.warning(
            "%s draws by the end of its training, and the guards refuse that: %s; set sampling.after_steps to %d in "
            "its file, or name the folder that train says, to draw as it was before it copied",
            run,
            copies,
            clean,
        )


def trained_on(configuration: Configuration, open_named: Open) -> PreparedDataset:
    """The dataset that a configuration was found or trained on; raises :class:`DataError` where it is another now."""
    dataset = open_named(configuration.dataset)
    read = dataset.fingerprint_of(masks=configuration.recipe.data.mask)
    check_fingerprint(dataset.name, read, configuration.fingerprint)
    return dataset


def _untrained(run: str) -> DataError:
    return DataError(f"{run} is not trained in this home; train its configuration with: {hint('train')}")
