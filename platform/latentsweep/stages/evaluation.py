"""The evaluation: what generated images are worth, in numbers and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentsweep.stages.context import Context, save_figure, spread
from latentsweep.stages.latents import posteriors
from latentsweep.stages.real_features import extractor
from latentsweep.stages.reconstruction import RECONSTRUCTIONS, with_masks
from latentsweep.stages.results import figure_of, finite, records_of
from latentsweep.stages.samples import IMAGES
from latentsweep.stages.table import DENOISER, LATENTS, REAL_FEATURES, RECONSTRUCTION, SAMPLES
from trainables import figures
from trainables.loop.checkpoint import load_tensors
from trainables.measures.distances import kernel_by_group, kernel_by_image
from trainables.measures.evaluation import evaluate_generated
from trainables.measures.memorisation import align, near_copy_threshold, nearest
from trainables.measures.reference import Reference

SHOWN = 16
"""Slices in a picture of generated beside real ones."""


def measure_generated(context: Context, folder: Path) -> dict[str, Any]:
    """Measures and shows the images of every threshold.

    Some pictures show the images of one threshold only: of the smallest, under which the fewest images stop early.
    ``shown`` in the summary is that threshold.
    """
    recipe, device = context.recipe, context.execution.prepare()
    samples, reconstruction = context.obtain(SAMPLES), context.obtain(RECONSTRUCTION)
    real, training = Reference.load(context.obtain(REAL_FEATURES).folder), context.slices("train").images
    tensors = {name: tensor.numpy() for name, tensor in load_tensors(samples.file(IMAGES))[0].items()}
    images, index, steps = tensors["images"], tensors["index"], tensors["steps"]
    features = extractor(context.weights, str(device)).features(images)
    neighbours = nearest(images, training)
    masks, real_slices = tensors.get("masks"), real.images[spread(len(real.images), SHOWN)]
    if masks is not None:
        real_slices = figures.outlined(real_slices, with_masks(real_slices, context.slices(context.split))[:, 1])
    timing = samples.summary
    points = []
    for row, (place, used, threshold) in enumerate(zip(index, steps, timing["thresholds"], strict=True)):
        metrics = evaluate_generated(
            images[place],
            features[place],
            neighbours[place],
            real,
            recipe.evaluation,
            steps_used=used,
            steps=recipe.sampling.steps,
            remaining=tensors["remaining"][row],
            seconds=timing["seconds_per_step"] * float(used.sum())
            + timing["decoding_seconds_per_image"] * len(place),
        )
        points.append(
            {
                "threshold": threshold,
                "metrics": finite(metrics | reconstruction.summary["metrics"]),
                "kernel_by_subject": kernel_by_group(features[place], real.features, real.subjects),
                "kernel_by_image": kernel_by_image(features[place], real.features),
            }
        )
        first = place[:SHOWN]
        drawn_slices = figures.outlined(images[first], None if masks is None else masks[first])
        beside = figures.generated_beside_real(drawn_slices, real_slices)
        save_figure(folder, figure_of(threshold), beside)
    if len(points) > 1:
        curve = [{"threshold": point["threshold"], **point["metrics"]} for point in points]
        save_figure(folder, "early_stop", figures.quality_against_threshold(curve))

    shown = index[0]
    encoded = posteriors(context.obtain(LATENTS), context.split)
    generated, closest = images[shown], neighbours[shown]
    decoded_slices = load_tensors(reconstruction.file(RECONSTRUCTIONS))[0]["images"].numpy()
    sets = {"real": real.images, "reconstructed": decoded_slices, "generated": generated}
    drawn = {
        "nearest_neighbours": figures.nearest_neighbours(
            align(generated, training, closest.indices),
            training[closest.indices],
            closest.distances,
            near_copy_threshold(real.null),
        ),
        "latents": figures.latent_diagnostics(*encoded, tensors["latents"][shown]),
        "power_spectra": figures.power_spectra(sets),
        "pairwise_distances": figures.pairwise_distances(generated, real.images),
        "diffusion_training": figures.training_curves(records_of(context.obtain(DENOISER)), stage="diffusion"),
    }
    for name, figure in drawn.items():
        save_figure(folder, name, figure)
    return {"points": points, "shown": timing["thresholds"][0]}
