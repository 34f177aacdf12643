"""What the denoiser is told beside the timestep: each slice's position in its volume, and how it was augmented.

Legend: B samples. A position is a number from 0, the volume's lowest kept slice, to 1, its highest; NaN says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.latents import Latents
from trainables.errors import DataError
from trainables.loop.seeds import generator


@dataclass(frozen=True)
class Condition:
    """What is known of the samples of a batch; a part that is None is known of none of them."""

    position: Tensor | None = None
    """(B,) float32 in [0, 1], or NaN."""
    augmentation: Tensor | None = None
    """(B, 3) float32, ``augmentation.LABELS``; None where nothing was done, as in sampling."""

    def __getitem__(self, share: slice) -> Condition:
        """The condition of these samples alone."""
        parts = (self.position, self.augmentation)
        return Condition(*(None if part is None else part[share] for part in parts))


NOTHING = Condition()
"""Nothing is known: the unconditional denoiser."""


def no_positions() -> DataError:
    """The error for slices whose place in a volume isn't known."""
    return DataError(
        "diffusion.position_condition needs volumes of two slices or more, and every volume of this data is a single "
        "picture; leave diffusion.position_condition at false"
    )


def check_positions(config: DiffusionConfig, training: Latents) -> None:
    """Raises :class:`DataError` where the denoiser is to be conditioned on positions and no sample has one."""
    if config.position_condition and (training.positions is None or training.positions.isnan().all()):
        raise no_positions()


def draw_dropped(config: DiffusionConfig, batch: int, random: torch.Generator) -> Tensor | None:
    """Whose position the denoiser isn't told in a step, (B,) bool; None for one that isn't conditioned on them.

    Each with ``config.condition_dropout``, so that the same network learns the unconditional distribution
    (Ho & Salimans 2022, algorithm 1).
    """
    if not config.position_condition:
        return None
    return torch.rand(batch, generator=random) < config.condition_dropout


def known_positions(config: DiffusionConfig, latents: Latents, indices: Tensor) -> Tensor | None:
    """The positions (B,) of the samples ``indices`` (B,); None for a denoiser that isn't conditioned on them."""
    if not config.position_condition or latents.positions is None:
        return None
    return latents.positions[indices]


def drawn_positions(seeds: Sequence[int], positions: Tensor) -> Tensor:
    """A position (B,) for each image seed, one of ``positions`` (N,), each as likely.

    From a generator of each seed's own, which the image's noise has no part in.
    """
    choices = [torch.randint(len(positions), (), generator=generator(seed, "position")) for seed in seeds]
    return positions[torch.stack(choices)]


def guided(denoise: Callable[..., Tensor], weight: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A denoiser of z_t, t and positions (B,) with classifier-free guidance.

    null + w·(cond − null), the unconditional output and the conditional one, with ``weight`` w (Ho & Salimans 2022,
    eq. 6, whose w is one less). It holds for ε, v and x₀ alike, which are linear in one another at a given z_t.
    w = 1 is the conditional denoiser alone, at one call of the network; any other takes two.
    """

    def denoised(z_t: Tensor, t: Tensor, position: Tensor) -> Tensor:
        conditional = denoise(z_t, t, condition=Condition(position)).float()
        if weight == 1:
            return conditional
        null = denoise(z_t, t, condition=NOTHING).float()
        return null + weight * (conditional - null)

    return denoised
