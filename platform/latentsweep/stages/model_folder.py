"""A trained model: from the stage store, or from a folder that can be taken elsewhere; seeds in, images out."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from latentsweep import stages
from latentsweep.configuration import Configuration, read_configuration
from latentsweep.stages.latents import channel_statistics
from latentsweep.stages.pipeline import Keys
from latentsweep.storage.store import Store
from trainables.autoencoder.training import decoded_bytes
from trainables.autoencoder.vae import Autoencoder
from trainables.denoiser.latents import ChannelStatistics
from trainables.denoiser.unet import UNet
from trainables.errors import DataError
from trainables.loop.checkpoint import load_tensors, save_tensors
from trainables.loop.execution import Execution
from trainables.recipes import Recipe

CONFIG = "config.yaml"
VAE = "vae.safetensors"
DENOISER = "denoiser.safetensors"
SCALING = "scaling.safetensors"


@dataclass(frozen=True)
class TrainedModel:
    """An autoencoder, a denoiser, how latents are scaled between them, and the positions that images draw from."""

    recipe: Recipe
    autoencoder: Autoencoder
    denoiser: UNet
    scaling: ChannelStatistics
    positions: torch.Tensor | None = None

    def images(self, seeds: Sequence[int], execution: Execution | None = None) -> np.ndarray:
        """Slices uint8 (N, H, W), one a seed; a seed gives the same slice whatever else is drawn with it."""
        device = (execution or Execution()).prepare()
        threshold = self.recipe.sampling.early_stop_threshold
        trace = stages.draw(
            self.denoiser, self.recipe, seeds, device, thresholds=(threshold,), positions=self.positions
        )
        latents = self.scaling.unwhitened(trace.latents[0].cpu())
        images: np.ndarray = decoded_bytes(self.autoencoder, latents, device).numpy()
        return images


def from_store(store: Store, keys: Keys, recipe: Recipe) -> TrainedModel | None:
    """The model of a configuration whose trainings are in the store; None where one of them isn't."""
    vae, latents, denoiser = (store.find(key) for key in (keys.vae, keys.latents, keys.denoiser))
    if vae is None or latents is None or denoiser is None:
        return None
    return TrainedModel(
        recipe,
        stages.load_vae(vae, recipe),
        stages.load_denoiser(denoiser, recipe),
        stages.scaling(recipe, latents),
        stages.training_positions(recipe, latents),
    )


def write_model(folder: Path, store: Store, keys: Keys, configuration: Configuration) -> Path:
    """Copies a trained model out of the store into ``folder``: weights, scaling, configuration.

    Of the denoiser's averages it takes the one that the configuration samples with.
    """
    vae, latents, denoiser = (store.find(key) for key in (keys.vae, keys.latents, keys.denoiser))
    if vae is None or latents is None or denoiser is None:
        raise DataError("the configuration is not trained; train it with: python cli.py train --config …")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(vae.file(stages.WEIGHTS), folder / VAE)
    average = stages.average_file(configuration.recipe.sampling.ema_length)
    shutil.copyfile(denoiser.file(average), folder / DENOISER)
    statistics = channel_statistics(dict(latents.summary))
    tensors = {"mean": statistics.mean, "deviation": statistics.deviation}
    positions = stages.training_positions(configuration.recipe, latents)
    if positions is not None:
        tensors["positions"] = positions
    save_tensors(folder / SCALING, tensors)
    configuration.write(folder / CONFIG)
    return folder


def read_model(folder: Path) -> TrainedModel:
    """What :func:`write_model` wrote; raises :class:`DataError` where a file is missing or not of the others."""
    for name in (CONFIG, VAE, DENOISER, SCALING):
        if not (folder / name).exists():
            raise DataError(f"{folder} is not a trained model: it has no {name}")
    recipe = read_configuration(folder / CONFIG).recipe
    try:
        autoencoder, denoiser = Autoencoder(recipe.vae), UNet(recipe.vae.latent_channels, recipe.diffusion)
        autoencoder.load_state_dict(load_tensors(folder / VAE)[0])
        denoiser.load_state_dict(load_tensors(folder / DENOISER)[0])
        tensors, _ = load_tensors(folder / SCALING)
        scaling = ChannelStatistics(tensors["mean"], tensors["deviation"])
        positions = tensors["positions"] if recipe.diffusion.position_condition else None
    except (RuntimeError, KeyError, MemoryError) as error:
        raise DataError(
            f"the weights in {folder} are not those of its {CONFIG} ({type(error).__name__}); put back the files "
            "that were written together"
        ) from error
    if not recipe.diffusion.whiten:
        scaling = ChannelStatistics(torch.zeros_like(scaling.mean), torch.ones_like(scaling.deviation))
    return TrainedModel(recipe, autoencoder.eval(), denoiser.eval(), scaling, positions)


def sample_images(folder: Path, seeds: Sequence[int]) -> np.ndarray:
    """Slices uint8 (N, H, W) of the model in ``folder``."""
    return read_model(folder).images(seeds)
