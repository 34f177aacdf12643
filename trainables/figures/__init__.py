"""Figures of a run: functions from arrays and records to a matplotlib Figure or a picture.

:mod:`.style` holds what they share: colours, sizes, and the axis range of each quantity, the same in every run.
A figure's module is imported when the figure is first asked for, since matplotlib takes long.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainables.figures.downstream import dice_by_patients as dice_by_patients
    from trainables.figures.images import ERROR_RANGE as ERROR_RANGE
    from trainables.figures.images import denoising_trajectory as denoising_trajectory
    from trainables.figures.images import generated_beside_real as generated_beside_real
    from trainables.figures.images import image_grid as image_grid
    from trainables.figures.images import nearest_neighbours as nearest_neighbours
    from trainables.figures.images import reconstructions as reconstructions
    from trainables.figures.latents import latent_diagnostics as latent_diagnostics
    from trainables.figures.overlay import outlined as outlined
    from trainables.figures.quality import pairwise_distances as pairwise_distances
    from trainables.figures.quality import power_spectra as power_spectra
    from trainables.figures.quality import quality_against_threshold as quality_against_threshold
    from trainables.figures.training import training_curves as training_curves

_MODULES = {
    "downstream": ("dice_by_patients",),
    "images": (
        "ERROR_RANGE",
        "denoising_trajectory",
        "generated_beside_real",
        "image_grid",
        "nearest_neighbours",
        "reconstructions",
    ),
    "latents": ("latent_diagnostics",),
    "overlay": ("outlined",),
    "quality": ("pairwise_distances", "power_spectra", "quality_against_threshold"),
    "training": ("training_curves",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"there is no figure {name!r}")
