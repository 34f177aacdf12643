"""Slices as tensors: which ones, at what size, and in what range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from trainables.config import Config, setting
from trainables.errors import ConfigError
from trainables.folds import Fold


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
    folds: int = setting(
        1,
        "parts of about equal slices into which all subjects are divided; 1: the dataset's own split",
        later=True,
        low=1,
    )
    fold: int = setting(0, "which part, from 0 on, is the test split; of the rest, 15 % validate", later=True, low=0)

    def check(self) -> None:
        if self.fold >= self.folds:
            raise ConfigError(
                f"data.fold must be below data.folds ({self.folds}), since it counts from 0, got {self.fold}; set "
                "data.folds=5 for five folds, 0 to 4 (ablate --folds sets both by itself)"
            )
        if self.folds > 1 and self.split != "subject":
            raise ConfigError(
                f"folds divide subjects, so data.folds={self.folds} needs data.split=subject, got {self.split}; set "
                "data.split=subject, or leave data.folds at 1"
            )

    @property
    def rule(self) -> str | Fold:
        """By what slices are split, as a prepared dataset takes it: ``split``, or a fold."""
        return Fold(self.fold, self.folds) if self.folds > 1 else self.split


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Slices uint8 (N, S, S) reduced by area to uint8 (N, size, size); at equal sizes ``images`` itself.

    Raises :class:`ConfigError` where ``size`` is larger than S.
    """
    side = images.shape[-1]
    check_size(size, side)
    if side == size:
        return images
    reduced = reduce_area(torch.from_numpy(images).float().unsqueeze(1), size)
    result: np.ndarray = reduced.squeeze(1).round().clamp(0, 255).to(torch.uint8).numpy()
    return result


def reduce_area(images: torch.Tensor, size: int) -> torch.Tensor:
    """Images float (N, C, S, S) reduced by area to (N, C, size, size); at equal sizes ``images`` itself."""
    return images if images.shape[-1] == size else F.interpolate(images, size=(size, size), mode="area")


def check_size(size: int, prepared: int, field: str = "data.image_size") -> None:
    """Raises :class:`ConfigError` where ``size`` is larger than the prepared slices, which are never enlarged."""
    if size > prepared:
        raise ConfigError(f"{field} must be at most the prepared {prepared} pixels, got {size}")


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """uint8 (N, H, W) in 0..255 to float32 (N, 1, H, W) in [-1, 1]."""
    return images.unsqueeze(1).float() / 127.5 - 1.0


def to_bytes(images: torch.Tensor) -> torch.Tensor:
    """float (N, 1, H, W) in [-1, 1] to uint8 (N, H, W) in 0..255, rounded."""
    return ((images.float().squeeze(1).clamp(-1, 1) + 1.0) * 127.5).round().to(torch.uint8)


def affine_maps(
    flip: torch.Tensor, angle: torch.Tensor, scale: torch.Tensor, across: torch.Tensor, down: torch.Tensor
) -> torch.Tensor:
    """Maps (N, 2, 3) for :func:`warp`, of numbers (N,): −1 for a left-right flip or 1, an angle in radians, a factor
    of size, and shifts in halves of the side."""
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    rows = [torch.stack([cosine * flip, -sine, across], dim=1), torch.stack([sine * flip, cosine, down], dim=1)]
    return torch.stack(rows, dim=1)


def warp(images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Images (N, 1, H, W) in [-1, 1] under affine ``maps`` (N, 2, 3) of the result's coordinates; black outside."""
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images + 1.0, grid, mode="bilinear", padding_mode="zeros", align_corners=False) - 1.0
