"""A patch discriminator that opposes the autoencoder, and how the training loop uses one.

It learns from slices and their reconstructions alone: nothing is trained on the network that FID measures with.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.autoencoder.settings import VaeConfig
from trainables.loop import execution as ex
from trainables.loop.layers import group_norm
from trainables.loop.optimiser import adamw, descend, set_learning_rate
from trainables.loop.precision import WorkingCopy, dtype_of
from trainables.loop.progress import RunningMeans
from trainables.loop.seeds import derived_seed

BETAS = (0.5, 0.9)
"""AdamW's decay rates for the discriminator (Esser et al. 2021)."""


class PatchDiscriminator(nn.Module):
    """One score for each overlapping patch of 34×34 pixels: (B, 1, H, W) in [-1, 1] → (B, 1, H/4 − 2, W/4 − 2).

    PatchGAN (Isola et al. 2017): 4×4 convolutions, LeakyReLU of slope 0.2; with GroupNorm in place of BatchNorm, so
    that a slice's scores don't depend on the batch or its micro-batches. Its layers have ``width``, 2·``width`` and
    4·``width`` channels. H and W must be at least 12.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for before, stride in ((width, 2), (2 * width, 1)):
            layers += [
                nn.Conv2d(before, 2 * before, 4, stride=stride, padding=1), group_norm(2 * before), nn.LeakyReLU(0.2)
            ]  # fmt: skip
        self.layers = nn.Sequential(*layers, nn.Conv2d(4 * width, 1, 4, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        """Scores, high where a patch looks like one of a slice."""
        return self.layers(images.to(dtype_of(self)))  # type: ignore[no-any-return]


def hinge_loss(scores: Tensor, side: int) -> Tensor:
    """½·E[max(0, 1 − side·D)], a scalar (Lim & Ye 2017; Esser et al. 2021); side 1: slices, −1: what is made."""
    return 0.5 * F.relu(1 - side * scores).mean()


class Adversary:
    """What opposes the autoencoder: a discriminator with its own AdamW, from step ``begins`` of the training on.

    In each step the autoencoder gets −E[D(x̂)] with ``config.adversarial_weight``, a constant (Esser et al. 2021
    balance it by gradients, which no micro-batch could do alone). The discriminator gets the hinge loss for the same
    reconstructions, at the same weights. Without a discriminator every method does nothing.
    """

    def __init__(
        self,
        config: VaeConfig,
        working: WorkingCopy[PatchDiscriminator] | None = None,
        begins: int = 0,
        *,
        capturable: bool = False,
    ) -> None:
        self.config, self.working, self.begins = config, working, begins
        self.active = working is None
        """Whether this step's loss has all its terms."""
        self.modules: dict[str, nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        if working:
            network, device = working.master, next(working.master.parameters()).device
            optimizer = adamw(network, config.learning_rate, config.weight_decay, betas=BETAS, capturable=capturable)
            self.modules, self.optimizers = {"discriminator": network}, {"discriminator-optimizer": optimizer}
            self.means = RunningMeans(("train/adversarial", "train/discriminator"), device)
            self.values = torch.zeros(2, device=device)

    def begin(self, step: int, rate: float) -> None:
        """Prepares for optimiser step ``step`` (from 0), at this learning rate."""
        self.active = step >= self.begins
        for optimizer in self.optimizers.values():
            set_learning_rate(optimizer, rate)

    def clear(self) -> None:
        """Removes the gradients of the step before."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()

    def refresh(self) -> None:
        """Sets the step's losses to 0, and takes the weights that they are computed with."""
        if self.working and self.active:
            self.values.zero_()
            self.working.refresh()

    def oppose(self, loss: Tensor, reconstructions: Tensor) -> Tensor:
        """The autoencoder's ``loss`` with the term of fooling the discriminator, which gets no gradient."""
        if not (self.working and self.active):
            return loss
        self.working.network.requires_grad_(False)
        term: Tensor = -self.working.network(reconstructions).float().mean()
        self.working.network.requires_grad_(True)
        return loss + self.config.adversarial_weight * term

    def learn(self, images: Tensor, reconstructions: Tensor, part: float, scaler: torch.amp.GradScaler) -> None:
        """Adds the discriminator's gradients for slices (B, 1, H, W) that are ``part`` of a batch, and their
        reconstructions; the autoencoder gets none."""
        if not (self.working and self.active):
            return
        fake, real = (self.working.network(shown).float() for shown in (reconstructions.detach(), images))
        losses = hinge_loss(real, 1), hinge_loss(fake, -1)
        for loss in losses:  # each by itself, so that their gradients are added in fp32
            scaler.scale(loss * part).backward()  # type: ignore[no-untyped-call]
            self.working.collect()
        self.values += torch.stack([-fake.mean(), losses[0] + losses[1]]).detach() * part

    def update(self, scaler: torch.amp.GradScaler) -> None:
        """The discriminator's optimiser step, on the gradients of all workers; it comes before the autoencoder's."""
        if self.working and self.active:
            (optimizer,) = self.optimizers.values()
            descend(self.working.master, optimizer, scaler, self.config.gradient_clip)

    def note(self) -> None:
        """Adds the step's losses to their means."""
        if self.working and self.active:
            self.means.add(ex.sum_values(self.values))

    def take(self) -> dict[str, float]:
        """Means of its losses since the last call; none before it began."""
        return self.means.take() if self.working and self.means.count else {}


def adversary_of(
    config: VaeConfig, *, steps: int, seed: int, device: torch.device, dtype: torch.dtype, capturable: bool = False
) -> Adversary:
    """The adversary of a training of ``steps`` steps; its weights leave the global generator as it was.

    ``capturable`` is as :func:`~trainables.loop.optimiser.adamw` takes it.
    """
    if not config.adversarial_weight:
        return Adversary(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "discriminator"))
        network = PatchDiscriminator(config.adversarial_width).to(device)
    begins = int(config.adversarial_start * steps)
    return Adversary(config, WorkingCopy(network, dtype), begins, capturable=capturable)
