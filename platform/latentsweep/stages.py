"""The stages: plain functions from a configuration and upstream results to the files of a folder.

Each takes the folder to write into, returns a small JSON summary, and knows neither keys nor Ray.
"""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from latentsweep.datasets.slices import PreparedDataset, Slices
from latentsweep.latents import Encoded, channel_statistics, read_latents, write_latents
from latentsweep.store import Entry
from trainables import execution as ex
from trainables import figures
from trainables.checkpoint import load_tensors, save_tensors
from trainables.diffusion_training import Score, train_denoiser
from trainables.evaluation import (
    Reference,
    build_reference,
    distances,
    evaluate_generated,
    evaluate_reconstructions,
)
from trainables.execution import Execution
from trainables.images import DataConfig, resized, to_bytes
from trainables.inception import InceptionExtractor, InceptionWeights
from trainables.latents import NO_WHITENING, ChannelStatistics
from trainables.random import derived_seed
from trainables.recipes import Recipe
from trainables.sampling import SamplingTrace, initial_noise, sample, sampling_timesteps
from trainables.training import Record, Report
from trainables.unet import UNet
from trainables.vae import Autoencoder
from trainables.vae_training import decoded, decoded_bytes, encoded, train_vae

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WEIGHTS = "weights.safetensors"
RECORDS = "records.json"
FIGURES = "figures"
SHOWN = 16
"""Slices in a picture of generated beside real ones."""

TRAJECTORY = (1000, 800, 600, 400, 200, 100, 50, 0)
"""The timesteps at which a denoising trajectory is shown."""


def split_slices(dataset: PreparedDataset, data: DataConfig, split: str) -> Slices:
    """The slices of a split under the configuration's split rule, at its size."""
    slices = dataset.load(split, rule=data.split)
    return Slices(resized(slices.images, data.image_size), slices.subjects, slices.volumes, slices.indices)


def vae_stage(
    folder: Path, dataset: PreparedDataset, recipe: Recipe, seed: int, execution: Execution, report: Report
) -> dict[str, Any]:
    """Trains the autoencoder; leaves its best weights, the records, and what its reconstructions are worth."""
    training = torch.from_numpy(split_slices(dataset, recipe.data, "train").images)
    held_out = torch.from_numpy(split_slices(dataset, recipe.data, "validation").images)
    model, records = train_vae(
        recipe.vae, training, held_out, seed=seed, folder=folder, execution=execution, report=report
    )
    if ex.rank() != 0:
        return {}
    metrics, reconstructions = reconstructed(model, held_out, execution.prepare())
    save_tensors(folder / WEIGHTS, model.state_dict())
    (folder / RECORDS).write_text(json.dumps(records))
    save_figure(folder, "vae_training", figures.training_curves(records, stage="vae"))
    shown = spread(len(held_out), 8)
    save_figure(
        folder,
        "reconstructions",
        figures.reconstructions(held_out[shown].numpy(), to_bytes(reconstructions[shown]).numpy()),
    )
    return {"metrics": metrics, "parameters": sum(p.numel() for p in model.parameters())}


def reconstructed(
    model: Autoencoder, slices: torch.Tensor, device: torch.device
) -> tuple[dict[str, float], torch.Tensor]:
    """What the posterior mean's reconstructions of slices uint8 (N, H, W) are worth, and they themselves."""
    mean, _ = encoded(model, slices, device)
    images = decoded(model, mean, device)
    return evaluate_reconstructions(slices.numpy(), images.squeeze(1).numpy()), images


def load_vae(entry: Entry, recipe: Recipe) -> Autoencoder:
    """The trained autoencoder of a result."""
    model = Autoencoder(recipe.vae)
    model.load_state_dict(load_tensors(entry.file(WEIGHTS))[0])
    return model.eval().requires_grad_(False)


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
        recipe.evaluation,
        seed,
    )
    reference.save(folder)
    return {"split": split, "samples": len(reference.images), "floor": reference.floor, "sha": reference.sha}


