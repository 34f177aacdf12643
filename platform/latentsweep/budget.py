"""What a trial needs of a card, and how many trials share one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from trainables.errors import ConfigError
from trainables.execution import cores
from trainables.recipes import Recipe
from trainables.unet import UNet
from trainables.vae import Autoencoder

GIB = 2**30
CONTEXT = GIB // 2
"""Memory that CUDA itself and its libraries take in each process."""

DEFAULT_CARD = 6.0
"""The card that a sweep is planned for where nothing else is said, in GiB."""


MEASURING = GIB // 2
"""Memory that sampling, decoding and the Inception network take at their fixed batch sizes."""

MOST_ON_CPU = 4
"""Trials at once without a card: more would all begin before the search has learnt anything."""


@dataclass(frozen=True)
class Packing:
    """How trials share the machine. Shares are of one card, 0 without CUDA."""

    concurrent: int
    threads: int
    gpu_share: float
    vae_share: float
    trial_bytes: int
    card_bytes: int


def packing(
    recipe: Recipe,
    *,
    concurrent: int | None,
    card_gib: float | None,
    available: int | None = None,
    cards: int | None = None,
) -> Packing:
    """How many trials run at once and what each gets, from the memory that its training needs.

    ``available`` are the CPU cores of a cluster and ``cards`` its cards, by default this machine's. A card that this
    machine doesn't see is taken for one of ``card_gib``.

    Raises :class:`ConfigError` where not even one trial, or one autoencoder, fits the card.
    """
    if card_gib is not None and not card_gib > 0:
        raise ConfigError(f"--card-gib must be above 0, got {card_gib:g}")
    if concurrent is not None and concurrent < 1:
        raise ConfigError(f"--concurrent must be at least 1, got {concurrent}")
    available = available or cores()
    trial = max(training_bytes(recipe, "diffusion"), MEASURING) + CONTEXT
    autoencoder = max(training_bytes(recipe, "vae"), MEASURING) + CONTEXT
    here = torch.cuda.device_count()
    cards = here if cards is None else cards
    if not cards:
        at_once = min(concurrent or MOST_ON_CPU, available)
        return Packing(at_once, max(1, available // at_once), 0.0, 0.0, trial, 0)
    seen = [torch.cuda.get_device_properties(index).total_memory for index in range(here)]
    real = min([*seen, *([] if here else [int((card_gib or DEFAULT_CARD) * GIB)])])
    card = int(min(real, (card_gib or DEFAULT_CARD) * GIB))
    for what, need, field in (("a trial", trial, "diffusion"), ("an autoencoder", autoencoder, "vae")):
        if need > card:
            raise ConfigError(
                f"{what} needs {need / GIB:.1f} GiB and the card has {card / GIB:.1f}; "
                f"use a smaller {field}.batch_size, or say --card-gib"
            )
    at_once = min(concurrent or available, card // trial * cards, available)
    per_card = math.ceil(at_once / cards)
    return Packing(
        at_once,
        max(1, available // at_once),
        rounded_down(card / real / per_card),
        rounded_down(min(1.0, autoencoder / card) * card / real),
        trial,
        card,
    )


def rounded_down(share: float) -> float:
    """A share of a card in ten-thousandths, as Ray counts, so that all shares fit."""
    return math.floor(share * 10_000) / 10_000


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
