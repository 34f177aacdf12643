"""What the results of the stages hold: their files, and how later stages read them."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from latentsweep.datasets.slices import PreparedDataset, Slices
from latentsweep.stages.latents import channel_statistics, read_latents, read_positions
from latentsweep.storage.entries import Entry
from trainables.autoencoder.vae import Autoencoder
from trainables.denoiser.latents import NO_WHITENING, ChannelStatistics
from trainables.denoiser.unet import UNet
from trainables.images import DataConfig, resized
from trainables.loop.checkpoint import load_tensors
from trainables.loop.seeds import derived_seed
from trainables.loop.training import Record, without_scores
from trainables.measures.inception import InceptionExtractor, InceptionWeights
from trainables.recipes import Recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WEIGHTS = "weights.safetensors"
"""Of the autoencoder, or of the denoiser by its training's own average; see :func:`average_file`."""
RECORDS = "records.json"
SAMPLES = "samples.safetensors"
FIGURES = "figures"


def split_slices(dataset: PreparedDataset, data: DataConfig, split: str) -> Slices:
    """The slices of a split under the configuration's split rule, at its size."""
    slices = dataset.load(split, rule=data.split)
    return Slices(resized(slices.images, data.image_size), slices.subjects, slices.volumes, slices.indices)


def load_vae(entry: Entry, recipe: Recipe) -> Autoencoder:
    """The trained autoencoder of a result."""
    model = Autoencoder(recipe.vae)
    model.load_state_dict(load_tensors(entry.file(WEIGHTS))[0])
    return model.eval().requires_grad_(False)


def load_denoiser(entry: Entry, recipe: Recipe) -> UNet:
    """The trained denoiser of a result, by the average that the recipe samples with."""
    model = UNet(recipe.vae.latent_channels, recipe.diffusion)
    model.load_state_dict(load_tensors(entry.file(average_file(recipe.sampling.ema_length)))[0])
    return model.eval().requires_grad_(False)


def average_file(length: float) -> str:
    """The file of a denoiser's weights by their average of this length, 0 for the training's own."""
    return f"weights-ema-{length!r}.safetensors" if length else WEIGHTS


def scaling(recipe: Recipe, latents: Entry) -> ChannelStatistics:
    """How the denoiser's latents are scaled."""
    return channel_statistics(dict(latents.summary)) if recipe.diffusion.whiten else NO_WHITENING


def training_positions(recipe: Recipe, latents: Entry) -> torch.Tensor | None:
    """The positions (N,) of the training split, from which images draw theirs; None where none are used."""
    if not recipe.diffusion.position_condition:
        return None
    return read_positions(latents.folder, dict(latents.summary), "train")


def posteriors(latents: Entry, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and log-variance (N, C, h, w) float32 of a split's slices, in the autoencoder's units."""
    read = read_latents(latents.folder, dict(latents.summary), split, whiten=False)
    return read.mean.float().numpy(), read.log_variance.float().numpy()


def replayed(entry: Entry, *, rungs: bool = True) -> list[Record]:
    """The records of a finished training, the scores at its rungs left out if asked."""
    records: list[Record] = entry.json(RECORDS)
    return records if rungs else without_scores(records)


def save_figure(folder: Path, name: str, figure: Figure) -> None:
    """Writes ``figures/<name>.png`` below ``folder``."""
    (folder / FIGURES).mkdir(exist_ok=True)
    figure.savefig(folder / FIGURES / f"{name}.png", dpi=100, metadata={"Software": "latentsweep"})


def figure_of(threshold: float) -> str:
    """The name of the picture of images generated under this early-stop threshold."""
    return f"generated_threshold_{threshold:g}"


def image_seeds(seed: int, count: int) -> list[int]:
    """The seeds of the images that a run is measured by."""
    return [derived_seed(seed, "image", number) for number in range(count)]


@functools.lru_cache(maxsize=1)
def extractor(weights: InceptionWeights, device: str) -> InceptionExtractor:
    """The Inception network, loaded once a process; it is on the device only while features are taken."""
    return InceptionExtractor(weights, device)


def spread(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` indices at equal distances in ``range(count)``."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(wanted, count))}) if count else []


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """What can be stored as JSON and shown."""
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
