"""What real slices, reconstructions and generated images are worth, in numbers and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentsweep.datasets.slices import PreparedDataset
from latentsweep.stages.results import (
    RECORDS,
    SAMPLES,
    extractor,
    figure_of,
    finite,
    load_vae,
    posteriors,
    save_figure,
    split_slices,
    spread,
)
from latentsweep.storage.entries import Entry
from trainables import figures
from trainables.autoencoder.training import decoded, encoded
from trainables.autoencoder.vae import Autoencoder
from trainables.images import to_bytes
from trainables.loop.checkpoint import load_tensors, save_tensors
from trainables.loop.execution import Execution
from trainables.measures.distances import kernel_by_group
from trainables.measures.evaluation import evaluate_ceiling, evaluate_generated, evaluate_reconstructions
from trainables.measures.inception import InceptionWeights
from trainables.measures.latent_statistics import active_channels, kl_by_channel
from trainables.measures.memorisation import aligned, near_copy_threshold, nearest
from trainables.measures.reference import Reference, build_reference
from trainables.recipes import Recipe

SHOWN = 16
"""Slices in a picture of generated beside real ones."""


def reference_stage(
    folder: Path,
    dataset: PreparedDataset,
    recipe: Recipe,
    split: str,
    seed: int,
    execution: Execution,
    weights: InceptionWeights,
) -> dict[str, Any]:
    """Features of the real slices that generated ones are compared with, and the real-against-real floor."""
    device = execution.prepare()
    held_out, training = split_slices(dataset, recipe.data, split), split_slices(dataset, recipe.data, "train")
    reference = build_reference(
        held_out.images,
        held_out.subjects,
        training.images,
        training.subjects,
        extractor(weights, str(device)),
        samples=recipe.evaluation.samples,
        bootstrap=recipe.evaluation.bootstrap,
        seed=seed,
    )
    reference.save(folder)
    return {
        "split": split,
        "samples": len(reference.images),
        "floor": reference.floor,
        "sha": reference.sha,
        "extractor": reference.extractor,
    }


def reconstruction_stage(
    folder: Path,
    dataset: PreparedDataset,
    recipe: Recipe,
    vae: Entry,
    latents: Entry,
    reference: Entry,
    split: str,
    execution: Execution,
    weights: InceptionWeights,
) -> dict[str, Any]:
    """Measures and shows the autoencoder alone, on the slices of ``split`` and as a ceiling for every denoiser."""
    device = execution.prepare()
    model, real = load_vae(vae, recipe), Reference.load(reference.folder)
    held_out = split_slices(dataset, recipe.data, split).images
    images = reconstructed(model, held_out, device)
    metrics = evaluate_reconstructions(held_out, images.squeeze(1).numpy())
    if len(real.floor_images) > 1:
        ceiling = to_bytes(reconstructed(model, real.floor_images, device)).numpy()
        features = extractor(weights, str(device)).features(ceiling)
        metrics |= evaluate_ceiling(ceiling, features, real, recipe.evaluation)
    shown = spread(len(held_out), 8)
    save_figure(folder, "reconstructions", figures.reconstructions(held_out[shown], to_bytes(images[shown]).numpy()))
    save_figure(folder, "latents_autoencoder", figures.latent_diagnostics(*posteriors(latents, split)))
    save_tensors(folder / "reconstructions.safetensors", {"images": to_bytes(images)})
    mean, log_variance = posteriors(latents, "train")
    return {
        "metrics": finite(metrics),
        "channel_kl": kl_by_channel(mean, log_variance).tolist(),
        "channel_active": active_channels(mean).tolist(),
    }


def reconstructed(model: Autoencoder, slices: np.ndarray, device: torch.device) -> torch.Tensor:
    """The posterior mean's reconstructions (N, 1, H, W) in [-1, 1] of slices uint8 (N, H, W)."""
    mean, _ = encoded(model, torch.from_numpy(slices), device)
    return decoded(model, mean, device)


def evaluation_stage(
    folder: Path,
    dataset: PreparedDataset,
    recipe: Recipe,
    latents: Entry,
    denoiser: Entry,
    samples: Entry,
    reference: Entry,
    reconstruction: Entry,
    split: str,
    execution: Execution,
    weights: InceptionWeights,
) -> dict[str, Any]:
    """Measures and shows the images of every threshold.

    Where there are several thresholds, the pictures that are not of one threshold each are of the smallest, under
    which the least stops early; ``shown`` says which.
    """
    device = execution.prepare()
    tensors = {name: tensor.numpy() for name, tensor in load_tensors(samples.file(SAMPLES))[0].items()}
    images, index, steps = tensors["images"], tensors["index"], tensors["steps"]
    features = extractor(weights, str(device)).features(images)
    real, training = Reference.load(reference.folder), split_slices(dataset, recipe.data, "train").images
    neighbours = nearest(images, training)
    timing = samples.summary
    points = []
    for place, used, threshold in zip(index, steps, timing["thresholds"], strict=True):
        metrics = evaluate_generated(
            images[place],
            features[place],
            neighbours[place],
            real,
            recipe.evaluation,
            steps_used=used,
            steps=recipe.sampling.steps,
            seconds=timing["seconds_per_step"] * float(used.sum())
            + timing["decoding_seconds_per_image"] * len(place),
        )
        points.append(
            {
                "threshold": threshold,
                "metrics": finite(metrics | reconstruction.summary["metrics"]),
                "kernel_by_subject": kernel_by_group(features[place], real.features, real.subjects),
            }
        )
        beside = figures.generated_beside_real(images[place][:SHOWN], real.images[spread(len(real.images), SHOWN)])
        save_figure(folder, figure_of(threshold), beside)
    if len(points) > 1:
        curve = [{"threshold": point["threshold"], **point["metrics"]} for point in points]
        save_figure(folder, "early_stop", figures.quality_against_threshold(curve))

    shown = index[0]
    generated, closest = images[shown], neighbours[shown]
    decoded_slices = load_tensors(reconstruction.file("reconstructions.safetensors"))[0]["images"].numpy()
    sets = {"real": real.images, "reconstructed": decoded_slices, "generated": generated}
    drawn = {
        "nearest_neighbours": figures.nearest_neighbours(
            aligned(generated, training, closest.indices),
            training[closest.indices],
            closest.distances,
            near_copy_threshold(real.null),
        ),
        "latents": figures.latent_diagnostics(*posteriors(latents, split), tensors["latents"][shown]),
        "power_spectra": figures.power_spectra(sets),
        "pairwise_distances": figures.pairwise_distances(generated, real.images),
        "diffusion_training": figures.training_curves(denoiser.json(RECORDS), stage="diffusion"),
    }
    for name, figure in drawn.items():
        save_figure(folder, name, figure)
    return {"points": points, "shown": timing["thresholds"][0]}


def point_of(summary: Mapping[str, Any], recipe: Recipe) -> Mapping[str, Any]:
    """The point of a configuration's own early-stop threshold, in the summary of its evaluation."""
    own = recipe.sampling.early_stop_threshold
    return next(point for point in summary["points"] if point["threshold"] == own)


def measured(evaluation: Entry, recipe: Recipe) -> dict[str, float]:
    """The measurements of a configuration's own early-stop threshold, and its autoencoder's."""
    return dict(point_of(evaluation.summary, recipe)["metrics"])
