"""Putting the parts together for the command line: names to datasets, spaces, plans, models and records."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from latentsweep import stages
from latentsweep.configuration import overridden, plain_yaml
from latentsweep.datasets.slices import PreparedDataset, open_dataset
from latentsweep.execution.cluster import nodes
from latentsweep.execution.packing import Packing, pack_trials, planned_cards
from latentsweep.jobs.image_folder import GRID, compare
from latentsweep.jobs.train import Training
from latentsweep.lints import as_tags, inspection
from latentsweep.records.recorder import Recorder
from latentsweep.records.sweep import SweepRecord, as_records, execution_tags, final_record, pictures, value_of
from latentsweep.report import paper_tables, write_report
from latentsweep.search.export import chosen_sweep, configuration_at, open_search
from latentsweep.search.plan import SweepPlan, planned
from latentsweep.search.study import SearchConfig
from latentsweep.stages.model_folder import TrainedModel, from_store, read_model
from latentsweep.stages.pipeline import Pipeline, keys_of
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.errors import ConfigError, DataError
from trainables.figures import image_grid
from trainables.loop.execution import Execution
from trainables.measures.inception import InceptionWeights
from trainables.recipes import Recipe, recipe_named
from trainables.space import SearchSpace

BUILT_IN = "demo"
Open = Callable[[str], PreparedDataset]


def prepared_dataset(home: Home, name: str, tell: Callable[[str], None]) -> PreparedDataset:
    """The dataset of that name, the built-in one made on the spot; raises :class:`DataError` for another."""
    if name == BUILT_IN and not (home.datasets / name).exists():
        from latentsweep.datasets.preparation import prepare

        home.writable(home.datasets)
        tell("preparing demo, the built-in dataset")
        return prepare(name, home=home.root, source=None)
    return open_dataset(home.datasets, name)


def search_space(dataset: str, path: Path | None) -> SearchSpace:
    """The space in a YAML file, or the one that comes for the dataset; kaggle's for a dataset of one's own."""
    if path is None:
        known = {"kaggle", "brats_flair", "brats_t1ce", "demo"}
        module = importlib.import_module(f"search_spaces.{dataset if dataset in known else 'kaggle'}")
        space: SearchSpace = module.SPACE
        return space
    try:
        return SearchSpace.from_plain(plain_yaml(path.read_text()))
    except OSError as error:
        raise ConfigError(f"the search space {path} cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the search space {path} is not YAML") from error


def sweep_plan(
    dataset: PreparedDataset,
    space: SearchSpace,
    weights: InceptionWeights,
    recipe_name: str | None,
    assignments: Sequence[str],
    split: str | None,
    search: SearchConfig,
    seed: int,
) -> SweepPlan:
    """The plan that the options of ``sweep`` mean."""
    name = recipe_name or space.recipe
    recipe = overridden(recipe_named(name), [*assignments, *([f"data.split={split}"] if split else [])])
    return planned(dataset, name, recipe, space, search, seed, weights)


def packed(
    recipe: Recipe, address: str, execution: Execution, *, card_gib: float | None = None, **options: Any
) -> Packing:
    """How trials share this machine, or the cluster at ``address``, where none gets more threads than a node has.

    Cards of a cluster are taken for such of ``card_gib``, since they can't be asked from here. For the ``options``
    see :func:`~latentsweep.execution.packing.pack_trials`.
    """
    found = nodes(address)
    if not found:
        return pack_trials(recipe, card_gib=card_gib, execution=execution, **options)
    cores = [int(node["CPU"]) for node in found]
    count = 0 if execution.device == "cpu" else int(sum(node["GPU"] for node in found))
    cards = planned_cards(card_gib, count)
    pack = pack_trials(recipe, card_gib=card_gib, execution=execution, available=sum(cores), present=cards, **options)
    return dataclasses.replace(pack, threads=min(pack.threads, *cores))


def trained_model(
    home: Home, run: str, open_named: Open, device: str | None = None
) -> tuple[TrainedModel, Execution]:
    """The model that ``run`` names; raises :class:`DataError` where it isn't trained.

    ``device`` replaces that of its configuration.
    """
    configuration, folder = configuration_at(home, run)
    configuration = configuration.on_device(device)
    if folder:
        return read_model(folder), configuration.execution
    dataset = open_named(configuration.dataset)
    keys = keys_of(configuration.recipe, dataset.fingerprint, configuration.seed, "")
    model = from_store(Store.of(home), keys, configuration.recipe)
    if model is None:
        raise DataError(f"{run} is not trained in this home; train its configuration with: python cli.py train")
    return model, configuration.execution


def evaluated_run(
    home: Home, run: str, open_named: Open, weights: InceptionWeights, split: str, device: str | None = None
) -> dict[str, float]:
    """The measurements of a trained run on a split, computed where the store lacks them.

    ``device`` replaces that of its configuration. A model's folder is measured even where the store has never seen
    it: by the images of the same seeds.
    """
    configuration, folder = configuration_at(home, run)
    configuration = configuration.on_device(device)
    dataset = open_named(configuration.dataset)
    pipeline = Pipeline(
        Store.of(home), dataset, configuration.recipe, configuration.seed, configuration.execution, weights, split
    )
    trained = pipeline.store.find(pipeline.keys.denoiser) is not None
    if not trained and folder:
        recipe, execution = configuration.recipe, configuration.execution
        seeds = stages.image_seeds(configuration.seed, recipe.evaluation.samples)
        images = read_model(folder).images(seeds, execution)
        return compare(
            images,
            dataset,
            pipeline.store,
            weights,
            recipe,
            split=split,
            execution=execution,
            seed=configuration.seed,
        )
    if not trained:
        raise DataError(f"{run} is not trained in this home; train its configuration with: python cli.py train")
    return stages.measured(pipeline.evaluation(), configuration.recipe)


def write_images(folder: Path, images: np.ndarray, seeds: Sequence[int]) -> list[str]:
    """A PNG for each seed and ``grid.png``; returns their names."""
    names = [f"seed-{seed:06d}.png" for seed in seeds]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(folder / name)
    image_grid(images).save(folder / GRID)
    return [*names, GRID]


def report_files(home: Home, sweep: str | None, recorder_of: Callable[[str], Recorder]) -> list[Path]:
    """Writes the report of a sweep, the latest by default, and keeps it with the sweep's run."""
    folder = chosen_sweep(home, None, sweep)
    plan, search = SweepPlan.read(folder), open_search(folder, home.study)
    findings = inspection.by_code(inspection.of_sweep(home, plan, search))
    files = write_report(home, folder.name, findings=findings)
    SweepRecord(recorder_of(plan.dataset), plan, Store.of(home), search).report(files)
    return files


