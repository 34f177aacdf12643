"""Trainings: the autoencoder, the latents that it encodes, the denoiser, and its scores on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from latentsweep.datasets.slices import PreparedDataset
from latentsweep.metrics import RUNG
from latentsweep.stages.latents import Encoded, read_latents, write_latents
from latentsweep.stages.results import (
    RECORDS,
    WEIGHTS,
    average_file,
    extractor,
    image_seeds,
    load_vae,
    save_figure,
    scaling,
    split_slices,
    training_positions,
)
from latentsweep.stages.sampling import draw
from latentsweep.storage.entries import Entry
from trainables import figures
from trainables.autoencoder.training import decoded_bytes, encoded, train_vae
from trainables.autoencoder.vae import Autoencoder
from trainables.denoiser.averages import Averages
from trainables.denoiser.sampling import even_chunk
from trainables.denoiser.training import Score, train_denoiser
from trainables.denoiser.unet import UNet
from trainables.loop import execution as ex
from trainables.loop.checkpoint import save_tensors
from trainables.loop.execution import Execution
from trainables.loop.training import Record, Report
from trainables.measures.inception import InceptionWeights
from trainables.measures.reference import Reference, distances
from trainables.recipes import Recipe
from trainables.resources.ladder import climb
from trainables.resources.memory import batch_size, fitted


def vae_stage(
    folder: Path, dataset: PreparedDataset, recipe: Recipe, seed: int, execution: Execution, report: Report
) -> dict[str, Any]:
    """Trains the autoencoder; leaves its best weights and the records."""
    training, held_out = (
        torch.from_numpy(split_slices(dataset, recipe.data, split).images) for split in ("train", "validation")
    )

    def train(rung: Execution) -> tuple[Autoencoder, list[Record]]:
        return train_vae(recipe.vae, training, held_out, seed=seed, folder=folder, execution=rung, report=report)

    first = fitted(recipe, "vae", execution, slices=len(training))
    batch = batch_size(recipe, "vae", len(training))
    (model, records), climbed = climb(train, first, batch, "the autoencoder")
    if ex.rank() != 0:
        return {}
    save_tensors(folder / WEIGHTS, model.state_dict())
    (folder / RECORDS).write_text(json.dumps(records))
    save_figure(folder, "vae_training", figures.training_curves(records, stage="vae"))
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "memory": climbed.to_plain(),
        "execution": ex.summary_of(climbed.execution, recipe.vae.precision, batch),
    }


def latents_stage(
    folder: Path, dataset: PreparedDataset, recipe: Recipe, vae: Entry, execution: Execution
) -> dict[str, Any]:
    """Encodes every slice once."""
    device = execution.prepare()
    model = load_vae(vae, recipe)
    parts = []
    for split in dataset.splits(recipe.data.split):
        slices = split_slices(dataset, recipe.data, split)
        parts.append(Encoded(split, slices, *encoded(model, torch.from_numpy(slices.images), device)))
    return write_latents(folder, parts) | {"vae": vae.name, "dataset": dataset.fingerprint}


def denoiser_stage(
    folder: Path,
    recipe: Recipe,
    latents: Entry,
    seed: int,
    execution: Execution,
    report: Report,
    score: Score | None = None,
) -> dict[str, Any]:
    """Trains the denoiser; leaves its averaged weights, a file for each average, and the records."""
    summary = dict(latents.summary)
    whiten, positions = recipe.diffusion.whiten, recipe.diffusion.position_condition
    training = read_latents(latents.folder, summary, "train", whiten=whiten, positions=positions)
    held_out = read_latents(latents.folder, summary, "validation", whiten=whiten, positions=positions)

    def train(rung: Execution) -> tuple[Averages, list[Record]]:
        return train_denoiser(
            recipe.diffusion,
            training,
            held_out,
            seed=seed,
            folder=folder,
            execution=rung,
            report=report,
            score=score,
            rungs=recipe.evaluation.rungs if score else 0,
        )

    first = fitted(recipe, "diffusion", execution, slices=len(training))
    batch = batch_size(recipe, "diffusion", len(training))
    (averages, records), climbed = climb(train, first, batch, "the denoiser")
    if ex.rank() != 0:
        return {}
    for length, model in averages.by_length.items():
        save_tensors(folder / average_file(length), model.state_dict())
    (folder / RECORDS).write_text(json.dumps(records))
    return {
        "parameters": sum(p.numel() for p in averages.own.parameters()),
        "memory": climbed.to_plain(),
        "execution": ex.summary_of(climbed.execution, recipe.diffusion.precision, batch),
    }


def rung_score(
    recipe: Recipe,
    vae: Entry,
    latents: Entry,
    reference: Entry,
    seed: int,
    execution: Execution,
    weights: InceptionWeights,
    identity: str,
) -> Score:
    """Measures a denoiser in training: a few images without early stop, against the reference."""
    real = Reference.load(reference.folder)
    autoencoder, statistics = load_vae(vae, recipe), scaling(recipe, latents)
    seeds = image_seeds(seed, recipe.evaluation.rung_samples)
    positions = training_positions(recipe, latents)

    def measure(denoisers: Mapping[float, UNet]) -> dict[str, float]:
        device = execution.prepare()
        average = denoisers[recipe.sampling.ema_length]
        chunk = even_chunk(len(seeds), device)  # its images are always drawn together
        trace = draw(average, recipe, seeds, device, thresholds=(0.0,), positions=positions, chunk=chunk)
        images = decoded_bytes(autoencoder, statistics.unwhitened(trace.latents[0].cpu()), device).numpy()
        features = extractor(weights, str(device)).features(images)
        scores = distances(features, real, bootstrap=recipe.evaluation.bootstrap)
        return {RUNG + name: value for name, value in scores.items()}

    return Score(measure, identity)
