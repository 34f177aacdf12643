"""The autoencoder's loss: how far a reconstruction is from its slice (pixels, structure, gradients), and the KL.

Slices and reconstructions are (B, 1, H, W) in [-1, 1]; every loss is a scalar in float32, a mean over the batch. With
masks, images are (B, 2, H, W): the slice, then the mask, ±1, or for a reconstruction its logits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.autoencoder.settings import VaeConfig
from trainables.config import named_by
from trainables.data.images import slices_of
from trainables.measures.structure import mask_loss, multiscale_similarity

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

TERMS: dict[str, Fidelity] = {"ms_ssim_weight": structural_dissimilarity, "gradient_weight": gradient_difference}
"""Losses beside the pixel loss, each under the field of the configuration that holds its weight.

A new term is its function here, its row in this table, and its field in :class:`VaeConfig`.
"""


def pixel_loss(config: VaeConfig) -> Fidelity:
    """The loss that ``config.reconstruction_loss`` names; one of a plug-in gives (B,), of which this is the mean."""
    loss: Fidelity = named_by(config, "reconstruction_loss", PIXEL_LOSSES)
    if config.reconstruction_loss in PIXEL_LOSSES:
        return loss
    return lambda reconstructions, images: loss(reconstructions, images).mean()


def fidelity(config: VaeConfig) -> Fidelity | None:
    """The reconstruction's part of the loss: its pixel loss and the weighted terms; None for the plain MSE."""
    weighted = [(1.0, pixel_loss(config))]
    weighted += [(getattr(config, field), term) for field, term in TERMS.items()]
    used = [(weight, loss) for weight, loss in weighted if weight]
    if used == [(1.0, F.mse_loss)]:
        return None
    return lambda reconstructions, images: torch.stack(
        [weight * loss(reconstructions, images) for weight, loss in used]
    ).sum()


def vae_loss(
    config: VaeConfig,
    images: Tensor,
    reconstructions: Tensor,
    mean: Tensor,
    log_variance: Tensor,
    *,
    kl_weight: float | Tensor,
) -> dict[str, Tensor]:
    """The ``loss`` and its parts, named as in :func:`vae_loss_names`; scalars in float32.

    The loss is the :func:`fidelity` + β·KL, with ``kl_weight`` β. ``reconstruction`` is the MSE in any case, a mean
    over pixels, and ``kl`` has no weight. ``images`` and ``reconstructions`` are (B, 1, H, W); ``mean`` and
    ``log_variance`` (B, C, h, w). Where they are (B, 2, H, W), ``config.mask_weight`` times :func:`mask_loss`, which
    is ``mask``, joins the loss. KL(N(μ, σ²) ‖ N(0, 1)) = ½(μ² + σ² − 1 − log σ²) (Kingma & Welling 2014,
    appendix B) is reduced over a latent as ``config.kl_reduction`` says, and averaged over the batch.
    """
    whole, decoded = images.float(), reconstructions.float()
    images, reconstructions = slices_of(whole), slices_of(decoded)
    mse = F.mse_loss(reconstructions, images)
    mean, log_variance = mean.float(), log_variance.float()
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1)
    kl = divergence.sum(dim=1).mean() if config.kl_reduction == "sum" else divergence.mean()
    parts = {"reconstruction": mse, "kl": kl}
    if compare := fidelity(config):
        parts["fidelity"] = compare(reconstructions, images)
    loss = parts.get("fidelity", mse) + kl_weight * kl
    if whole.shape[1] > 1:
        parts["mask"] = mask_loss(decoded[:, 1:], whole[:, 1:])
        loss = loss + config.mask_weight * parts["mask"]
    return {"loss": loss, **parts}


def trained_names(config: VaeConfig, masks: bool = False) -> tuple[str, ...]:
    """What a training step computes: :func:`vae_loss`'s parts, and the equivariance term where it has a weight.

    That term has no part in ``loss``, like the adversary's: it says more of the latent than of the slice.
    """
    return (*vae_loss_names(config, masks), *(("equivariance",) if config.equivariance_weight else ()))


def vae_loss_names(config: VaeConfig, masks: bool = False) -> tuple[str, ...]:
    """What :func:`vae_loss` names, in its order; ``fidelity`` where it isn't the MSE, ``mask`` with masks."""
    return ("loss", "reconstruction", "kl", *(("fidelity",) if fidelity(config) else ()), *(("mask",) * masks))