def table_files(home: Home) -> list[Path]:
    """Writes the paper's tables of the recorded trainings as Markdown and LaTeX."""
    tables = paper_tables(home)
    folder = home.writable(home.trained)
    texts = {"paper-tables.md": tables.as_markdown(), "paper-tables.tex": tables.as_latex()}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def record_training(recorder: Recorder, training: Training) -> str | None:
    """A run of its own for a training; returns its identifier."""
    key, configuration = f"training/{training.name}", training.configuration
    origin = configuration.origin
    recorder.open_run(
        key,
        name=f"training {training.name}",
        kind="training",
        params={
            "dataset": configuration.dataset,
            "seed": configuration.seed,
            "steps": configuration.recipe.diffusion.steps,
            **{field: value_of(configuration.recipe, field) for field in origin.get("parameters", {})},
        },
        tags={
            **{f"latentsweep.from_{name}": str(origin[name]) for name in ("sweep", "trial") if name in origin},
            **as_tags(training.findings),
        },
    )
    recorder.log(key, as_records(stages.replayed(training.entries["denoiser"])))
    for split, evaluation in training.evaluations.items():
        named = {f"{split}/{name.split('/')[-1]}": value for name, value in training.metrics(split).items()}
        recorder.log(key, [final_record(evaluation, configuration.recipe.diffusion.steps, named)])
    last = final_record(training.evaluations[training.last], configuration.recipe.diffusion.steps, training.scores)
    recorder.log(key, [last])
    for path in pictures(training.entries.values()):
        recorder.log_file(key, path, stages.FIGURES)
    recorder.close_run(key, "finished", tags=execution_tags(training.entries["denoiser"]), ended=training.ended)
    return recorder.run_id(key)
