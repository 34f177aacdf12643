"""Images of a trained denoiser, under every early-stop threshold in one pass."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentsweep.stages.conditions import training_conditions
from latentsweep.stages.context import WEIGHTS, Context, save_figure
from latentsweep.stages.denoiser import draw, image_seeds, load_average, load_guide
from latentsweep.stages.latents import scaling
from latentsweep.stages.table import DENOISER, LATENTS, VAE
from latentsweep.stages.vae import load_vae
from trainables import figures
from trainables.autoencoder.training import decode_to_bytes
from trainables.data.images import apart
from trainables.denoiser.sampling import sampling_timesteps
from trainables.errors import DivergenceError
from trainables.loop.checkpoint import save_tensors
from trainables.recipes import Recipe

IMAGES = "samples.safetensors"
"""The file of the images (and masks), their latents, which of them each threshold has, how far from its end each."""

TRAJECTORY = (1000, 800, 600, 400, 200, 100, 50)
"""The timesteps at which a denoising trajectory is shown, before its end at 0."""


def generate(context: Context, folder: Path) -> dict[str, Any]:
    """Generates the images of every threshold of the grid in one pass; each distinct image is kept once.

    Every sample goes on to the sampler's end, so that it is known how far from it each one stopped (``remaining``).
    """
    recipe, device, latents = context.recipe, context.execution.prepare(), context.obtain(LATENTS)
    thresholds = recipe.sampling.thresholds
    autoencoder, statistics = load_vae(context.obtain(VAE).file(WEIGHTS), recipe), scaling(recipe, latents)
    denoiser = context.obtain(DENOISER)
    started = time.monotonic()
    trace = draw(
        load_average(denoiser, recipe),
        recipe,
        image_seeds(context.seed, recipe.evaluation.samples),
        device,
        guide=load_guide(denoiser, recipe),
        thresholds=tuple(sorted({0.0, *thresholds})),
        snapshots=evaluations_at(TRAJECTORY, recipe),
        **training_conditions(recipe, latents),
    )
    sampled = time.monotonic()
    rows = [trace.thresholds.index(threshold) for threshold in thresholds]
    # Thresholds under which a sample stops at the same step share its image.
    flat, steps_used = trace.latents[rows].flatten(0, 1).cpu(), trace.steps_used[rows]
    count = trace.latents.shape[1]
    owners: dict[tuple[int, int], int] = {}
    index = torch.empty(len(thresholds), count, dtype=torch.int64)
    chosen: list[int] = []
    for k in range(len(thresholds)):
        for i in range(count):
            place = owners.setdefault((i, int(steps_used[k, i])), len(chosen))
            if place == len(chosen):
                chosen.append(k * count + i)
            index[k, i] = place
    generated = statistics.unwhiten(flat[chosen])
    if not generated.isfinite().all():
        raise DivergenceError(
            "sampling left the finite numbers: lower diffusion.learning_rate", step=recipe.diffusion.steps
        )
    images, masks = apart(decode_to_bytes(autoencoder, generated, device))
    tensors = {
        "images": images,
        **({} if masks is None else {"masks": masks}),
        "latents": generated,
        "index": index,
        "steps": steps_used,
    }
    tensors["remaining"] = trace.remaining()[rows]
    if trace.positions is not None:
        tensors["positions"] = trace.positions
    if trace.lesions is not None:
        tensors["lesions"] = trace.lesions
    if trace.categories is not None:
        tensors["categories"] = trace.categories
    save_tensors(folder / IMAGES, tensors)
    last = trace.latents[:1, 0].cpu()
    path = [(t, latent.cpu(), x0.cpu()) for t, latent, x0 in trace.snapshots] + [(0, last, last)]
    ends = statistics.unwhiten(torch.cat([x0 for _, _, x0 in path]))
    estimates, _ = apart(decode_to_bytes(autoencoder, ends, device))
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
