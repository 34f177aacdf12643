"""Slices as tensors: which ones, at what size, and how training augments them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from trainables.config import Config, setting
from trainables.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DataConfig(Config):
    """Which slices a run sees."""

    image_size: int = setting(
        128, "side of the square slice in pixels; prepared slices are reduced to it by area", low=16, high=512
    )
    split: str = setting(
        "subject",
        "'subject' keeps every patient in one split; 'slice' shuffles slices as the paper did, so that "
        "the test set has seen the patients",
        choices=("subject", "slice"),
    )


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """Slices uint8 (N, S, S) reduced by area to uint8 (N, size, size); equal sizes come back as they are.

    Raises :class:`ConfigError` where ``size`` is larger than S, since nothing is to be made up.
    """
    side = images.shape[-1]
    check_size(size, side)
    if side == size:
        return images
    reduced = F.interpolate(torch.from_numpy(images).float().unsqueeze(1), size=(size, size), mode="area")
    result: np.ndarray = reduced.squeeze(1).round().clamp(0, 255).to(torch.uint8).numpy()
    return result


def check_size(size: int, prepared: int) -> None:
    """Raises :class:`ConfigError` where slices of ``size`` would have to be made up from smaller ones."""
    if size > prepared:
        raise ConfigError(f"data.image_size must be at most the prepared {prepared} pixels, got {size}")


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """uint8 (N, H, W) in 0..255 to float32 (N, 1, H, W) in [-1, 1]."""
    return images.unsqueeze(1).float() / 127.5 - 1.0


def to_bytes(images: torch.Tensor) -> torch.Tensor:
    """float (N, 1, H, W) in [-1, 1] to uint8 (N, H, W) in 0..255, rounded."""
    return ((images.float().squeeze(1).clamp(-1, 1) + 1.0) * 127.5).round().to(torch.uint8)


def draw_maps(
    count: int,
    random: torch.Generator,
    *,
    flip_probability: float,
    rotation_degrees: float,
    translation: float,
    scaling: float,
) -> torch.Tensor:
    """A random left-right flip and affine map for each of ``count`` images, (N, 2, 3), as :func:`warp` takes them.

    ``rotation_degrees``, ``translation`` (share of the side) and ``scaling`` are the half-widths of uniform
    distributions.
    """
    uniform = torch.rand(count, 5, generator=random)
    flip = torch.where(uniform[:, 0] < flip_probability, -1.0, 1.0)
    signed = uniform[:, 1:] * 2 - 1
    angle = signed[:, 0] * math.radians(rotation_degrees)
    scale = 1.0 + signed[:, 1] * scaling
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    rows = [
        torch.stack([cosine * flip, -sine, signed[:, 2] * 2 * translation], dim=1),
        torch.stack([sine * flip, cosine, signed[:, 3] * 2 * translation], dim=1),
    ]
    return torch.stack(rows, dim=1)


def warp(images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Images (N, 1, H, W) in [-1, 1] under affine ``maps`` (N, 2, 3) of the result's coordinates; black outside."""
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images + 1.0, grid, mode="bilinear", padding_mode="zeros", align_corners=False) - 1.0