def denoiser_stage(
    folder: Path,
    recipe: Recipe,
    latents: Entry,
    seed: int,
    execution: Execution,
    report: Report,
    score: Score | None = None,
) -> dict[str, Any]:
    """Trains the denoiser; leaves its averaged weights and the records."""
    summary = dict(latents.summary)
    whiten = recipe.diffusion.whiten
    model, records = train_denoiser(
        recipe.diffusion,
        read_latents(latents.folder, summary, "train", whiten=whiten),
        read_latents(latents.folder, summary, "validation", whiten=whiten),
        seed=seed,
        folder=folder,
        execution=execution,
        report=report,
        score=score,
        rungs=recipe.evaluation.rungs if score else 0,
    )
    if ex.rank() != 0:
        return {}
    save_tensors(folder / WEIGHTS, model.state_dict())
    (folder / RECORDS).write_text(json.dumps(records))
    return {"parameters": sum(p.numel() for p in model.parameters())}


def load_denoiser(entry: Entry, recipe: Recipe) -> UNet:
    """The trained denoiser of a result."""
    model = UNet(recipe.vae.latent_channels, recipe.diffusion)
    model.load_state_dict(load_tensors(entry.file(WEIGHTS))[0])
    return model.eval().requires_grad_(False)


def scaling(recipe: Recipe, latents: Entry) -> ChannelStatistics:
    """How the denoiser's latents are scaled."""
    return channel_statistics(dict(latents.summary)) if recipe.diffusion.whiten else NO_WHITENING


def draw(
    denoiser: UNet,
    recipe: Recipe,
    seeds: Sequence[int],
    device: torch.device,
    *,
    thresholds: Sequence[float] | None = None,
    snapshots: Sequence[int] = (),
) -> SamplingTrace:
    """Latents of these image seeds, as the denoiser sees them (whitened, where it was trained so)."""
    size = recipe.latent_size
    denoiser.to(device)
    return sample(
        denoiser,
        initial_noise(seeds, (recipe.vae.latent_channels, size, size)).to(device),
        seeds=seeds,
        diffusion=recipe.diffusion,
        config=recipe.sampling,
        thresholds=thresholds,
        snapshots=snapshots,
    )


def rung_score(
    recipe: Recipe,
    vae: Entry,
    latents: Entry,
    reference: Entry,
    seed: int,
    execution: Execution,
    weights: InceptionWeights,
) -> Score:
    """Measures a denoiser in training: a few images without early stop, against the reference."""
    real = Reference.load(reference.folder)
    autoencoder, statistics = load_vae(vae, recipe), scaling(recipe, latents)
    seeds = image_seeds(seed, recipe.evaluation.rung_samples)

    def score(denoiser: UNet) -> dict[str, float]:
        device = execution.prepare()
        trace = draw(denoiser, recipe, seeds, device, thresholds=(0.0,))
        images = decoded_bytes(autoencoder, statistics.unwhitened(trace.latents[0].cpu()), device).numpy()
        features = extractor(weights, str(device)).features(images)
        scores = distances(features, real, recipe.evaluation)
        return {f"rung/{name}": value for name, value in scores.items()}

    return score


def samples_stage(
    folder: Path, recipe: Recipe, vae: Entry, latents: Entry, denoiser: Entry, seed: int, execution: Execution
) -> dict[str, Any]:
    """Generates the images of every threshold of the grid in one pass; each distinct image is kept once."""
    device = execution.prepare()
    thresholds = recipe.sampling.thresholds
    autoencoder, statistics = load_vae(vae, recipe), scaling(recipe, latents)
    started = time.monotonic()
    trace = draw(
        load_denoiser(denoiser, recipe),
        recipe,
        image_seeds(seed, recipe.evaluation.samples),
        device,
        thresholds=thresholds,
        snapshots=evaluations_at(TRAJECTORY, recipe),
    )
    sampled = time.monotonic()
    # Thresholds under which a sample stops at the same step share its image.
    flat = trace.latents.flatten(0, 1).cpu()
    count = trace.latents.shape[1]
    owners: dict[tuple[int, int], int] = {}
    index = torch.empty(len(thresholds), count, dtype=torch.int64)
    chosen: list[int] = []
    for k in range(len(thresholds)):
        for i in range(count):
            place = owners.setdefault((i, int(trace.steps_used[k, i])), len(chosen))
            if place == len(chosen):
                chosen.append(k * count + i)
            index[k, i] = place
    images = decoded_bytes(autoencoder, statistics.unwhitened(flat[chosen]), device)
    save_tensors(
        folder / "samples.safetensors", {"images": images, "index": index, "steps": trace.steps_used.to(torch.int64)}
    )
    shown = [
        (
            t,
            latent[0].cpu().numpy(),
            decoded_bytes(autoencoder, statistics.unwhitened(x0[:1].cpu()), device)[0].numpy(),
        )
        for t, latent, x0 in trace.snapshots
    ]
    save_figure(folder, "trajectory", figures.denoising_trajectory(shown))
    evaluations = int(trace.steps_used.max(dim=0).values.sum())
    return {
        "thresholds": list(thresholds),
        "distinct": len(images),
        "sampling_seconds": sampled - started,
        "seconds_per_step": (sampled - started) / max(1, evaluations),
        "decoding_seconds_per_image": (time.monotonic() - sampled) / max(1, len(images)),
    }


