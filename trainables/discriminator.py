"""A patch discriminator that opposes the autoencoder, and how the training loop uses one.

It learns from slices and their reconstructions alone: nothing is trained on the network that FID measures with.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables import execution as ex
from trainables.execution import autocast
from trainables.layers import group_norm
from trainables.random import derived_seed
from trainables.training import RunningMeans, descend, set_learning_rate
from trainables.vae import VaeConfig

WIDTHS = (32, 64, 128)
"""Channels after each convolution but the last; all but the last of them halve the side."""

BETAS = (0.5, 0.9)
"""AdamW's decay rates for the discriminator (Esser et al. 2021)."""


class PatchDiscriminator(nn.Module):
    """One score for each overlapping patch of 34×34 pixels: (B, 1, H, W) in [-1, 1] → (B, 1, H/4 − 2, W/4 − 2).

    PatchGAN (Isola et al. 2017): 4×4 convolutions, LeakyReLU of slope 0.2; with GroupNorm in place of BatchNorm, so
    that a slice's scores don't depend on the batch or its micro-batches. H and W must be at least 12.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, WIDTHS[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for number, (before, width) in enumerate(itertools.pairwise(WIDTHS), start=2):
            stride = 2 if number < len(WIDTHS) else 1
            layers += [nn.Conv2d(before, width, 4, stride=stride, padding=1), group_norm(width), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(WIDTHS[-1], 1, 4, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        """Scores, high where a patch looks like one of a slice."""
        return self.layers(images)  # type: ignore[no-any-return]


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """½·(E[max(0, 1 − D(x))] + E[max(0, 1 + D(x̂))]), a scalar (Lim & Ye 2017; Esser et al. 2021)."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


class Adversary:
    """What opposes the autoencoder in its training: in this class nothing, at no cost."""

    active = True
    """Whether this step's loss has all its terms."""

    def __init__(self) -> None:
        self.modules: dict[str, nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}

    def begin(self, step: int, rate: float) -> None:
        """Before the gradients of optimiser step ``step`` (from 0), at this learning rate."""

    def opposed(self, loss: Tensor, reconstructions: Tensor) -> Tensor:
        """The autoencoder's ``loss`` with the term of fooling the adversary."""
        return loss

    def learn(self, images: Tensor, reconstructions: Tensor, part: float, scaler: torch.amp.GradScaler) -> None:
        """Adds its own gradients for slices (B, 1, H, W) that are ``part`` of a batch, and their reconstructions."""

    def update(self, scaler: torch.amp.GradScaler) -> None:
        """Its optimiser's step, on the gradients of all workers; comes before the autoencoder's."""

    def take(self, step: int, *, last_good: int) -> dict[str, float]:
        """Means of its losses since the last call, as :meth:`RunningMeans.take`; none before it began."""
        return {}


class PatchAdversary(Adversary):
    """A :class:`PatchDiscriminator` with its own AdamW, from ``begins`` of the training's steps on.

    In each step the autoencoder gets −E[D(x̂)] with ``config.adversarial_weight``, a constant (Esser et al. 2021
    balance it by gradients, which no micro-batch could do alone), and the discriminator the hinge loss, both for the
    same reconstructions and at the same weights.
    """

    def __init__(self, config: VaeConfig, network: PatchDiscriminator, begins: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.config, self.network, self.begins, self.dtype = config, network, begins, dtype
        self.device = next(network.parameters()).device
        self.optimizer = torch.optim.AdamW(
            network.parameters(), config.learning_rate, BETAS, weight_decay=config.weight_decay, fused=True
        )
        self.modules, self.optimizers = {"discriminator": network}, {"discriminator-optimizer": self.optimizer}
        self.means = RunningMeans(("train/adversarial", "train/discriminator"), self.device)
        self.values = torch.zeros(2, device=self.device)
        self.active = False

    def begin(self, step: int, rate: float) -> None:
        """See :meth:`Adversary.begin`."""
        self.active = step >= self.begins
        set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad()
        self.values.zero_()

    def opposed(self, loss: Tensor, reconstructions: Tensor) -> Tensor:
        """See :meth:`Adversary.opposed`; the discriminator gets no gradient."""
        if not self.active:
            return loss
        self.network.requires_grad_(False)
        term = -self._scores(reconstructions).mean()
        self.network.requires_grad_(True)
        return loss + self.config.adversarial_weight * term

    def learn(self, images: Tensor, reconstructions: Tensor, part: float, scaler: torch.amp.GradScaler) -> None:
        """See :meth:`Adversary.learn`; the autoencoder gets no gradient."""
        if not self.active:
            return
        fake = self._scores(reconstructions.detach())
        loss = hinge_loss(self._scores(images), fake)
        scaler.scale(loss * part).backward()  # type: ignore[no-untyped-call]
        self.values += torch.stack([-fake.mean(), loss]).detach() * part

    def update(self, scaler: torch.amp.GradScaler) -> None:
        """See :meth:`Adversary.update`."""
        if self.active:
            descend(self.network, self.optimizer, scaler, self.config.gradient_clip)
            self.means.add(ex.sum_values(self.values))

    def take(self, step: int, *, last_good: int) -> dict[str, float]:
        """See :meth:`Adversary.take`."""
        return self.means.take(step, last_good=last_good) if self.means.count else {}

    def _scores(self, images: Tensor) -> Tensor:
        with autocast(self.dtype, self.device):
            scores = self.network(images)
        return scores.float()  # type: ignore[no-any-return]


def adversary_of(config: VaeConfig, *, steps: int, seed: int, device: torch.device, dtype: torch.dtype) -> Adversary:
    """The adversary of a training of ``steps`` steps, its weights drawn by ``seed`` beside all other numbers."""
    if not config.adversarial_weight:
        return Adversary()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "discriminator"))
        network = PatchDiscriminator().to(device)
    return PatchAdversary(config, network, int(config.adversarial_start * steps), dtype)
