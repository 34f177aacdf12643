"""Latents in memory: posterior means and log-variances, from which a step draws, and whitens what it draws."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ChannelStatistics:
    """Mean and standard deviation of each channel, (C,), of latents drawn from the training split's posterior."""

    mean: torch.Tensor
    deviation: torch.Tensor

    @classmethod
    def of(cls, mean: torch.Tensor, log_variance: torch.Tensor) -> ChannelStatistics:
        """For posteriors (N, C, h, w): the variance of a draw is that of the means plus the mean variance."""
        means = mean.double()
        variance = means.var(dim=(0, 2, 3), correction=0) + log_variance.double().exp().mean(dim=(0, 2, 3))
        return cls(means.mean(dim=(0, 2, 3)).float(), variance.sqrt().clamp_min(1e-6).float())

    def whiten(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) to zero mean and unit spread per channel."""
        mean, deviation = self._shaped(latents)
        return (latents - mean) / deviation

    def unwhiten(self, latents: torch.Tensor) -> torch.Tensor:
        """The inverse of :meth:`whiten`."""
        mean, deviation = self._shaped(latents)
        return latents * deviation + mean

    def to(self, device: torch.device) -> ChannelStatistics:
        """The same on another device."""
        return ChannelStatistics(self.mean.to(device), self.deviation.to(device))

    def _shaped(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        on_device = self.to(latents.device)
        return on_device.mean.view(1, -1, 1, 1), on_device.deviation.view(1, -1, 1, 1)


NO_WHITENING = ChannelStatistics(torch.zeros(1), torch.ones(1))
"""Leaves latents as they are."""


@dataclass(frozen=True)
class Latents:
    """Posterior mean and log-variance (V·N, C, h, w) on one device, and the ``statistics`` that scale what is drawn.

    They are of N slices in V versions: row v·N + i is version v of slice i, and version 0 the slices as they are.
    """

    mean: torch.Tensor
    log_variance: torch.Tensor
    statistics: ChannelStatistics
    positions: torch.Tensor | None = None
    """(V·N,) float32: each slice's place in its volume, 0 the lowest to 1 the highest, NaN where it has none."""
    versions: int = 1
    """V."""
    lesions: torch.Tensor | None = None
    """(V·N,) float32: the size of each slice's lesion, as :mod:`trainables.denoiser.condition` counts it."""
    categories: torch.Tensor | None = None
    """(V·N, K) float32: the number of each slice's category, of each label."""
    labels: torch.Tensor | None = None
    """(V·N, 7) float32: how each was altered, 0 where it wasn't; None where none was."""

    weights: torch.Tensor | None = None
    """(N,) float64 of mean 1, on the CPU, where samples are drawn: how often each slice is; None: all alike."""

    def __len__(self) -> int:
        """N, the number of slices."""
        return len(self.mean) // self.versions

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one latent."""
        channels, height, width = self.mean.shape[1:]
        return channels, height, width

    def to(self, device: torch.device) -> Latents:
        """The same on another device."""
        return dataclasses.replace(
            self,
            mean=self.mean.to(device),
            log_variance=self.log_variance.to(device),
            statistics=self.statistics.to(device),
            positions=None if self.positions is None else self.positions.to(device),
            lesions=None if self.lesions is None else self.lesions.to(device),
            categories=None if self.categories is None else self.categories.to(device),
            labels=None if self.labels is None else self.labels.to(device),
        )

    def draw(self, indices: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """Whitened latents float32 (B, C, h, w) of the rows ``indices``: draws with ``noise``, or means without."""
        latents = self.mean[indices].float()
        if noise is not None:
            latents = latents + (0.5 * self.log_variance[indices].float()).exp() * noise
        return self.statistics.whiten(latents)