def evaluation_stage(
    folder: Path,
    dataset: PreparedDataset,
    recipe: Recipe,
    vae: Entry,
    denoiser: Entry,
    samples: Entry,
    reference: Entry,
    split: str,
    execution: Execution,
    weights: InceptionWeights,
) -> dict[str, Any]:
    """Measures and shows the images of every threshold, and the autoencoder on the slices of ``split``."""
    device = execution.prepare()
    tensors, _ = load_tensors(samples.file("samples.safetensors"))
    images, index, steps = (tensors[name].numpy() for name in ("images", "index", "steps"))
    features = extractor(weights, str(device)).features(images)
    real, training = Reference.load(reference.folder), split_slices(dataset, recipe.data, "train")
    held_out = torch.from_numpy(split_slices(dataset, recipe.data, split).images)
    reconstruction, _ = reconstructed(load_vae(vae, recipe), held_out, device)
    timing = samples.summary
    points = []
    for k, threshold in enumerate(timing["thresholds"]):
        metrics = evaluate_generated(
            images[index[k]],
            features[index[k]],
            real,
            training.images,
            recipe.evaluation,
            steps_used=steps[k],
            seconds=timing["seconds_per_step"] * float(steps[k].sum())
            + timing["decoding_seconds_per_image"] * len(index[k]),
        )
        points.append({"threshold": threshold, "metrics": finite(metrics | reconstruction)})
        generated = images[index[k]][:SHOWN]
        save_figure(folder, figure_of(threshold), figures.generated_beside_real(generated, real.images[:SHOWN]))
    records = denoiser.json(RECORDS)
    save_figure(folder, "diffusion_training", figures.training_curves(records, stage="diffusion"))
    if len(points) > 1:
        curve = [{"threshold": point["threshold"], **point["metrics"]} for point in points]
        save_figure(folder, "early_stop", figures.quality_against_threshold(curve))
    return {"points": points}


def figure_of(threshold: float) -> str:
    """The name of the picture of images generated under this early-stop threshold."""
    return f"generated_threshold_{threshold:g}"


def evaluations_at(timesteps: Sequence[int], recipe: Recipe) -> list[int]:
    """The numbers of the denoiser's evaluations (from 0) that come nearest to these timesteps."""
    visited = np.asarray(sampling_timesteps(recipe.diffusion.timesteps, recipe.sampling.steps))
    return sorted({int(np.abs(visited - t).argmin()) for t in timesteps})


def image_seeds(seed: int, count: int) -> list[int]:
    """The seeds of the images that a run is measured by."""
    return [derived_seed(seed, "image", number) for number in range(count)]


def measured(evaluation: Entry, recipe: Recipe) -> dict[str, float]:
    """The measurements of a configuration's own early-stop threshold, and its autoencoder's."""
    own = recipe.sampling.early_stop_threshold
    return dict(next(point["metrics"] for point in evaluation.summary["points"] if point["threshold"] == own))


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """What can be stored as JSON and shown."""
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def spread(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` indices at equal distances in ``range(count)``."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(wanted, count))}) if count else []


def save_figure(folder: Path, name: str, figure: Figure) -> None:
    """Writes ``figures/<name>.png`` below ``folder``."""
    (folder / FIGURES).mkdir(exist_ok=True)
    figure.savefig(folder / FIGURES / f"{name}.png", dpi=100, metadata={"Software": "latentsweep"})


@functools.lru_cache(maxsize=1)
def extractor(weights: InceptionWeights, device: str) -> InceptionExtractor:
    """The Inception network, loaded once a process."""
    return InceptionExtractor(weights, device)


def replayed(entry: Entry, *, rungs: bool = True) -> list[Record]:
    """The records of a finished training, the scores at its rungs left out if asked."""
    records: list[Record] = entry.json(RECORDS)
    if rungs:
        return records
    return [{name: value for name, value in r.items() if not name.startswith("rung/")} for r in records]
