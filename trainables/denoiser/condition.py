"""What the denoiser is told beside the timestep: a slice's position, lesion, labels, augmentation, an estimate.

Legend: B samples, latents (B, C, h, w). A position is a number from 0, the volume's lowest kept slice, to 1, its
highest; NaN says nothing. A lesion is the number of its size in :data:`LESIONS`; NaN says nothing. A category is its
number among those of its label, of K labels; NaN says nothing. An estimate is an x̂₀ of the denoiser itself; 0 says
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from trainables.denoiser.diffusion import DiffusionConfig, no_positions
from trainables.denoiser.latents import Latents
from trainables.denoiser.process import to_x0_and_noise
from trainables.loop.draws import generator


@dataclass(frozen=True)
class Condition:
    """What the denoiser is told of a batch's samples; a part that is None is told of none of them."""

    position: Tensor | None = None
    """(B,) float32 in [0, 1], or NaN."""
    augmentation: Tensor | None = None
    """(B, L) float32, labels of ``augmentation.Moves`` or of altered copies, and the share that CutMix replaced;
    None where nothing was done, as in sampling."""
    estimate: Tensor | None = None
    """(B, C, h, w) float32."""
    lesion: Tensor | None = None
    """(B,) float32, 0, 1 or 2, or NaN."""
    categories: Tensor | None = None
    """(B, K) float32, below MOST_CATEGORIES, or NaN."""

    def __getitem__(self, share: slice) -> Condition:
        """The condition of these samples alone."""
        parts = (self.position, self.augmentation, self.estimate, self.lesion, self.categories)
        return Condition(*(None if part is None else part[share] for part in parts))


LESIONS = ("none", "small", "large")
"""Sizes of a slice's lesion."""

NOTHING = Condition()
"""Nothing is known: the unconditional denoiser."""


def check_positions(config: DiffusionConfig, training: Latents) -> None:
    """Raises :class:`DataError` where ``config`` asks for positions and no sample has one."""
    if config.position_condition and (training.positions is None or training.positions.isnan().all()):
        raise no_positions()


def draw_dropped(config: DiffusionConfig, batch: int, random: torch.Generator) -> Tensor | None:
    """Of whom the denoiser isn't told position, lesion and labels in a step, (B,) bool; None where it never is.

    Each sample's with ``config.condition_dropout``, so that the network also learns the unconditional distribution
    (Ho & Salimans 2022, algorithm 1).
    """
    if not config.conditional:
        return None
    return torch.rand(batch, generator=random) < config.condition_dropout


def known_positions(config: DiffusionConfig, latents: Latents, indices: Tensor) -> Tensor | None:
    """The positions (B,) of the samples ``indices`` (B,); None where the denoiser isn't conditioned on positions."""
    if not config.position_condition or latents.positions is None:
        return None
    return latents.positions[indices]


def known_lesions(config: DiffusionConfig, latents: Latents, indices: Tensor) -> Tensor | None:
    """The lesions (B,) of the samples ``indices`` (B,); None where the denoiser isn't conditioned on lesions."""
    if not config.lesion_condition or latents.lesions is None:
        return None
    return latents.lesions[indices]


def known_categories(config: DiffusionConfig, latents: Latents, indices: Tensor) -> Tensor | None:
    """The categories (B, K) of the samples ``indices`` (B,); None where the denoiser isn't conditioned on labels."""
    if not config.label_condition or latents.categories is None:
        return None
    return latents.categories[indices]


def lesion_border(shares: Tensor) -> float:
    """The share of a slice up to which a lesion is small: the median of those ``shares`` (N,) above 0, 0 without."""
    lesions = shares[shares > 0]
    return float(lesions.median()) if len(lesions) else 0.0


def lesion_sizes(shares: Tensor, border: float) -> Tensor:
    """The lesion (N,) float32 of slices with ``shares`` (N,) of lesion: 0 for none, 1 up to ``border``, else 2."""
    return (shares > 0).float() + (shares > border).float() * (shares > 0)


def draw_positions(seeds: Sequence[int], positions: Tensor) -> Tensor:
    """A position (B,) for each image seed, one of ``positions`` (N,), by a generator apart from the noise's.

    Lesions (N,) and categories (N, K) of the same slices are drawn so, too: a seed takes all of one slice.
    """
    choices = [torch.randint(len(positions), (), generator=generator(seed, "position")) for seed in seeds]
    return positions[torch.stack(choices)]


def estimated(config: DiffusionConfig, batch: int) -> int:
    """How many samples of a batch, its first ones, get an estimate in training; batches have a random order."""
    return math.ceil(config.self_conditioning * batch)


@torch.no_grad()
def with_estimates(
    config: DiffusionConfig,
    network: nn.Module,
    z_t: Tensor,
    t: Tensor,
    alphas_cumprod_t: Tensor,
    condition: Condition,
    count: int,
) -> Condition:
    """``condition`` with x̂₀ of the first ``count`` samples, by the ``network`` that is told none yet; 0 for the rest.

    The first pass of self-conditioning (Chen et al. 2022, section 3.2 and algorithm 1), at the z_t and t of the
    second. It has no dropout, as sampling has none.
    """
    estimate, chosen = torch.zeros_like(z_t), slice(0, max(0, count))
    if count > 0:
        training = network.training
        network.eval()
        output = network(z_t[chosen], t[chosen], condition=condition[chosen])
        network.train(training)
        estimate[chosen] = to_x0_and_noise(output, z_t[chosen], alphas_cumprod_t[chosen], config.prediction)[0]
    return replace(condition, estimate=estimate)
