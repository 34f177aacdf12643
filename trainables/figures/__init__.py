"""Figures of a run: functions from arrays and records to a matplotlib Figure or a picture. Imports measures, errors.

:mod:`.style` holds what they share: colours, sizes, and the axis range of each quantity, the same in every run.
"""

from trainables.figures.images import ERROR_RANGE as ERROR_RANGE
from trainables.figures.images import denoising_trajectory as denoising_trajectory
from trainables.figures.images import generated_beside_real as generated_beside_real
from trainables.figures.images import image_grid as image_grid
from trainables.figures.images import nearest_neighbours as nearest_neighbours
from trainables.figures.images import reconstructions as reconstructions
from trainables.figures.latents import latent_diagnostics as latent_diagnostics
from trainables.figures.quality import pairwise_distances as pairwise_distances
from trainables.figures.quality import power_spectra as power_spectra
from trainables.figures.quality import quality_against_threshold as quality_against_threshold
from trainables.figures.training import training_curves as training_curves
