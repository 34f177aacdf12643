"""Reconstructions: what the autoencoder keeps of a slice."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentsweep.datasets.slices import Slices
from latentsweep.stages.context import WEIGHTS, Context, save_figure, spread
from latentsweep.stages.latents import posteriors
from latentsweep.stages.real_features import extractor
from latentsweep.stages.results import finite
from latentsweep.stages.table import LATENTS, REAL_FEATURES, VAE
from latentsweep.stages.vae import load_vae
from trainables import figures
from trainables.autoencoder.training import decode_latents, encode_slices
from trainables.autoencoder.vae import Autoencoder
from trainables.data.images import apart, slices_of, to_bytes
from trainables.loop.checkpoint import save_tensors
from trainables.measures.evaluation import compare_reconstructions, evaluate_reconstructions
from trainables.measures.latent_statistics import active_channels, kl_by_channel
from trainables.measures.overlap import evaluate_masks
from trainables.measures.reference import Reference

RECONSTRUCTIONS = "reconstructions.safetensors"


def measure_autoencoder(context: Context, folder: Path) -> dict[str, Any]:
    """Measures and shows the autoencoder alone, on the slices of a split and against them."""
    device, recipe, latents = context.execution.prepare(), context.recipe, context.obtain(LATENTS)
    model = load_vae(context.obtain(VAE).file(WEIGHTS), recipe)
    real = Reference.load(context.obtain(REAL_FEATURES).folder)
    slices = context.slices(context.split)
    held_out = slices.images
    whole = reconstruct(model, slices.learned, device)
    images = slices_of(whole)
    metrics = evaluate_reconstructions(held_out, images.squeeze(1).numpy())
    masks = apart(to_bytes(whole))[1]
    if masks is not None and slices.masks is not None:
        metrics |= evaluate_masks(slices.masks, masks.numpy())
    if len(real.floor_images) > 1:
        floor = with_masks(real.floor_images, context.slices("train")) if recipe.data.mask else real.floor_images
        decoded = apart(to_bytes(reconstruct(model, floor, device)))[0].numpy()
        features = extractor(context.weights, str(device)).features(decoded)
        metrics |= compare_reconstructions(decoded, features, real, recipe.evaluation)
    shown = spread(len(held_out), 8)
    pair = held_out[shown], to_bytes(images[shown]).numpy()
    outlines = None if masks is None or slices.masks is None else (slices.masks[shown], masks.numpy()[shown])
    save_figure(folder, "reconstructions", figures.reconstructions(*pair, masks=outlines))
    save_figure(folder, "latents_autoencoder", figures.latent_diagnostics(*posteriors(latents, context.split)))
    tensors = {"images": to_bytes(images)}
    save_tensors(folder / RECONSTRUCTIONS, tensors if masks is None else {**tensors, "masks": masks})
    mean, log_variance = posteriors(latents, "train")
    return {
        "metrics": finite(metrics),
        "channel_kl": kl_by_channel(mean, log_variance).tolist(),
        "channel_active": active_channels(mean).tolist(),
    }


def reconstruct(model: Autoencoder, slices: np.ndarray, device: torch.device) -> torch.Tensor:
    """The posterior mean's reconstructions (N, 1, H, W) in [-1, 1] of slices uint8 (N, H, W), as
    :func:`~trainables.autoencoder.training.decode_latents` gives them."""
    mean, _ = encode_slices(model, torch.from_numpy(slices), device)
    return decode_latents(model, mean, device)


def with_masks(images: np.ndarray, slices: Slices) -> np.ndarray:
    """Images uint8 (N, H, W) that are among ``slices``, each with its mask: (N, 2, H, W)."""
    assert slices.masks is not None
    places = {sha256(image.tobytes()).digest(): place for place, image in enumerate(slices.images)}
    chosen = [places[sha256(image.tobytes()).digest()] for image in images]
    return np.stack([images, slices.masks[chosen]], axis=1)
