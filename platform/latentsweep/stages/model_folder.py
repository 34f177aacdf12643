"""A trained model: reads it from the store, writes it to a folder, reads that, and draws images from seeds."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from latentsweep.configuration import Configuration, read_configuration
from latentsweep.invocation import hint
from latentsweep.stages.denoiser import draw, guide_file, load_average, load_denoiser, load_guide
from latentsweep.stages.latents import channel_statistics, scaling, training_lesions, training_positions
from latentsweep.stages.pipeline import Keys
from latentsweep.stages.stage import WEIGHTS
from latentsweep.stages.vae import load_vae
from latentsweep.storage.entries import Entry, StageKey
from latentsweep.storage.store import Store
from trainables.autoencoder.training import decode_to_bytes
from trainables.autoencoder.vae import Autoencoder
from trainables.denoiser.condition import LESIONS
from trainables.denoiser.latents import NO_WHITENING, ChannelStatistics
from trainables.denoiser.unet import UNet
from trainables.errors import ConfigError, DataError
from trainables.images import apart
from trainables.loop.checkpoint import load_tensors, save_tensors
from trainables.loop.execution import Execution
from trainables.recipes import Recipe

Results = Mapping[str, StageKey] | Mapping[str, str]
"""The keys of a configuration's results, or their names in the store, by stage."""

CONFIG = "config.yaml"
VAE = "vae.safetensors"
DENOISER = "denoiser.safetensors"
GUIDE = "guide.safetensors"
SCALING = "scaling.safetensors"


class Drawn(NamedTuple):
    """Drawn slices, and their lesion masks."""

    images: np.ndarray
    """uint8 (N, H, W)."""
    masks: np.ndarray | None = None
    """The same of masks, 255 for lesion and 0 elsewhere; None of a model that draws none."""


@dataclass(frozen=True)
class TrainedModel:
    """An autoencoder, a denoiser and its guide, how latents are scaled, and the positions that images draw from."""

    recipe: Recipe
    autoencoder: Autoencoder
    denoiser: UNet
    scaling: ChannelStatistics
    positions: torch.Tensor | None = None
    guide: UNet | None = None
    lesions: torch.Tensor | None = None
    """Beside the positions, where the denoiser is told how much is lesion."""

    def images(self, seeds: Sequence[int], execution: Execution | None = None) -> np.ndarray:
        """Slices uint8 (N, H, W), one a seed; a seed gives the same slice whatever else is drawn with it."""
        return self.draw(seeds, execution).images

    def draw(self, seeds: Sequence[int], execution: Execution | None = None, lesion: str = "") -> Drawn:
        """The slices of these seeds, as :meth:`images` gives them, and their masks where the model draws them.

        With ``lesion``, one of :data:`trainables.denoiser.condition.LESIONS`, all are told that size; else each seed
        is told that of a training slice. Raises :class:`ConfigError` where the denoiser learned no such slices.
        """
        positions, lesions = self._told(lesion)
        device = (execution or Execution()).prepare()
        threshold = self.recipe.sampling.early_stop_threshold
        trace = draw(
            self.denoiser,
            self.recipe,
            seeds,
            device,
            guide=self.guide,
            thresholds=(threshold,),
            positions=positions,
            lesions=lesions,
        )
        latents = self.scaling.unwhiten(trace.latents[0].cpu())
        images, masks = apart(decode_to_bytes(self.autoencoder, latents, device))
        return Drawn(images.numpy(), None if masks is None else masks.numpy())

    def _told(self, lesion: str) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """The positions and lesions that images draw from."""
        if not lesion:
            return self.positions, self.lesions
        if lesion not in LESIONS or self.lesions is None:
            raise ConfigError(
                f"--lesion is one of {', '.join(LESIONS)}, for a model with lesion_condition, got {lesion!r}"
                f"{'' if lesion not in LESIONS else ' for one without'}; leave it out, or draw from another model"
            )
        chosen = self.lesions == LESIONS.index(lesion)
        if not chosen.any():
            learned = ", ".join(size for number, size in enumerate(LESIONS) if (self.lesions == number).any())
            raise ConfigError(
                f"--lesion must be a size that the training slices have, which is {learned}, got {lesion}; take one "
                "of these"
            )
        return None if self.positions is None else self.positions[chosen], self.lesions[chosen]


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
    save_tensors(folder / SCALING, tensors)
    dataclasses.replace(configuration, trained_on=str(keys.vae.inputs["dataset"])).write(folder / CONFIG)
    return folder


def read_model(folder: Path) -> TrainedModel:
    """What :func:`write_model` wrote; raises :class:`DataError` where a file is missing or not of the others."""
    _require(folder, CONFIG, VAE, DENOISER, SCALING)
    recipe = read_configuration(folder / CONFIG).recipe
    guided = recipe.sampling.autoguidance != 1
    _require(folder, *([GUIDE] if guided else []))
    try:
        autoencoder, denoiser = load_vae(folder / VAE, recipe), load_denoiser(folder / DENOISER, recipe)
        guide = load_denoiser(folder / GUIDE, recipe) if guided else None
        tensors, _ = load_tensors(folder / SCALING)
        whitening = ChannelStatistics(tensors["mean"], tensors["deviation"])
        positions = tensors["positions"] if recipe.diffusion.position_condition else None
        lesions = tensors["lesions"] if recipe.diffusion.lesion_condition else None
    except (RuntimeError, KeyError, MemoryError) as error:
        raise DataError(
            f"the weights in {folder} are not those of its {CONFIG} ({type(error).__name__}); put back the files "
            "that were written together"
        ) from error
    scale = whitening if recipe.diffusion.whiten else NO_WHITENING
    return TrainedModel(recipe, autoencoder, denoiser, scale, positions, guide, lesions)


def _require(folder: Path, *names: str) -> None:
    for name in names:
        if not (folder / name).exists():
            raise DataError(f"{folder} is not a trained model: it has no {name}")


def sample_images(folder: Path, seeds: Sequence[int]) -> np.ndarray:
    """Slices uint8 (N, H, W) of the model in ``folder``; with masks (N, 2, H, W), of a model that draws them."""
    images, masks = read_model(folder).draw(seeds)
    return images if masks is None else np.stack([images, masks], axis=1)
