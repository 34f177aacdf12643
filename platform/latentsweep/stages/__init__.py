"""The stages: plain functions from a configuration and upstream results to the files of a folder.

Each takes the folder to write into, returns a small JSON summary, and knows neither keys nor Ray.
"""

from latentsweep.stages.denoiser import denoiser_stage, latents_stage, rung_score, vae_stage
from latentsweep.stages.evaluation import (
    evaluation_stage,
    measured,
    point_of,
    reconstruction_stage,
    reference_stage,
)
from latentsweep.stages.results import (
    FIGURES,
    RECORDS,
    SAMPLES,
    WEIGHTS,
    average_file,
    extractor,
    figure_of,
    finite,
    image_seeds,
    load_denoiser,
    load_vae,
    replayed,
    scaling,
    split_slices,
    training_positions,
)
from latentsweep.stages.samples import draw, samples_stage

__all__ = [
    "FIGURES",
    "RECORDS",
    "SAMPLES",
    "WEIGHTS",
    "average_file",
    "denoiser_stage",
    "draw",
    "evaluation_stage",
    "extractor",
    "figure_of",
    "finite",
    "image_seeds",
    "latents_stage",
    "load_denoiser",
    "load_vae",
    "measured",
    "point_of",
    "reconstruction_stage",
    "reference_stage",
    "replayed",
    "rung_score",
    "samples_stage",
    "scaling",
    "split_slices",
    "training_positions",
    "vae_stage",
]
