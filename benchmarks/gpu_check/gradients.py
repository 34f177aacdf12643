"""Every loss, and both networks, on the CPU and on the card: the same values and the same gradients in fp32."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpu_check.notes import Notes
from gpu_check.trainings import RECIPE, awake
from trainables.autoencoder.discriminator import PatchDiscriminator, hinge_loss
from trainables.autoencoder.losses import PIXEL_LOSSES, gradient_difference, structural_dissimilarity, vae_loss
from trainables.autoencoder.settings import VaeConfig
from trainables.autoencoder.vae import Autoencoder, sample_posterior
from trainables.denoiser.augmentation import label_width
from trainables.denoiser.condition import Condition
from trainables.denoiser.losses import FREQUENCY_LOSSES
from trainables.denoiser.unet import UNet

CLOSE, CLOSE_NETWORKS = 1e-4, 1e-3
"""Tolerances of losses and of networks: the norm of a difference over the norm of what the CPU computed. fp32 rounds
at 6e-8, and sums of thousands of products in another order leave about 1e-6; a layer's Winograd convolutions leave
some 1e-5, and there are 50 layers. TF32 rounds at 5e-4 in each."""

BATCH, SIDE = 4, 64
"""Samples, and the side of their images."""

Loss = Callable[..., Tensor]
"""A loss of some tensors, to be summed."""


def compare_losses(notes: Notes, device: torch.device) -> None:
    """Each loss of made-up tensors, and its gradients by them."""
    worst = 0.0
    for name, loss, tensors in losses():
        off = differences(loss, tensors, device)
        notes.measure(f"gradients.{name}_relative", off, computed=True)
        worst = max(worst, off)
    notes.check(f"values and gradients of every loss differ by at most {CLOSE:g}", worst <= CLOSE, computed=True)


def compare_networks(notes: Notes, device: torch.device) -> None:
    """Both networks' and the discriminator's gradients by all their weights."""
    worst = 0.0
    for name, network, loss in networks():
        off = difference_of_network(network, loss, device)
        notes.measure(f"gradients.{name}_relative", off, computed=True)
        worst = max(worst, off)
    notes.check(
        f"gradients of the networks differ by at most {CLOSE_NETWORKS:g}", worst <= CLOSE_NETWORKS, computed=True
    )


def losses() -> Iterator[tuple[str, Loss, Sequence[Tensor]]]:
    """Each loss by its name, with the tensors that it takes, on the CPU."""
    random = torch.Generator().manual_seed(2)
    side = RECIPE.latent_size
    shape = (BATCH, RECIPE.vae.latent_channels, side, side)
    prediction, target = (torch.randn(shape, generator=random) for _ in range(2))
    for name, frequency in FREQUENCY_LOSSES.items():
        yield name, frequency, (prediction, target)
    images, others = (torch.rand(BATCH, 1, SIDE, SIDE, generator=random) * 2 - 1 for _ in range(2))
    reconstructions = 0.7 * images + 0.3 * others
    terms = {**PIXEL_LOSSES, "ms_ssim": structural_dissimilarity, "gradient": gradient_difference}
    for name, term in terms.items():
        yield name, term, (reconstructions, images)
    for reduction in ("sum", "mean"):
        yield f"kl_{reduction}", partial(divergence, reduction), (prediction, target)


def divergence(reduction: str, mean: Tensor, log_variance: Tensor) -> Tensor:
    """The KL term of the autoencoder's loss."""
    nothing = mean.new_zeros(len(mean), 1, 1, 1)
    config = VaeConfig(kl_reduction=reduction)
    return vae_loss(config, nothing, nothing, mean, log_variance, kl_weight=1.0)["kl"]


def networks() -> Iterator[tuple[str, nn.Module, Callable[[nn.Module, torch.device], Tensor]]]:
    """Each network by its name, on the CPU, with a loss of it."""
    random = torch.Generator().manual_seed(3)
    side = RECIPE.latent_size
    latents = torch.randn(BATCH, RECIPE.vae.latent_channels, side, side, generator=random)
    images, reconstructions = (torch.rand(BATCH, 1, SIDE, SIDE, generator=random) * 2 - 1 for _ in range(2))
    t = torch.randint(RECIPE.diffusion.timesteps, (BATCH,), generator=random)
    noise = torch.randn(
        BATCH,
        RECIPE.vae.latent_channels,
        SIDE // RECIPE.vae.compression,
        SIDE // RECIPE.vae.compression,
        generator=random,
    )

    labels = torch.rand(BATCH, label_width(RECIPE.diffusion), generator=random)

    def denoising(network: nn.Module, device: torch.device) -> Tensor:
        told = Condition(augmentation=labels.to(device))
        return F.mse_loss(network(latents.to(device), t.to(device), condition=told), latents.to(device))

    def reconstructing(network: nn.Module, device: torch.device) -> Tensor:
        assert isinstance(network, Autoencoder)
        mean, log_variance = network.encode(images.to(device))
        decoded = network.decode(sample_posterior(mean, log_variance, noise.to(device)))
        config = VaeConfig(kl_reduction="mean")
        terms = vae_loss(config, images.to(device), decoded, mean, log_variance, kl_weight=1e-3)
        return terms["loss"]

    def telling_apart(network: nn.Module, device: torch.device) -> Tensor:
        return hinge_loss(network(images.to(device)), network(reconstructions.to(device)))

    torch.manual_seed(4)
    diffusion = RECIPE.diffusion.replace(dropout=0.0)
    yield "unet", awake(UNet(RECIPE.vae.latent_channels, diffusion), 4), denoising
    yield "autoencoder", awake(Autoencoder(RECIPE.vae), 4), reconstructing
    yield "discriminator", PatchDiscriminator(), telling_apart


def differences(loss: Loss, tensors: Sequence[Tensor], device: torch.device) -> float:
    """The larger of the relative differences of a loss's values and of its gradients."""

    def on(where: torch.device) -> tuple[Tensor, Tensor]:
        leaves = [tensor.to(where).requires_grad_() for tensor in tensors]
        values = loss(*leaves)
        gradients = torch.autograd.grad(values.sum(), leaves)
        return values.detach(), torch.cat([gradient.flatten() for gradient in gradients])

    theirs, ours = on(torch.device("cpu")), on(device)
    return max(relative(mine, other) for mine, other in zip(ours, theirs, strict=True))


def difference_of_network(
    network: nn.Module, loss: Callable[[nn.Module, torch.device], Tensor], device: torch.device
) -> float:
    """The relative difference of the gradients by all weights."""

    def on(where: torch.device) -> Tensor:
        there = copy.deepcopy(network).to(where)
        gradients = torch.autograd.grad(loss(there, where), list(there.parameters()))
        return torch.cat([gradient.flatten() for gradient in gradients])

    return relative(on(device), on(torch.device("cpu")))


def relative(ours: Tensor, theirs: Tensor) -> float:
    """‖ours − theirs‖/‖theirs‖, in float64 on the CPU."""
    exact = theirs.double().cpu()
    return float((ours.double().cpu() - exact).norm() / exact.norm())
