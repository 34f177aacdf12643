"""The table of stages, and what follows from it. A new stage is a row here, and a module for what it computes.

Keys are made of this table alone, without torch: the module of a stage is loaded when its function is called.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

from latentsweep.stages.results import records_of
from latentsweep.stages.stage import Identity, Stage


def function_of(module: str, name: str) -> Callable[..., Any]:
    """The function of that name in a module beside this one, which is loaded."""
    found: Callable[..., Any] = getattr(importlib.import_module(f"latentsweep.stages.{module}"), name)
    return found


def compute(module: str, name: str, *arguments: Any) -> Any:
    """Calls that function."""
    return function_of(module, name)(*arguments)


def computed_by(module: str, name: str) -> partial[Any]:
    """That function, whose module is loaded when it is called."""
    return partial(compute, module, name)


VAE = Stage(
    name="vae",
    version=2,
    title="autoencoder",
    fields=lambda identity: {**identity.learned, "vae": identity.recipe.vae.identity(), "seed": identity.seed},
    run=computed_by("vae", "train"),
    replay=lambda context, entry: records_of(entry),
    planned="autoencoders",
    pictured=True,
)


def _of_latents(identity: Identity) -> dict[str, Any]:
    """What the latents depend on beyond the autoencoder: the versions of the training slices, not how often each is
    drawn, so that denoisers of different probabilities share them."""
    config, seed = identity.recipe.diffusion, identity.seed
    mirrored = {"mirrored": True} if config.flip_probability else {}
    return {**mirrored, **({"copies": config.copies, "seed": seed} if config.copies else {})}


LATENTS = Stage(
    name="latents",
    version=1,
    title="latents",
    fields=_of_latents,
    run=computed_by("latents", "encode"),
    inputs=(VAE,),
    planned="encodings",
)


DRAW_SEED = 0
"""The seed of the draw of the floor's slices. Runs with different seeds are measured against the same slices."""


def _of_real_slices(identity: Identity) -> dict[str, Any]:
    evaluation = identity.recipe.evaluation
    return {
        **identity.slices,
        "split": identity.split,
        "samples": evaluation.samples,
        "bootstrap": evaluation.bootstrap,
        "weights": identity.weights,
        "seed": DRAW_SEED,
    }


REAL_FEATURES = Stage(
    name="reference",
    version=3,
    title="real features and floor",
    fields=_of_real_slices,
    run=computed_by("real_features", "measure_real"),
)


RECONSTRUCTION = Stage(
    name="reconstruction",
    version=2,
    title="autoencoder's reconstructions",
    fields=lambda identity: {"bootstrap": identity.recipe.evaluation.bootstrap},
    run=computed_by("reconstruction", "measure_autoencoder"),
    inputs=(VAE, LATENTS, REAL_FEATURES),
    pictured=True,
)


SYNTHETIC = "synthetic"
"""The field of ``downstream`` that the networks of real slices don't depend on."""


def _of_segmentation(identity: Identity) -> dict[str, Any]:
    networks = identity.recipe.downstream.identity()
    return {
        **identity.learned,
        "downstream": {name: value for name, value in networks.items() if name != SYNTHETIC},
        "split": identity.split,
    }


REAL_SEGMENTATION = Stage(
    name="segmentation",
    version=1,
    title="segmentation of real slices",
    fields=_of_segmentation,
    run=computed_by("downstream", "train_on_real"),
    wanted=lambda recipe: recipe.downstream.measured,
)


DENOISER = Stage(
    name="denoiser",
    version=4,
    title="denoiser",
    fields=lambda identity: {"diffusion": identity.recipe.diffusion.identity(), "seed": identity.seed},
    run=computed_by("denoiser", "train"),
    inputs=(LATENTS,),
    replay=computed_by("denoiser", "replay"),
)


def _of_samples(identity: Identity) -> dict[str, Any]:
    recipe, given = identity.recipe, ("early_stop_threshold", "threshold_grid")
    sampling = recipe.sampling.identity().items()
    return {
        "sampling": {name: value for name, value in sampling if name not in given},
        "thresholds": list(recipe.sampling.thresholds),
        "samples": recipe.evaluation.samples,
        "seed": identity.seed,
    }


SAMPLES = Stage(
    name="samples",
    version=4,
    title="generated samples",
    fields=_of_samples,
    run=computed_by("samples", "generate"),
    inputs=(VAE, LATENTS, DENOISER),
    planned="samplings",
    pictured=True,
)


EVALUATION = Stage(
    name="evaluation",
    version=4,
    title="measurement",
    fields=lambda identity: {
        "bootstrap": identity.recipe.evaluation.bootstrap,
        **identity.recipe.evaluation.plugin_identity(),
    },
    run=computed_by("evaluation", "measure_generated"),
    inputs=(LATENTS, DENOISER, SAMPLES, REAL_FEATURES, RECONSTRUCTION),
    pictured=True,
)


def _of_downstream(identity: Identity) -> dict[str, Any]:
    sampling = identity.recipe.sampling.identity().items()
    return {
        "sampling": {name: value for name, value in sampling if name != "threshold_grid"},
        SYNTHETIC: identity.recipe.downstream.synthetic,
        "seed": identity.seed,
    }


DOWNSTREAM = Stage(
    name="downstream",
    version=1,
    title="downstream segmentation",
    fields=_of_downstream,
    run=computed_by("downstream", "train_on_generated"),
    inputs=(VAE, LATENTS, REAL_FEATURES, REAL_SEGMENTATION, DENOISER),
    wanted=lambda recipe: recipe.downstream.measured,
    pictured=True,
)


TABLE = (
    VAE,
    LATENTS,
    REAL_FEATURES,
    RECONSTRUCTION,
    REAL_SEGMENTATION,
    DENOISER,
    SAMPLES,
    EVALUATION,
    DOWNSTREAM,
)
"""All stages, in the order in which they are done."""

STAGES: dict[str, Stage] = {stage.name: stage for stage in TABLE}
VERSIONS = {stage.name: stage.version for stage in TABLE}
"""The version of each stage, as it is noted with what was measured."""
VERSIONS_OF = "versions"
"""The attribute of a measured trial with the versions of the stages that its results are of."""

TRAININGS = tuple(stage for stage in TABLE if stage.replay)
PICTURED = tuple(stage for stage in TABLE if stage.pictured)
SHARED = tuple(stage for stage in TABLE if stage is not DENOISER and not stage.follows(DENOISER))
"""What runs share: it is computed before any of them trains a denoiser."""
LAST = tuple(stage for stage in TABLE if not any(stage in other.inputs for other in TABLE))
"""The stages that no other reads; whoever obtains them obtains all."""
