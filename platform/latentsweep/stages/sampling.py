"""Images of a trained denoiser, under every early-stop threshold in one pass."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentsweep.stages.results import (
    SAMPLES,
    image_seeds,
    load_denoiser,
    load_vae,
    save_figure,
    scaling,
    training_positions,
)
from latentsweep.storage.entries import Entry
from trainables import figures
from trainables.autoencoder.training import decoded_bytes
from trainables.denoiser.condition import drawn_positions
from trainables.denoiser.sampling import SamplingTrace, initial_noise, sample, sampling_timesteps
from trainables.denoiser.unet import UNet
from trainables.errors import DivergenceError
from trainables.loop.checkpoint import save_tensors
from trainables.loop.execution import Execution
from trainables.recipes import Recipe

TRAJECTORY = (1000, 800, 600, 400, 200, 100, 50)
"""The timesteps at which a denoising trajectory is shown, before its end at 0."""


def draw(
    denoiser: UNet,
    recipe: Recipe,
    seeds: Sequence[int],
    device: torch.device,
    *,
    thresholds: Sequence[float] | None = None,
    snapshots: Sequence[int] = (),
    positions: torch.Tensor | None = None,
    chunk: int | None = None,
) -> SamplingTrace:
    """Latents of these image seeds, as the denoiser sees them (whitened, where it was trained so).

    ``positions`` are the training split's (:func:`~latentsweep.stages.results.training_positions`); ``chunk`` is that
    of :func:`~trainables.denoiser.sampling.sample`.
    """
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
        positions=None if positions is None else drawn_positions(seeds, positions),
        chunk=chunk,
    )


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
        positions=training_positions(recipe, latents),
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
    generated = statistics.unwhitened(flat[chosen])
    if not generated.isfinite().all():
        raise DivergenceError(
            "sampling left the finite numbers: lower diffusion.learning_rate", step=recipe.diffusion.steps
        )
    images = decoded_bytes(autoencoder, generated, device)
    tensors = {"images": images, "latents": generated, "index": index, "steps": trace.steps_used.to(torch.int64)}
    if trace.positions is not None:
        tensors["positions"] = trace.positions
    save_tensors(folder / SAMPLES, tensors)
    last = trace.latents[:1, 0].cpu()
    path = [(t, latent.cpu(), x0.cpu()) for t, latent, x0 in trace.snapshots] + [(0, last, last)]
    estimates = decoded_bytes(autoencoder, statistics.unwhitened(torch.cat([x0 for _, _, x0 in path])), device)
    shown = [(t, latent[0].numpy(), image.numpy()) for (t, latent, _), image in zip(path, estimates, strict=True)]
    save_figure(folder, "trajectory", figures.denoising_trajectory(shown))
    evaluations = int(trace.steps_used.max(dim=0).values.sum())
    return {
        "thresholds": list(thresholds),
        "distinct": len(images),
        "sampling_seconds": sampled - started,
        "seconds_per_step": (sampled - started) / max(1, evaluations),
        "decoding_seconds_per_image": (time.monotonic() - sampled) / max(1, len(images)),
    }


def evaluations_at(timesteps: Sequence[int], recipe: Recipe) -> list[int]:
    """The numbers of the denoiser's evaluations (from 0) that come nearest to these timesteps."""
    visited = np.asarray(sampling_timesteps(recipe.diffusion.timesteps, recipe.sampling.steps))
    return sorted({int(np.abs(visited - t).argmin()) for t in timesteps})
