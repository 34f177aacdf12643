"""What a step of the denoiser's training is given: random numbers from the CPU, and the batch that they make.

Legend: B latents of a batch, each (C, h, w); t is 0 … T − 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from trainables.denoiser.augmentation import Moves, cutmix, draw_moves, draw_rectangles, draw_versions
from trainables.denoiser.condition import Condition, draw_dropped, known_categories, known_lesions, known_positions
from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.latents import Latents
from trainables.denoiser.process import add_noise, target
from trainables.denoiser.schedules import TIMESTEP_SAMPLERS
from trainables.loop.draws import batch_indices, generator


class Draws(NamedTuple):
    """What is drawn for an optimiser step; drawing on the CPU gives every device the same numbers."""

    indices: Tensor
    """(B,) int64, the rows of the latents: samples in one of their versions."""
    posterior: Tensor | None
    """(B, C, h, w) standard normal noise of the posterior; None for its mean."""
    noise: Tensor
    """(B, C, h, w) standard normal."""
    t: Tensor
    """(B,) int64."""
    rectangles: Tensor
    """(B, 1, h, w) bool, and below (B,) int64: CutMix's, as ``draw_rectangles`` returns them."""
    partners: Tensor
    moves: Moves | None
    dropped: Tensor | None
    """(B,) bool: of whom the denoiser isn't told position, lesion and labels."""


class NoisyBatch(NamedTuple):
    """What the denoiser gets, and what it is to predict."""

    z_t: Tensor
    """(B, C, h, w)."""
    t: Tensor
    """(B,)."""
    wanted: Tensor
    """(B, C, h, w)."""
    condition: Condition


def draw_step(config: DiffusionConfig, latents: Latents, step: int, seed: int) -> Draws:
    """The draws of optimiser step ``step``, from 0, on the CPU."""
    random = generator(seed, "denoiser", step)
    indices = batch_indices(len(latents), config.batch_size, step, seed, latents.weights)
    count, shape, size = len(indices), (len(indices), *latents.shape), latents.shape[1:]
    posterior = torch.randn(shape, generator=random) if config.posterior == "sample" else None
    noise = torch.randn(shape, generator=random)
    t = TIMESTEP_SAMPLERS[config.timestep_sampling](config, count, random)
    rectangles, partners = draw_rectangles(count, size, config.cutmix_probability, random)
    moving = 0.0 if config.augmented_copies else config.augmentation_probability
    if latents.versions > 1:
        versions = draw_versions(config, count, generator(seed, "versions", step))
        indices = indices + len(latents) * versions
        # No latent of label 0 holds a piece of an altered one.
        altered = versions >= config.versions - config.copies
        rectangles = rectangles & ~altered[partners, None, None, None]
    return Draws(
        indices,
        posterior,
        noise,
        t,
        rectangles,
        partners,
        draw_moves(count, size, moving, generator(seed, "moves", step)) if moving else None,
        draw_dropped(config, count, generator(seed, "condition", step)),
    )


def noisy_batch(config: DiffusionConfig, latents: Latents, schedule: Tensor, draws: Draws) -> NoisyBatch:
    """The batch of these ``draws``, all on one device; ``schedule`` is ᾱ (T,).

    A latent that has another's rectangle keeps its own condition.
    """
    z0, t = latents.draw(draws.indices, draws.posterior), draws.t
    if config.cutmix_form == "z0":
        z0 = cutmix(z0, draws.partners, draws.rectangles)
    z_t = add_noise(z0, draws.noise, schedule[t])
    wanted = target(z0, draws.noise, schedule[t], config.prediction)
    if config.cutmix_form == "zt":
        z_t = cutmix(z_t, draws.partners, draws.rectangles)
    labels = [latents.labels[draws.indices]] if latents.labels is not None and config.copies else []
    if draws.moves is not None:
        # Moving both equals moving the clean latent, since moved noise is noise. It comes after CutMix, so that no
        # latent of label 0 holds a piece of a moved one.
        z_t, wanted, labels = draws.moves.apply(z_t), draws.moves.apply(wanted), [draws.moves.labels]
    if config.tells_cutmix:
        labels.append(draws.rectangles.float().mean(dim=(1, 2, 3))[:, None])
    known = (of(config, latents, draws.indices) for of in (known_positions, known_lesions, known_categories))
    positions, lesions, categories = (
        each if each is None or draws.dropped is None else untold(each, draws.dropped) for each in known
    )
    told = Condition(positions, torch.cat(labels, dim=1) if labels else None, lesion=lesions, categories=categories)
    return NoisyBatch(z_t, t, wanted, told)


def untold(values: Tensor, dropped: Tensor) -> Tensor:
    """The ``values`` (B,) or (B, K) of samples, NaN where ``dropped`` (B,) says that nothing is told."""
    return values.masked_fill(dropped.view(-1, *[1] * (values.ndim - 1)), torch.nan)
