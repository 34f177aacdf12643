"""What is asked of a trained model: itself, its measurements, its images as files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from latentsweep import stages
from latentsweep.datasets.ledger import note_use
from latentsweep.datasets.slices import PreparedDataset
from latentsweep.jobs.image_folder import GRID, compare
from latentsweep.jobs.train import name_of
from latentsweep.search.export import configuration_at
from latentsweep.stages.denoiser import check_kept, image_seeds, keeps
from latentsweep.stages.model_folder import TrainedModel, from_store, read_model
from latentsweep.stages.pipeline import Pipeline, keys_of
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.errors import DataError
from trainables.figures import image_grid
from trainables.loop.execution import Execution
from trainables.measures.inception import InceptionWeights

Open = Callable[[str], PreparedDataset]


def trained_model(
    home: Home, run: str, open_named: Open, device: str | None = None
) -> tuple[TrainedModel, Execution]:
    """The model that ``run`` names; ``device`` replaces that of its configuration.

    Raises :class:`DataError` where it isn't trained.
    """
    configuration, folder = configuration_at(home, run)
    configuration = configuration.on_device(device)
    if folder:
        return read_model(folder), configuration.execution
    dataset = open_named(configuration.dataset)
    keys = keys_of(configuration.recipe, dataset.fingerprint, configuration.seed, "")
    model = from_store(Store.of(home), keys, configuration.recipe)
    if model is None:
        raise _untrained(run)
    return model, configuration.execution


class Evaluated(NamedTuple):
    """The measurements of a run, its dataset, and how many other decisions had read the test split, where it did."""

    metrics: dict[str, float]
    dataset: str
    earlier: int | None


def evaluated_run(
    home: Home, run: str, open_named: Open, weights: InceptionWeights, split: str, device: str | None = None
) -> Evaluated:
    """The measurements of a trained run on a split, computed where the store lacks them.

    Notes a use of the test split. ``device`` replaces that of the run's configuration. A model's folder that the
    store doesn't know, or whose weights of an earlier step it lacks, is measured by the images of the same seeds.
    Raises :class:`DataError` where the run isn't trained, or the store's training lacks such weights.
    """
    configuration, folder = configuration_at(home, run)
    configuration = configuration.on_device(device)
    recipe, seed, execution = configuration.recipe, configuration.seed, configuration.execution
    dataset, store = open_named(configuration.dataset), Store.of(home)
    pipeline = Pipeline(store, dataset, recipe, seed, execution, weights, split)
    found = store.find(pipeline.keys.denoiser)
    there = found is not None and keeps(found, recipe)
    if found is None and not folder:
        raise _untrained(run)
    if found and not folder:
        check_kept(found, recipe)
    name = name_of(dataset.name, pipeline.keys)
    earlier = note_use(home, dataset, "evaluate", name, split, recipe.data.rule)
    if there or not folder:
        return Evaluated(stages.metrics_of(pipeline.evaluation(), recipe), dataset.name, earlier)
    images = read_model(folder).images(image_seeds(seed, recipe.evaluation.samples), execution)
    metrics = compare(images, dataset, store, weights, recipe, split=split, execution=execution, seed=seed)
    return Evaluated(metrics, dataset.name, earlier)


def _untrained(run: str) -> DataError:
    return DataError(f"{run} is not trained in this home; train its configuration with: python cli.py train")


def write_images(folder: Path, images: np.ndarray, seeds: Sequence[int]) -> list[str]:
    """A PNG for each seed and ``grid.png``; returns their names."""
    names = [f"seed-{seed:06d}.png" for seed in seeds]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(folder / name)
    image_grid(images).save(folder / GRID)
    return [*names, GRID]
