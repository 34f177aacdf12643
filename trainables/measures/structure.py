"""Measures with a gradient, for losses: Dice of masks, and MS-SSIM.

MS-SSIM gives the numbers of :mod:`trainables.measures.similarity` in less time, for images float (B, 1, H, W) in
[0, 1]. Windows are applied as products with a band matrix on either side.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the scales, fine to coarse (Wang et al. 2003)."""

SIGMA, REACH = 1.5, 5
"""Spread of SSIM's Gaussian window, and how far it reaches to either side of its centre, in pixels."""

C1, C2 = 0.01**2, 0.03**2
"""Constants of SSIM for intensities in [0, 1] (Wang et al. 2004, eq. 13)."""

FLOOR = 1e-3
"""The least factor of an MS-SSIM, since at 0 the gradient of a power below 1 is infinite."""


def multiscale_similarity(first: Tensor, second: Tensor) -> Tensor:
    """MS-SSIM (B,) over as many scales as the side, at least 16 pixels, has room for: :func:`scales_for`.

    Wang et al. 2003, eq. 7: contrast and structure at every scale, the luminance at the coarsest one, whose borders
    are reflected. No factor is less than ``FLOOR``.
    """
    weights = exponents(min(first.shape[-2:]))
    product = torch.ones(len(first), device=first.device)
    for scale, weight in enumerate(weights):
        if scale:
            first, second = F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)
        factor = _similarity(first, second, whole=scale == len(weights) - 1)
        product = product * factor.mean(dim=(1, 2, 3)).clamp(min=FLOOR) ** weight
    return product


def exponents(side: int) -> tuple[float, ...]:
    """MS-SSIM's exponents for images of this side in pixels, fine to coarse; their sum is 1."""
    weights = MS_SSIM_WEIGHTS[: scales_for(side)]
    return tuple(weight / sum(weights) for weight in weights)


def scales_for(side: int) -> int:
    """How many scales MS-SSIM uses for images of this side in pixels."""
    return max(1, min(len(MS_SSIM_WEIGHTS), (side // 16).bit_length()))


def _similarity(first: Tensor, second: Tensor, *, whole: bool) -> Tensor:
    """SSIM (Wang et al. 2004, eq. 13) at every pixel if ``whole``; else its contrast and structure in the inside."""
    rows, columns = (_windows(side, first.device, reflected=whole) for side in first.shape[-2:])

    def mean(images: Tensor) -> Tensor:
        return rows @ images @ columns.mT

    mean1, mean2 = mean(first), mean(second)
    product, squares = mean1 * mean2, mean1.square() + mean2.square()
    covariance, variances = mean(first * second) - product, mean(first.square() + second.square()) - squares
    structure = (2 * covariance + C2) / (variances + C2)
    return structure * (2 * product + C1) / (squares + C1) if whole else structure


def _windows(side: int, device: torch.device, *, reflected: bool) -> Tensor:
    """Gaussian windows over a line of ``side`` pixels, one a row: those inside it, or one at each of its pixels."""
    margin = REACH if reflected else 0
    pixels = torch.arange(-margin, side + margin, device=device)
    centres = pixels[REACH : len(pixels) - REACH, None]
    distances = (pixels - centres).float()
    windows = torch.exp(-0.5 * (distances / SIGMA).square()) * (distances.abs() <= REACH)
    windows = windows / windows.sum(dim=1, keepdim=True)
    if not reflected:
        return windows
    inside = windows[:, REACH:-REACH]
    inside[:, 1 : REACH + 1] += windows[:, :REACH].flip(1)
    inside[:, side - REACH - 1 : side - 1] += windows[:, -REACH:].flip(1)
    return inside


def mask_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """1 − Dice, and the cross-entropy, of masks (B, 1, H, W) of 1 for lesion and −1: the sum of both means.

    Dice of probabilities p and truth m is (2·Σpm + 1)/(Σp + Σm + 1) over the pixels of each slice (Milletari et al.
    2016; the 1 makes an empty mask that is found empty perfect). The cross-entropy is a mean over pixels.
    """
    truth, found = (masks + 1) / 2, torch.sigmoid(logits)
    both, either = (each.flatten(1).sum(dim=1) for each in (found * truth, found + truth))
    dice = (2 * both + 1) / (either + 1)
    return (1 - dice).mean() + F.binary_cross_entropy_with_logits(logits, truth)
