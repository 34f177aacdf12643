"""What a trial needs of a card, and how many trials share one."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from trainables.errors import ConfigError
from trainables.recipes import Recipe
from trainables.unet import UNet
from trainables.vae import Autoencoder

GIB = 2**30
CONTEXT = GIB // 2
"""Memory that CUDA itself and its libraries take in each process."""

DEFAULT_CARD = 6.0
"""The card that a sweep is planned for where nothing else is said, in GiB."""


@dataclass(frozen=True)
class Packing:
    """How trials share the machine."""

    concurrent: int
    threads: int
    gpu_share: float
    """Share of a card for a trial; 0 without CUDA."""
    trial_bytes: int
    card_bytes: int


def packing(recipe: Recipe, *, concurrent: int | None, card_gib: float | None) -> Packing:
    """How many trials run at once and what each gets, from the memory that the larger of its trainings needs.

    Raises :class:`ConfigError` where not even one trial fits the card.
    """
    if card_gib is not None and not card_gib > 0:
        raise ConfigError(f"--card-gib must be above 0, got {card_gib:g}")
    if concurrent is not None and concurrent < 1:
        raise ConfigError(f"--concurrent must be at least 1, got {concurrent}")
    cores = len(os.sched_getaffinity(0))
    need = max(training_bytes(recipe, "vae"), training_bytes(recipe, "diffusion")) + CONTEXT
    cards = torch.cuda.device_count()
    if not cards:
        at_once = min(concurrent or cores, cores)
        return Packing(at_once, max(1, cores // at_once), 0.0, need, 0)
    real = min(torch.cuda.get_device_properties(index).total_memory for index in range(cards))
    card = int(min(real, (card_gib or DEFAULT_CARD) * GIB))
    fit = card // need
    if fit < 1:
        raise ConfigError(
            f"a trial needs {need / GIB:.1f} GiB and the card has {card / GIB:.1f}; "
            "use a smaller diffusion.batch_size or vae.batch_size, or say --card-gib"
        )
    at_once = min(concurrent or fit * cards, fit * cards, cores)
    per_card = math.ceil(at_once / cards)
    return Packing(at_once, max(1, cores // at_once), round(min(1 / per_card, card / real / per_card), 4), need, card)


def training_bytes(recipe: Recipe, section: str) -> int:
    """Peak memory of a training step: weights, gradients, Adam's two moments and the average, activations.

    Activations are counted from the tensors that autograd saves in a forward pass on the meta device, in fp32.
    """
    with torch.device("meta"):
        if section == "vae":
            vae = Autoencoder(recipe.vae)
            batch = torch.empty(recipe.vae.batch_size, 1, recipe.data.image_size, recipe.data.image_size)
            model: nn.Module = vae
            activations = saved_bytes(model, lambda: vae.decode(vae.encode(batch)[0]))
        else:
            model = unet = UNet(recipe.vae.latent_channels, recipe.diffusion)
            count, size = recipe.diffusion.batch_size, recipe.latent_size
            latents = torch.empty(count, recipe.vae.latent_channels, size, size)
            activations = saved_bytes(model, lambda: unet(latents, torch.zeros(count, dtype=torch.int64)))
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return 5 * weights + activations


def saved_bytes(model: nn.Module, forward: Callable[[], object]) -> int:
    """Bytes of the distinct tensors that autograd keeps for the backward pass, the model's own left out."""
    own = {id(parameter) for parameter in model.parameters()}
    kept: dict[int, tuple[torch.Tensor, int]] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in own:
            kept[id(tensor)] = (tensor, tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(size for _, size in kept.values())
