"""What a step of the autoencoder's training is given: samples, their augmentation, noise and the KL weight."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from trainables.autoencoder.equivariance import draw_turns
from trainables.autoencoder.settings import VaeConfig
from trainables.data.images import affine_maps, decided, reduce_area, to_unit, warp
from trainables.loop.draws import batch_indices, generator


class VaeDraws(NamedTuple):
    """What an optimiser step is given; drawing on the CPU gives every device the same numbers."""

    indices: Tensor
    """(B,) int64, the samples."""
    maps: Tensor
    """(B, 2, 3), the augmentation."""
    noise: Tensor
    """(B, C, h, w) standard normal, the posterior's."""
    kl_weight: Tensor
    """(), the β of this step."""
    disturbance: Tensor | None = None
    """(B, C, h, w), σ·ε of the latents that are decoded, as ``disturb`` takes it."""
    turns: Tensor | None = None
    """(B, 3) bool, the equivariance term's, as :func:`~trainables.autoencoder.equivariance.turn` takes them."""


def steps_per_epoch(config: VaeConfig, slices: int) -> int:
    """Optimiser steps in which a training sees each of its slices about once."""
    return max(1, slices // min(config.batch_size, slices))


def kl_weight(config: VaeConfig, slices: int, step: int) -> float:
    """β at optimiser step ``step``, from 0, of a training on that number of slices."""
    annealed = config.kl_anneal_epochs * steps_per_epoch(config, slices)
    return config.kl_weight * min(1.0, step / max(1, annealed))


def draw_step(config: VaeConfig, slices: int, size: int, step: int, seed: int) -> VaeDraws:
    """The draws of optimiser step ``step``, from 0, on the CPU, for that many slices reduced to side ``size``."""
    random = generator(seed, "vae", step)
    indices = batch_indices(slices, config.batch_size, step, seed)
    count, side = len(indices), size // config.compression
    maps = draw_maps(config, count, random)
    if config.warp_share < 1:
        spared = torch.rand(count, generator=generator(seed, "warp", step)) >= config.warp_share
        maps = torch.where(spared[:, None, None], only_flips(maps), maps)
    noise = torch.randn(count, config.latent_channels, side, side, generator=random)
    return VaeDraws(
        indices,
        maps,
        noise,
        torch.tensor(kl_weight(config, slices, step)),
        draw_disturbance(config.latent_noise, noise.shape, generator(seed, "disturbance", step)),
        draw_turns(count, generator(seed, "turns", step)) if config.equivariance_weight else None,
    )


def augment(slices: Tensor, maps: Tensor, size: int) -> Tensor:
    """Slices uint8 (N, S, S) under ``maps``, then reduced by area: (N, 1, ``size``, ``size``) in [-1, 1].

    With their masks they are (N, 2, S, S), and a pixel is lesion where more than half of it is.
    """
    return decided(reduce_area(warp(to_unit(slices), maps), size))


def draw_disturbance(largest: float, shape: torch.Size, random: torch.Generator) -> Tensor | None:
    """σ·ε of ``shape`` (B, C, h, w): σ uniform in 0 to ``largest`` for each sample, ε standard normal; None for 0."""
    if not largest:
        return None
    sigma = largest * torch.rand(shape[0], 1, 1, 1, generator=random)
    return sigma * torch.randn(shape, generator=random)


def draw_maps(config: VaeConfig, count: int, random: torch.Generator) -> Tensor:
    """A random left-right flip and affine map for each of ``count`` images, (N, 2, 3), as ``warp`` takes them."""
    uniform = torch.rand(count, 5, generator=random)
    flip = torch.where(uniform[:, 0] < config.flip_probability, -1.0, 1.0)
    signed = uniform[:, 1:] * 2 - 1
    angle = signed[:, 0] * math.radians(config.rotation_degrees)
    scale = 1.0 + signed[:, 1] * config.scaling
    return affine_maps(
        flip, angle, scale, signed[:, 2] * 2 * config.translation, signed[:, 3] * 2 * config.translation
    )


def only_flips(maps: Tensor) -> Tensor:
    """The left-right flips of affine ``maps`` (N, 2, 3), those that mirror, without the rest of the map."""
    still = torch.eye(2, 3).repeat(len(maps), 1, 1)
    still[:, 0, 0] = torch.linalg.det(maps[:, :, :2]).sign()
    return still
