"""Slices as tensors: at what size, and in what range."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from trainables.data.settings import check_size


def lesions(masks: np.ndarray, size: int, label: int = 0) -> np.ndarray:
    """Masks uint8 (N, size, size), 255 for lesion and 0 elsewhere, of labels uint8 (N, S, S).

    Lesion is ``label``, or with 0 all that isn't 0; a pixel of a smaller ``size`` is lesion where more than half of
    it is. Raises :class:`ConfigError` as :func:`resize`.
    """
    whole = masks == label if label else masks > 0
    halves = np.where(whole, 254, 0).astype(np.uint8)  # whose half, 127, is a whole number: no rounding decides
    found: np.ndarray = np.where(resize(halves, size) > 127, 255, 0).astype(np.uint8)
    return found


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


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """uint8 (N, H, W) in 0..255 to float32 (N, 1, H, W) in [-1, 1]; with their masks, (N, 2, H, W) stays so."""
    return (images if images.dim() == 4 else images.unsqueeze(1)).float() / 127.5 - 1.0


def to_bytes(images: torch.Tensor) -> torch.Tensor:
    """The inverse of :func:`to_unit`: float (N, 1, H, W) in [-1, 1] to uint8 (N, H, W) in 0..255, rounded."""
    return ((images.float().squeeze(1).clamp(-1, 1) + 1.0) * 127.5).round().to(torch.uint8)


def slices_of(images: torch.Tensor) -> torch.Tensor:
    """The slices (N, 1, H, W) of ``images``, without the masks (N, 2, H, W) that may lie behind them."""
    return images if images.shape[1] == 1 else images[:, :1]


def apart(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The slices and the masks, each uint8 (N, H, W), of ``images`` (N, 2, H, W); (N, H, W) are slices without."""
    return (images, None) if images.dim() == 3 else (images[:, 0].contiguous(), images[:, 1].contiguous())


def decided(images: torch.Tensor) -> torch.Tensor:
    """``images`` with masks of 1, where they are above 0, and −1; slices (N, 1, H, W) without masks as they are."""
    if images.shape[1] == 1:
        return images
    return torch.cat([images[:, :1], torch.where(images[:, 1:] > 0, 1.0, -1.0).to(images.dtype)], dim=1)


def affine_maps(
    flip: torch.Tensor, angle: torch.Tensor, scale: torch.Tensor, across: torch.Tensor, down: torch.Tensor
) -> torch.Tensor:
    """Maps (N, 2, 3) for :func:`warp`, of numbers (N,): −1 for a left-right flip or 1, an angle in radians, a factor
    of size, and shifts in halves of the side."""
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    rows = [torch.stack([cosine * flip, -sine, across], dim=1), torch.stack([sine * flip, cosine, down], dim=1)]
    return torch.stack(rows, dim=1)


def warp(images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Images (N, C, H, W) in [-1, 1] under affine ``maps`` (N, 2, 3) of the result's coordinates; black outside."""
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images + 1.0, grid, mode="bilinear", padding_mode="zeros", align_corners=False) - 1.0
