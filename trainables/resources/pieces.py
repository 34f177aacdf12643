"""How long the pieces of which all stages are made take here: a training step, a drawn image, an image's features."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from trainables.autoencoder.training import DECODED_AT_ONCE, decode_to_bytes
from trainables.autoencoder.vae import Autoencoder
from trainables.denoiser.sampling import CHUNK_ON_ACCELERATOR, even_chunk, initial_noise, sample
from trainables.denoiser.unet import denoiser_of
from trainables.loop.settings import Execution
from trainables.measures.downstream.segmenter import train_segmenter
from trainables.measures.inception import CARD_BATCH, CPU_BATCH, InceptionExtractor
from trainables.measures.weights import InceptionWeights
from trainables.recipes import Recipe
from trainables.resources.memory import batch_size
from trainables.resources.timing import PILOT, step_seconds

PIECES = ("vae", "diffusion", "image", "features", "segmentation")
"""A step of the autoencoder and of the denoiser, an image drawn and decoded, the features of an image, a step of a
segmentation network."""

PART, GROWTH = 16, 4
"""Slow steps are timed on the batch's sixteenth, or its quarter, so that none takes more than some seconds."""

NETWORK_STEPS = 4
EVALUATIONS = 2
"""Evaluations of the denoiser for an image; those of the recipe take as many times longer as there are more."""


def piece_seconds(
    piece: str, recipe: Recipe, weights: InceptionWeights, execution: Execution, slices: int, seconds: float
) -> float:
    """Seconds of one of the :data:`PIECES`; a step is timed for about ``seconds``.

    ``slices`` is the size of the training split. Raises :class:`~trainables.errors.CapacityError` where a training
    doesn't fit its memory.
    """
    if piece == "image":
        return drawing_seconds(recipe, execution)
    if piece == "features":
        return measuring_seconds(weights, execution)
    if piece == "segmentation":
        return segmentation_seconds(recipe, execution)
    return bounded_step_seconds(recipe, piece, execution, slices=slices, seconds=seconds)


def bounded_step_seconds(recipe: Recipe, section: str, execution: Execution, *, slices: int, seconds: float) -> float:
    """As :func:`~trainables.resources.timing.step_seconds`, but of parts of the batch where steps are slow.

    From the batch's sixteenth on, parts that are four times as large are timed as long as the last was quick. What
    the largest then lacks of the batch takes as long for each sample as it took from the part before it to that one:
    so what a step takes whatever its batch is counted once. Where one part was timed, all its time is by the sample.
    """
    batch = batch_size(recipe, section, slices)
    part, took, least = max(1, batch // PART), 0.0, 0
    while part < batch:
        before, smaller = took, least
        small = recipe.replace(**{f"{section}.batch_size": part})
        took, least = step_seconds(small, section, execution, slices=slices, seconds=0.0), part
        if PILOT * took > seconds:
            each = min(took / part, max(0.0, took - before) / (part - smaller))
            return took + each * (batch - part)
        part *= GROWTH
    return step_seconds(recipe, section, execution, slices=slices, seconds=seconds)


def drawing_seconds(recipe: Recipe, execution: Execution) -> float:
    """Seconds of an image that no early stop ends, drawn by an untrained denoiser and decoded."""
    device, size = execution.prepare(), recipe.latent_size
    denoiser = denoiser_of(recipe.vae.latent_channels, recipe.diffusion).to(device).eval()
    autoencoder = Autoencoder(recipe.vae, recipe.data.mask)
    evaluations = min(EVALUATIONS, recipe.sampling.steps)
    count = even_chunk(CHUNK_ON_ACCELERATOR, device)  # fewer would be filled up to as many
    seeds, told, named = range(count), torch.zeros(count), len(recipe.diffusion.label_condition)
    noise = initial_noise(seeds, (recipe.vae.latent_channels, size, size)).to(device)

    def draw() -> torch.Tensor:
        return (
            sample(
                denoiser,
                noise,
                seeds=seeds,
                guide=denoiser if recipe.sampling.autoguidance != 1 else None,
                diffusion=recipe.diffusion,
                config=recipe.sampling.replace(steps=evaluations),
                thresholds=(0.0,),
                positions=told if recipe.diffusion.position_condition else None,
                lesions=told if recipe.diffusion.lesion_condition else None,
                categories=torch.zeros(count, named) if named else None,
            )
            .latents[0]
            .cpu()
        )

    drawn = _warm_seconds(draw) * recipe.sampling.steps / evaluations
    decoded = _warm_seconds(lambda: decode_to_bytes(autoencoder, noise[:DECODED_AT_ONCE], device))
    return drawn / count + decoded / DECODED_AT_ONCE


def segmentation_seconds(recipe: Recipe, execution: Execution) -> float:
    """Seconds of a step of a segmentation network."""
    device, config = execution.prepare(), recipe.downstream.replace(steps=NETWORK_STEPS)
    images = np.zeros((config.batch_size, recipe.data.image_size, recipe.data.image_size), dtype=np.uint8)
    began = time.monotonic()
    train_segmenter(config, images, images, seed=0, device=device)
    return (time.monotonic() - began) / NETWORK_STEPS


def measuring_seconds(weights: InceptionWeights, execution: Execution) -> float:
    """Seconds of an image's Inception features."""
    device = execution.prepare()
    extractor = InceptionExtractor(weights, device)
    count = CPU_BATCH if device.type == "cpu" else CARD_BATCH  # fewer would be filled up to as many
    images = np.zeros((count, 64, 64), dtype=np.uint8)
    return _warm_seconds(lambda: extractor.features(images)) / count


def _warm_seconds(compute: Callable[[], object]) -> float:
    """Seconds of a second pass: the first takes longer, as memory is allocated and kernels are chosen in it."""
    compute()
    began = time.monotonic()
    compute()
    return time.monotonic() - began
