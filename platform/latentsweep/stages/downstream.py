"""What generated slices are good for: segmentation networks, trained on real ones, on generated ones, on both.

The networks of real slices alone are a stage of their own, since runs share them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentsweep.stages.conditions import training_conditions
from latentsweep.stages.context import WEIGHTS, Context, save_figure
from latentsweep.stages.denoiser import draw, image_seeds, load_average, load_guide
from latentsweep.stages.latents import scaling
from latentsweep.stages.results import DICE_BY_PATIENTS
from latentsweep.stages.table import DENOISER, LATENTS, REAL_FEATURES, REAL_SEGMENTATION, VAE
from latentsweep.stages.vae import load_vae
from trainables import figures
from trainables.autoencoder.training import decode_to_bytes
from trainables.data.images import apart
from trainables.errors import ConfigError
from trainables.measures.downstream.arms import Labelled, compare_generated, compare_real, leave_out_copies
from trainables.measures.downstream.scores import measure_arms
from trainables.measures.reference import Reference


def labelled(context: Context, split: str) -> Labelled:
    """The real slices of a split with their masks; raises :class:`ConfigError` where the recipe learns no masks."""
    slices = context.slices(split)
    if slices.masks is None:
        raise ConfigError("a segmentation network needs lesion masks; set data.mask=true")
    return Labelled(slices.images, slices.masks, slices.subjects)


def train_on_real(context: Context, folder: Path) -> dict[str, Any]:
    """Trains on the real slices of each share of the patients, and tests on the patients of the context's split."""
    device, held_out = context.execution.prepare(), labelled(context, context.split)
    rows = compare_real(context.recipe.downstream, labelled(context, "train"), held_out, device)
    return {"patients": len(set(held_out.patients)), "rows": rows}


def train_on_generated(context: Context, folder: Path) -> dict[str, Any]:
    """Draws slices, leaves out near copies, trains on the others, alone and beside real ones, and compares.

    They are drawn under the recipe's own early-stop threshold, each told what a training slice is
    where the denoiser is told that.
    """
    recipe, device, real = context.recipe, context.execution.prepare(), labelled(context, "train")
    drawn = draw_labelled(context, recipe.downstream.synthetic or len(real))
    null = Reference.load(context.obtain(REAL_FEATURES).folder).null
    kept = leave_out_copies(drawn, real, null)
    of_real = context.obtain(REAL_SEGMENTATION).summary
    own = compare_generated(recipe.downstream, real, kept, labelled(context, context.split), device)
    rows, copies = [*of_real["rows"], *own], len(drawn) - len(kept)
    save_figure(folder, DICE_BY_PATIENTS, figures.dice_by_patients(rows))
    return {
        "patients": of_real["patients"],
        "drawn": len(drawn),
        "copies": copies,
        "rows": rows,
        "metrics": measure_arms(rows, drawn=len(drawn), copies=copies),
    }


def draw_labelled(context: Context, count: int) -> Labelled:
    """So many slices with their masks, of the denoiser that the store has."""
    recipe, device = context.recipe, context.execution.prepare()
    latents, denoiser = context.obtain(LATENTS), context.obtain(DENOISER)
    trace = draw(
        load_average(denoiser, recipe),
        recipe,
        image_seeds(context.seed, count),
        device,
        guide=load_guide(denoiser, recipe),
        thresholds=(recipe.sampling.early_stop_threshold,),
        **training_conditions(recipe, latents),
    )
    autoencoder = load_vae(context.obtain(VAE).file(WEIGHTS), recipe)
    decoded = decode_to_bytes(autoencoder, scaling(recipe, latents).unwhiten(trace.latents[0].cpu()), device)
    images, masks = apart(decoded)
    if masks is None:
        raise ConfigError("a segmentation network needs lesion masks; set data.mask=true")
    return Labelled(images.numpy(), masks.numpy())
