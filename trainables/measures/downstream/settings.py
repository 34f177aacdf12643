"""How generated slices are tried as training data: the segmentation network's budget, and the shares of patients."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.config import Config, setting
from trainables.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DownstreamConfig(Config):
    """The segmentation networks that are trained on real and generated slices; all have the same budget."""

    measured: bool = setting(
        False,
        "whether a run is measured by them (gen/downstream_…), where data.mask is true; sweep --objective dice and "
        "evaluate --downstream set it",
        identity=False,
    )
    fractions: tuple[float, ...] = setting(
        (0.1, 0.25, 0.5, 1.0), "shares of the real training patients, ascending, the last one 1", low=0.01, high=1
    )
    seeds: int = setting(3, "networks for each set of slices, each with its own patients of a share", low=2)
    synthetic: int = setting(0, "generated slices; 0: as many as there are real training slices", low=0)
    widths: tuple[int, ...] = setting(
        (16, 32, 64),
        "channels of each stage of the segmentation U-Net; every stage but the last halves the slice",
        low=4,
    )
    steps: int = setting(150, "optimiser steps of each network", low=1)
    batch_size: int = setting(8, "slices of a step, at most as many as there are", low=1)
    learning_rate: float = setting(
        2e-3, "AdamW's, with a short warm-up and half a cosine down to 0", low=1e-6, high=1
    )
    flip_probability: float = setting(0.5, "left-right flips of slices and masks", low=0, high=1)

    def check(self) -> None:
        if not self.widths:
            raise ConfigError("downstream.widths must name a stage or more, got none; take (16, 32, 64)")
        ascending = tuple(sorted(set(self.fractions)))
        if self.fractions != ascending or not ascending or ascending[-1] != 1:
            raise ConfigError(
                f"downstream.fractions must be ascending shares of the patients that end with 1, which is all of "
                f"them, got {list(self.fractions)}; take [0.1, 0.25, 0.5, 1]"
            )
