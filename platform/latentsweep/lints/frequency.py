"""Lints of a recipe's frequency loss: whether it does anything, and whether it moves what a denoiser is to learn.

Legend: latents (B, C, h, w).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from latentsweep.lints.finding import Finding, finding

if TYPE_CHECKING:
    import torch

    from trainables.recipes import Recipe

PROPORTIONAL = 0.01
"""A gradient is taken for a multiple of the MSE's when its direction and factor differ by less than this share."""
PROBES = 16
RARE, BURIED = 0.2, 0.02
"""The share of latents that have a wave, and the SNR at which it is asked what a loss keeps of it: so low that none
tells which latents have it, and the posterior mean is the share itself."""
SHARES, CONTENTS = 200, 4
MOVED, FAR_MOVED = 0.05, 0.25
"""The shares of the posterior mean by which the minimiser of a frequency loss is off, and by which that of the whole
loss is when it is worth a warning."""


def inert(recipe: Recipe) -> Finding | None:
    """Whether the frequency loss is a multiple of the MSE: frequency-inert."""
    config = recipe.diffusion
    if not config.frequency_weight:
        return None
    factor, deviation = frequency_proportion(recipe)
    if not deviation < PROPORTIONAL:
        return None
    evidence = (
        f"the gradient of {config.frequency_loss} is {factor:.4g} times that of the MSE on {PROBES} random errors, "
        f"within {deviation:.1g} of it; "
    )
    if config.loss_weighting == "none" or config.frequency_weighting == "loss":
        total = 1 + config.frequency_weight * factor
        evidence += (
            f"with weight {config.frequency_weight:g} the loss is {total:.4g} times the MSE, and AdamW forgets "
            "constants"
        )
        if config.gradient_clip:
            evidence += (
                f"; only diffusion.gradient_clip={config.gradient_clip:g} sees them, and cuts the MSE's gradient "
                f"from a norm of {config.gradient_clip / total:.3g} on"
            )
    else:
        evidence += (
            f"with weight {config.frequency_weight:g} beside {config.loss_weighting} it only adds "
            f"{config.frequency_weight * factor:.4g} to every timestep's weight, and nothing about frequencies"
        )
    return finding("frequency-inert", evidence)


def biased(recipe: Recipe) -> Finding | None:
    """Whether the frequency loss has another minimiser than the posterior mean: frequency-biased."""
    config = recipe.diffusion
    if not config.frequency_weight:
        return None
    alone, together = kept_amplitudes(recipe)
    if abs(alone - RARE) < MOVED * RARE:
        return None
    return finding(
        "frequency-biased",
        f"of a wave that {RARE:.0%} of latents have, at an SNR of {BURIED:g}, the posterior mean has {RARE:g} of the "
        f"amplitude, and the minimiser of {config.frequency_loss} {alone:.3f}; with weight "
        f"{config.frequency_weight:g} (frequency_weighting {config.frequency_weighting}) that of the whole loss has "
        f"{together:.3f}",
        "warning" if abs(together - RARE) > FAR_MOVED * RARE else "note",
    )


def frequency_proportion(recipe: Recipe) -> tuple[float, float]:
    """How the gradient of the recipe's frequency loss compares with that of the MSE, on seeded random errors.

    Returns the mean factor between the two and how far they are from being proportional: the larger of the
    factor's relative spread between errors and the share of the gradient that points elsewhere. The errors are
    white and smooth, of sizes 0.03 to 3, so that no loss passes for the MSE by chance.
    """
    import torch
    from torch.nn import functional as F

    from trainables.denoiser.losses import frequency_loss
    from trainables.loop.draws import generator

    random = generator(0, "lint", "frequency")
    shape = (PROBES, recipe.vae.latent_channels, recipe.latent_size, recipe.latent_size)
    wanted, errors = torch.randn(shape, generator=random), torch.randn(shape, generator=random)
    errors[::2] = F.avg_pool2d(errors[::2], 3, stride=1, padding=1)
    errors = errors * torch.logspace(-1.5, 0.5, PROBES)[:, None, None, None]
    output = (wanted + errors).requires_grad_()
    loss = frequency_loss(recipe.diffusion)(output, wanted)
    (gradient,) = torch.autograd.grad(loss.sum(), output)
    (reference,) = torch.autograd.grad((output - wanted).square().mean(dim=(1, 2, 3)).sum(), output)
    gradient, reference = gradient.flatten(1).double(), reference.flatten(1).double()
    factors = (gradient * reference).sum(1) / reference.square().sum(1)
    elsewhere = (gradient - factors[:, None] * reference).norm(dim=1) / gradient.norm(dim=1)
    spread = factors.std() / factors.mean().abs()
    return float(factors.mean()), float(torch.maximum(spread, elsewhere.max()))


def kept_amplitudes(recipe: Recipe) -> tuple[float, float]:
    """How much of a rare wave the minimisers of the recipe's frequency loss, and of all its loss with an MSE, keep.

    The results are shares of the wave's amplitude, to 1/:data:`SHARES`. :data:`RARE` of latents have the wave, whose
    coefficient has the modulus 1 of white latents; the others have nothing at its frequency. The rest of a latent is
    white, and no prediction knows it. At an SNR of :data:`BURIED` a prediction has the same share for all latents. A
    loss that is quadratic in the error is least at the posterior mean, :data:`RARE`.
    """
    import torch

    from trainables.denoiser.losses import sum_losses
    from trainables.denoiser.process import target
    from trainables.loop.draws import generator

    config, side = recipe.diffusion.replace(loss_power=2.0), recipe.latent_size
    rest, z_t = torch.randn((2, CONTENTS, 1, side, side), generator=generator(0, "lint", "minimiser"))
    spectrum = torch.fft.fft2(rest)
    spectrum[..., 0, [1 % side, -1 % side]] = 0
    rest = torch.fft.ifft2(spectrum).real
    wave = (2 / side * torch.cos(2 * math.pi * torch.arange(side) / side)).expand_as(rest)
    alpha_bar = torch.full((SHARES * CONTENTS,), BURIED / (1 + BURIED))
    shares = ((torch.arange(SHARES) + 0.5) / SHARES).requires_grad_()

    def predicted(z0: torch.Tensor) -> torch.Tensor:
        """What the network would say to z_t for (1 or SHARES, CONTENTS, 1, h, w) z₀."""
        every = z0.expand(SHARES, *rest.shape).flatten(0, 1)
        noise = (z_t.repeat(SHARES, 1, 1, 1) - alpha_bar[0].sqrt() * every) / (1 - alpha_bar[0]).sqrt()
        return target(every, noise, alpha_bar, config.prediction)

    output = predicted(shares.view(-1, 1, 1, 1, 1) * wave)
    cases = ((RARE, predicted((wave + rest)[None])), (1 - RARE, predicted(rest[None])))
    costs = [weight * sum_losses(config, output, wanted, alpha_bar) for weight, wanted in cases]
    together, _, alone = torch.stack(costs).sum(0)

    def least(cost: torch.Tensor) -> float:
        # Slopes and not values, since focal's weights have no gradient.
        (slopes,) = torch.autograd.grad(cost, shares, retain_graph=True)
        rise = torch.cat((torch.zeros(1), slopes.cumsum(0)))
        return float(rise.argmin()) / SHARES

    return least(alone), least(together)
