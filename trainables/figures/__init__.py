"""Figures of a run: functions from arrays and records to a matplotlib Figure or a picture. Imports measures, errors.

:mod:`.style` holds what they share: colours, sizes, and the axis range of each quantity, the same in every run.
"""

from trainables.figures.images import (
    ERROR_RANGE,
    denoising_trajectory,
    generated_beside_real,
    image_grid,
    nearest_neighbours,
    reconstructions,
)
from trainables.figures.latents import latent_diagnostics
from trainables.figures.quality import pairwise_distances, power_spectra, quality_against_threshold
from trainables.figures.training import training_curves

__all__ = [
    "ERROR_RANGE",
    "denoising_trajectory",
    "generated_beside_real",
    "image_grid",
    "latent_diagnostics",
    "nearest_neighbours",
    "pairwise_distances",
    "power_spectra",
    "quality_against_threshold",
    "reconstructions",
    "training_curves",
]
