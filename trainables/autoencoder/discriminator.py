"""A patch discriminator that opposes the autoencoder, and how the training loop uses one.

It learns from slices and their reconstructions alone: nothing is trained on the network that FID measures with.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.autoencoder.vae import VaeConfig
from trainables.layers import group_norm
from trainables.loop import execution as ex
from trainables.loop.precision import WorkingCopy, dtype_of
from trainables.loop.seeds import derived_seed
from trainables.loop.training import RunningMeans, adamw, descend, set_learning_rate

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
        return self.layers(images.to(dtype_of(self)))  # type: ignore[no-any-return]


def hinge_loss(scores: Tensor, side: int) -> Tensor:
    """½·E[max(0, 1 − side·D)], a scalar (Lim & Ye 2017; Esser et al. 2021); side 1: slices, −1: what is made."""
    return 0.5 * F.relu(1 - side * scores).mean()


class Adversary:
    """What opposes the autoencoder in its training: in this class nothing, at no cost."""

    active = True
    """Whether this step's loss has all its terms."""

    def __init__(self) -> None:
        self.modules: dict[str, nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}

    def begin(self, step: int, rate: float) -> None:
        """Before optimiser step ``step`` (from 0), at this learning rate."""

    def clear(self) -> None:
        """Removes the gradients of the step before."""

    def refresh(self) -> None:
        """Begins a step's losses, at its weights."""

    def opposed(self, loss: Tensor, reconstructions: Tensor) -> Tensor:
        """The autoencoder's ``loss`` with the term of fooling the adversary."""
        return loss

    def learn(self, images: Tensor, reconstructions: Tensor, part: float, scaler: torch.amp.GradScaler) -> None:
        """Adds its own gradients for slices (B, 1, H, W) that are ``part`` of a batch, and their reconstructions."""

    def update(self, scaler: torch.amp.GradScaler) -> None:
        """Its optimiser's step, on the gradients of all workers; comes before the autoencoder's."""

    def note(self) -> None:
        """Adds the step's losses to their means."""

    def take(self, step: int, *, last_good: int) -> dict[str, float]:
        """Means of its losses since the last call, as :meth:`RunningMeans.take`; none before it began."""
        return {}


class PatchAdversary(Adversary):
    """A :class:`PatchDiscriminator` with its own AdamW, from ``begins`` of the training's steps on.

    In each step the autoencoder gets −E[D(x̂)] with ``config.adversarial_weight``, a constant (Esser et al. 2021
    balance it by gradients, which no micro-batch could do alone), and the discriminator the hinge loss, both for the
    same reconstructions and at the same weights.
    """

    def __init__(
        self, config: VaeConfig, working: WorkingCopy[PatchDiscriminator], begins: int, *, capturable: bool = False
    ) -> None:
        super().__init__()
        self.config, self.working, self.begins, self.network = config, working, begins, working.master
        self.optimizer = adamw(
            self.network, config.learning_rate, config.weight_decay, betas=BETAS, capturable=capturable
        )
        self.modules, self.optimizers = {"discriminator": self.network}, {"discriminator-optimizer": self.optimizer}
        device = next(self.network.parameters()).device
        self.means = RunningMeans(("train/adversarial", "train/discriminator"), device)
        self.values = torch.zeros(2, device=device)
        self.active = False

    def begin(self, step: int, rate: float) -> None:
        """See :meth:`Adversary.begin`."""
        self.active = step >= self.begins
        set_learning_rate(self.optimizer, rate)

    def clear(self) -> None:
        """See :meth:`Adversary.clear`."""
        self.optimizer.zero_grad()

    def refresh(self) -> None:
        """See :meth:`Adversary.refresh`."""
        if self.active:
            self.values.zero_()
            self.working.refresh()

    def opposed(self, loss: Tensor, reconstructions: Tensor) -> Tensor:
        """See :meth:`Adversary.opposed`; the discriminator gets no gradient."""
        if not self.active:
            return loss
        self.working.network.requires_grad_(False)
        term = -self._scores(reconstructions).mean()
        self.working.network.requires_grad_(True)
        return loss + self.config.adversarial_weight * term

    def learn(self, images: Tensor, reconstructions: Tensor, part: float, scaler: torch.amp.GradScaler) -> None:
        """See :meth:`Adversary.learn`; the autoencoder gets no gradient."""
        if not self.active:
            return
        fake, real = self._scores(reconstructions.detach()), self._scores(images)
        losses = hinge_loss(real, 1), hinge_loss(fake, -1)
        for loss in losses:  # each by itself, so that their gradients are added in fp32
            scaler.scale(loss * part).backward()  # type: ignore[no-untyped-call]
            self.working.collect()
        self.values += torch.stack([-fake.mean(), losses[0] + losses[1]]).detach() * part

    def update(self, scaler: torch.amp.GradScaler) -> None:
        """See :meth:`Adversary.update`."""
        if self.active:
            descend(self.network, self.optimizer, scaler, self.config.gradient_clip)

    def note(self) -> None:
        """See :meth:`Adversary.note`."""
        if self.active:
            self.means.add(ex.sum_values(self.values))

    def take(self, step: int, *, last_good: int) -> dict[str, float]:
        """See :meth:`Adversary.take`."""
        return self.means.take(step, last_good=last_good) if self.means.count else {}

    def _scores(self, images: Tensor) -> Tensor:
        return self.working.network(images).float()  # type: ignore[no-any-return]


def adversary_of(
    config: VaeConfig,
    *,
    steps: int,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    capturable: bool = False,
) -> Adversary:
    """The adversary of a training of ``steps`` steps, its weights drawn by ``seed`` beside all other numbers.

    ``capturable`` is as :func:`~trainables.loop.training.adamw` takes it.
    """
    if not config.adversarial_weight:
        return Adversary()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "discriminator"))
        network = PatchDiscriminator().to(device)
    begins = int(config.adversarial_start * steps)
    return PatchAdversary(config, WorkingCopy(network, dtype), begins, capturable=capturable)
