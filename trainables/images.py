"""Slices as tensors: which ones, at what size, and in what range."""

from __future__ import annotations

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


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Slices uint8 (N, S, S) reduced by area to uint8 (N, size, size); at equal sizes ``images`` itself.

    Raises :class:`ConfigError` where ``size`` is larger than S.
    """
    side = images.shape[-1]
    check_size(size, side)
    if side == size:
        return images
    reduced = F.interpolate(torch.from_numpy(images).float().unsqueeze(1), size=(size, size), mode="area")
    result: np.ndarray = reduced.squeeze(1).round().clamp(0, 255).to(torch.uint8).numpy()
    return result


def check_size(size: int, prepared: int) -> None:
    """Raises :class:`ConfigError` where ``size`` is larger than the prepared slices, which are never enlarged."""
    if size > prepared:
        raise ConfigError(f"data.image_size must be at most the prepared {prepared} pixels, got {size}")


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """uint8 (N, H, W) in 0..255 to float32 (N, 1, H, W) in [-1, 1]."""
    return images.unsqueeze(1).float() / 127.5 - 1.0


def to_bytes(images: torch.Tensor) -> torch.Tensor:
    """float (N, 1, H, W) in [-1, 1] to uint8 (N, H, W) in 0..255, rounded."""
    return ((images.float().squeeze(1).clamp(-1, 1) + 1.0) * 127.5).round().to(torch.uint8)
