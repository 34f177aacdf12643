"""The autoencoder's loss: how far a reconstruction is from its slice (pixels, structure, gradients), and the KL.

Slices and reconstructions are (B, 1, H, W) in [-1, 1]; every loss is a scalar in float32, a mean over the batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.autoencoder.vae import VaeConfig
from trainables.errors import ConfigError
from trainables.measures.structure import multiscale_similarity

Fidelity = Callable[[Tensor, Tensor], Tensor]
"""A loss of slices and their reconstructions."""

CHARBONNIER_EPSILON = 1e-3
"""Where Charbonnier's loss turns from a parabola into the L1, in units of [-1, 1] (Lai et al. 2017)."""


def charbonnier(reconstructions: Tensor, images: Tensor) -> Tensor:
    """Mean of √((x̂ − x)² + ε²) over pixels (Charbonnier et al. 1994); an L1 that is smooth at 0, where it is ε."""
    return ((reconstructions - images).square() + CHARBONNIER_EPSILON**2).sqrt().mean()


def gradient_difference(reconstructions: Tensor, images: Tensor) -> Tensor:
    """L1 between the finite differences of both along rows and along columns, the sum of the two means.

    Mathieu et al. 2016, eq. 6 with α = 1, but of signed differences: an edge of the wrong sign counts as wrong.
    """
    error = reconstructions - images
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def structural_dissimilarity(reconstructions: Tensor, images: Tensor) -> Tensor:
    """1 − MS-SSIM (Wang et al. 2003; as a loss Zhao et al. 2017), on [0, 1]; the mean over the batch."""
    return 1 - multiscale_similarity((reconstructions + 1) / 2, (images + 1) / 2).mean()


PIXEL_LOSSES: dict[str, Fidelity] = {"mse": F.mse_loss, "l1": F.l1_loss, "charbonnier": charbonnier}
"""Losses of ``vae.reconstruction_loss``, each a mean over pixels."""


def fidelity(config: VaeConfig) -> Fidelity | None:
    """The reconstruction's part of the loss: its pixel loss and the weighted others; None for the plain MSE."""
    terms: list[tuple[float, Fidelity]] = [(1.0, PIXEL_LOSSES[config.reconstruction_loss])]
    terms += [(config.ms_ssim_weight, structural_dissimilarity), (config.gradient_weight, gradient_difference)]
    used = [(weight, loss) for weight, loss in terms if weight]
    if used == [(1.0, F.mse_loss)]:
        return None

    def weighted(reconstructions: Tensor, images: Tensor) -> Tensor:
        return torch.stack([weight * loss(reconstructions, images) for weight, loss in used]).sum()

    return weighted


def vae_loss(
    images: Tensor,
    reconstructions: Tensor,
    mean: Tensor,
    log_variance: Tensor,
    *,
    kl_weight: float | Tensor,
    kl_reduction: str,
    fidelity: Fidelity | None = None,
) -> dict[str, Tensor]:
    """The ``loss`` and its parts, named as in :func:`vae_loss_names`; scalars in float32.

    The loss is ``fidelity`` + β·KL, the fidelity by default the MSE; ``reconstruction`` is the MSE in any case, a
    mean over pixels, and ``kl`` has no weight. ``images`` and ``reconstructions`` (B, 1, H, W); ``mean`` and
    ``log_variance`` (B, C, h, w). KL(N(μ, σ²) ‖ N(0, 1)) = ½(μ² + σ² − 1 − log σ²) (Kingma & Welling 2014,
    appendix B) is reduced over a latent as ``kl_reduction`` says, 'sum' or 'mean', and averaged over the batch.
    """
    images, reconstructions = images.float(), reconstructions.float()
    mse = F.mse_loss(reconstructions, images)
    mean, log_variance = mean.float(), log_variance.float()
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1)
    match kl_reduction:
        case "sum":
            kl = divergence.sum(dim=1).mean()
        case "mean":
            kl = divergence.mean()
        case _:
            raise ConfigError(f"kl_reduction must be sum or mean, got {kl_reduction!r}")
    if fidelity is None:
        return {"loss": mse + kl_weight * kl, "reconstruction": mse, "kl": kl}
    distance = fidelity(reconstructions, images)
    return {"loss": distance + kl_weight * kl, "reconstruction": mse, "kl": kl, "fidelity": distance}


def vae_loss_names(fidelity: Fidelity | None) -> tuple[str, ...]:
    """What :func:`vae_loss` names, in its order; ``fidelity`` only where it isn't the MSE."""
    return ("loss", "reconstruction", "kl", "fidelity")[: 3 if fidelity is None else 4]
