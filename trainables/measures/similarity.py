"""How alike images are: SSIM and PSNR of pairs, MS-SSIM, and the mean distance within a set.

Everything is measured on the range [0, 1] (``data_range=1``): SSIM's luminance term needs intensities that are
not negative. Images are (N, H, W), uint8 or float in [0, 1]; a result is per image, (N,), where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.loop.watchdog import beat
from trainables.measures.collapse import mean_distance, pairwise_distances
from trainables.measures.structure import exponents

import trainables.measures.torchvision_operators  # noqa: F401  # isort: skip
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

Images = npt.NDArray[np.uint8] | npt.NDArray[np.floating[Any]]
Floats = npt.NDArray[np.float64]

PSNR_CAP = 100.0
"""The largest PSNR in dB, that of identical images, which by its formula is infinite."""

CHUNK = 32


def ssim(first: Images, second: Images) -> Floats:
    """Structural similarity (Wang et al. 2004), an 11×11 Gaussian window of σ = 1.5."""
    return _measure(structural_similarity_index_measure, first, second)


def psnr(first: Images, second: Images) -> Floats:
    """Peak signal-to-noise ratio in dB, at most ``PSNR_CAP``."""
    return np.minimum(_measure(peak_signal_noise_ratio, first, second, dim=(1, 2, 3)), PSNR_CAP)


def ms_ssim(first: Images, second: Images) -> Floats:
    """Multi-scale structural similarity (Wang et al. 2003) over as many scales as the images have room for.

    The coarsest scale keeps at least 16 pixels a side: 1 scale at 16, 2 at 32, 3 at 64, 4 at 128, all 5 from 256 on.
    The weights of these scales are brought to a sum of 1, so that the result is within [0, 1]. Values of different
    image sizes can't be compared.
    """
    betas = exponents(min(first.shape[1:]))
    return _measure(multiscale_structural_similarity_index_measure, first, second, betas=betas, normalize="relu")


def mean_pairwise_distance(images: npt.NDArray[np.uint8]) -> float:
    """Mean over all pairs of different images, of 2 or more, of their root-mean-square difference in [-1, 1]."""
    return mean_distance(pairwise_distances(images))


def mean_similarity(images: npt.NDArray[np.uint8], *, pairs: int, seed: int) -> float:
    """Mean MS-SSIM of at most ``pairs`` seeded pairs of different images: the lower, the more diverse they are."""
    first, second = random_pairs(len(images), limit=pairs, seed=seed).T
    return float(ms_ssim(images[first], images[second]).mean())


def random_pairs(count: int, *, limit: int, seed: int) -> npt.NDArray[np.intp]:
    """At most ``limit`` different pairs (i, j), i < j, of ``count`` things, (P, 2), by seed."""
    first, second = np.triu_indices(count, k=1)
    chosen = np.random.default_rng(seed).permutation(len(first))[:limit]
    return np.stack([first[chosen], second[chosen]], axis=1)


def _measure(function: Callable[..., Any], first: Images, second: Images, **options: Any) -> Floats:
    """A function of torchmetrics on pairs of images, :data:`CHUNK` at a time."""
    values = []
    for start in range(0, len(first), CHUNK):
        pair = (_tensor(images[start : start + CHUNK]) for images in (first, second))
        values.append(function(*pair, data_range=1.0, reduction="none", **options).reshape(-1))
        beat()
    return np.asarray(torch.cat(values).numpy(), dtype=np.float64)


def _tensor(images: Images) -> Tensor:
    """(B, 1, H, W) float32 in [0, 1]."""
    scale = 255 if images.dtype == np.uint8 else 1
    return torch.from_numpy(images.astype(np.float32) / scale)[:, None]
