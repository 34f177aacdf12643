"""A trained model: reads it from the store, writes it to a folder, reads that, and draws images from seeds."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from latentsweep import __version__
from latentsweep.configuration import CONFIG, Configuration, read_configuration
from latentsweep.program.invocation import hint
from latentsweep.stages import sampler
from latentsweep.stages.conditions import training_categories, training_lesions, training_positions
from latentsweep.stages.context import WEIGHTS
from latentsweep.stages.denoiser import guide_file, load_average, load_guide
from latentsweep.stages.keys import Keys
from latentsweep.stages.latents import channel_statistics, scaling
from latentsweep.stages.sampler import (
    DENOISER,
    GUIDE,
    SCALING,
    SETTINGS,
    VAE,
    Model,
    digest_of,
    require,
)
from latentsweep.stages.single_file import single_file
from latentsweep.stages.vae import load_vae
from latentsweep.storage.entries import Entry, StageKey
from latentsweep.storage.store import Store
from trainables.config import Config
from trainables.errors import DataError
from trainables.loop.checkpoint import save_tensors
from trainables.loop.files import replace_whole
from trainables.loop.settings import Execution
from trainables.recipes import Recipe

Results = Mapping[str, StageKey] | Mapping[str, str]
"""The keys of a configuration's results, or their names in the store, by stage."""

SAMPLER = "sampler.py"
"""The sampler as one file that needs nothing of ours."""


class Drawn(NamedTuple):
    """Drawn slices, and their lesion masks."""

    images: np.ndarray
    """uint8 (N, H, W)."""
    masks: np.ndarray | None = None
    """The same of masks, 255 for lesion and 0 elsewhere; None of a model that draws none."""


class TrainedModel(Model):
    """What :class:`~latentsweep.stages.sampler.Model` is, run as a configuration's execution says."""

    def images(self, seeds: Sequence[int], execution: Execution | None = None) -> np.ndarray:
        """Slices uint8 (N, H, W), one a seed; a seed gives the same slice whatever else is drawn with it."""
        return self.drawn(seeds, execution).images

    def drawn(
        self,
        seeds: Sequence[int],
        execution: Execution | None = None,
        lesion: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> Drawn:
        """The slices of these seeds, as :meth:`images` gives them, and their masks where the model draws them.

        ``lesion`` and ``labels`` are those of :meth:`~latentsweep.stages.sampler.Model.draw`, which raises what it
        says.
        """
        found = self.draw(seeds, (execution or Execution()).prepare(), lesion, labels)
        return Drawn(found) if found.ndim == 3 else Drawn(*map(np.ascontiguousarray, found.swapaxes(0, 1)))


def from_store(store: Store, keys: Results, recipe: Recipe) -> TrainedModel | None:
    """The model of a configuration whose trainings are in the store; None where one of them isn't.

    ``keys`` are those of its results, or their names, by stage.
    """
    found = _trainings(store, keys)
    if found is None:
        return None
    vae, latents, denoiser = found
    return TrainedModel(
        recipe,
        load_vae(vae.file(WEIGHTS), recipe),
        load_average(denoiser, recipe),
        scaling(recipe, latents),
        training_positions(recipe, latents),
        load_guide(denoiser, recipe),
        training_lesions(recipe, latents),
        *(training_categories(recipe, latents) or ()),
    )


def _trainings(store: Store, keys: Results) -> tuple[Entry, Entry, Entry] | None:
    vae, latents, denoiser = (store.find(keys[stage]) for stage in ("vae", "latents", "denoiser"))
    return (vae, latents, denoiser) if vae and latents and denoiser else None


def write_model(folder: Path, store: Store, keys: Keys, configuration: Configuration) -> Path:
    """Copies a trained model out of the store into ``folder``: weights, scaling, configuration.

    Of the denoiser's averages it takes those that the configuration samples with. Raises :class:`DataError` where
    the store lacks one of the trainings.
    """
    found = _trainings(store, keys)
    if found is None:
        raise DataError(f"the configuration is not trained; train it with: {hint('train --config …')}")
    vae, latents, denoiser = found
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(vae.file(WEIGHTS), folder / VAE)
    save_tensors(folder / DENOISER, load_average(denoiser, configuration.recipe).state_dict())
    if configuration.recipe.sampling.autoguidance != 1:
        shutil.copyfile(denoiser.file(guide_file(configuration.recipe)), folder / GUIDE)
    statistics = channel_statistics(dict(latents.summary))
    tensors = {"mean": statistics.mean, "deviation": statistics.deviation}
    positions = training_positions(configuration.recipe, latents)
    if positions is not None:
        tensors["positions"] = positions
    lesions = training_lesions(configuration.recipe, latents)
    if lesions is not None:
        tensors["lesions"] = lesions
    names = None
    if told := training_categories(configuration.recipe, latents):
        tensors["categories"], names = told
    save_tensors(folder / SCALING, tensors, names)
    dataclasses.replace(configuration, trained_on=str(keys.vae.inputs["dataset"])).write(folder / CONFIG)
    write_sampler(folder, configuration)
    return folder


def write_sampler(folder: Path, configuration: Configuration) -> None:
    """Writes what draws from a model's folder without this platform: ``sampler.py`` and its ``config.json``."""
    settings = {
        "library_name": "latentsweep",
        "version": __version__,
        "made_from": digest_of(folder / CONFIG),
        "threads": configuration.execution.threads,
        "tf32": configuration.execution.tf32,
        "recipe": said_and_derived(configuration.recipe),
    }
    replace_whole(folder / SETTINGS, json.dumps(settings, indent=1) + "\n")
    replace_whole(folder / SAMPLER, single_file(sampler.__name__))


def said_and_derived(config: Config) -> dict[str, Any]:
    """The fields of a configuration and the properties that follow from them, sections as dictionaries."""
    kind = type(config)
    derived = [name for name in dir(kind) if isinstance(getattr(kind, name), property)]
    values = {name: getattr(config, name) for name in [*config.to_dict(), *derived]}
    return {
        name: said_and_derived(value) if isinstance(value, Config) else value
        for name, value in values.items()
        if isinstance(value, Config | str | int | float | tuple | None)
    }


def read_model(folder: Path) -> TrainedModel:
    """What :func:`write_model` wrote; raises :class:`DataError` where a file is missing or not of the others."""
    require(folder, CONFIG, VAE, DENOISER, SCALING)
    return TrainedModel.read(folder, read_configuration(folder / CONFIG).recipe)


def sample_images(folder: Path, seeds: Sequence[int]) -> np.ndarray:
    """Slices uint8 (N, H, W) of the model in ``folder``; with masks (N, 2, H, W), of a model that draws them."""
    images, masks = read_model(folder).drawn(seeds)
    return images if masks is None else np.stack([images, masks], axis=1)
