"""How long an optimiser step takes here: the loops themselves, for a few steps on random data at learning rate 0."""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from trainables.autoencoder.training import train_vae
from trainables.denoiser.copies import COPY_LABELS
from trainables.denoiser.latents import ChannelStatistics, Latents
from trainables.denoiser.training import train_denoiser
from trainables.loop import graphs
from trainables.loop.records import Record
from trainables.loop.settings import Execution
from trainables.recipes import Recipe
from trainables.resources.ladder import climb
from trainables.resources.memory import NAMES, batch_size, rung_that_fits

PILOT = 4
"""Steps of a first run, which tells how many more fit the time; where none fits, it is the measurement."""

WARM = 3
"""First steps of the second run, which don't count: memory is still allocated in them."""

MOST = 2000
"""The most steps of a measurement."""

SLICES = 4096
"""The most samples in the random training split."""

HELD_OUT = 2


def step_seconds(recipe: Recipe, section: str, execution: Execution, *, slices: int, seconds: float) -> float:
    """Seconds of an optimiser step of ``section`` ("vae" or "diffusion"), without the time to validate and to save.

    ``slices`` is the size of the training split. It takes :data:`PILOT` steps, more where a graph is recorded first,
    and then as many as fit ``seconds``. The result is the mean of the middle half of the times, so that stalls don't
    count. Where a patch discriminator joins on the way, the steps before and after count by their shares of a
    training. Raises :class:`~trainables.errors.CapacityError` where the training doesn't fit its memory.
    """
    begins = recipe.vae.adversarial_start if section == "vae" and recipe.vae.adversarial_weight else 0.0
    # A graph is recorded in the first steps, so they take longer than the later ones.
    recorded = graphs.WARM + 1 if execution.cuda_graph else 0
    pilot = PILOT + recorded
    first = _durations(_records(recipe, section, execution, pilot, slices))
    estimate = _mean_of_phases([each for each in first if each[0] >= recorded], begins, pilot)
    steps = min(MOST, int(seconds / max(estimate, 1e-3)))
    if steps < 2 * pilot:
        return estimate
    later = _durations(_records(recipe, section, execution, steps, slices))
    return _mean_of_phases([each for each in later if each[0] >= max(WARM, recorded)], begins, steps)


def _records(recipe: Recipe, section: str, execution: Execution, steps: int, slices: int) -> list[Record]:
    """The records of a training of ``steps`` steps, on the rung of the ladder that the real one would begin on."""
    counts, side = (min(slices, SLICES), HELD_OUT), recipe.data.image_size
    with tempfile.TemporaryDirectory(prefix="latentsweep-timing-") as folder:

        def train(rung: Execution) -> list[Record]:
            if section == "vae":
                vae = recipe.vae.replace(epochs=steps, max_steps=steps, learning_rate=0.0, validations=1)
                sides = vae.warp_size or side, side
                images = (
                    torch.randint(256, recipe.data.shape(count, side), dtype=torch.uint8)
                    for count, side in zip(counts, sides, strict=True)
                )
                return train_vae(vae, *images, seed=0, folder=Path(folder), execution=rung)[1]
            diffusion = recipe.diffusion.replace(steps=steps, learning_rate=0.0, validations=1)
            latents = (_latents(recipe, count) for count in counts)
            return train_denoiser(diffusion, *latents, seed=0, folder=Path(folder), execution=rung)[1]

        rung = rung_that_fits(recipe, section, execution, slices=slices)
        return climb(train, rung, batch_size(recipe, section, slices), NAMES[section])[0]


def _latents(recipe: Recipe, count: int) -> Latents:
    shape = (2, count, recipe.vae.latent_channels, recipe.latent_size, recipe.latent_size)
    mean, log_variance = torch.randn(shape).half()
    positions = torch.rand(count) if recipe.diffusion.position_condition else None
    labels = torch.zeros(count, COPY_LABELS) if recipe.diffusion.copies else None
    lesions = torch.zeros(count) if recipe.diffusion.lesion_condition else None
    named = len(recipe.diffusion.label_condition)
    categories = torch.zeros(count, named) if named else None
    statistics = ChannelStatistics.of(mean, log_variance)
    return Latents(mean, log_variance, statistics, positions, lesions=lesions, categories=categories, labels=labels)


def _durations(records: Sequence[Record]) -> list[tuple[int, float]]:
    """(steps done before, seconds a step) between every two records of losses; the first step isn't in them."""
    logged = [record for record in records if "train/loss" in record]
    return [
        (int(before["step"]), (after["time"] - before["time"]) / (after["step"] - before["step"]) / 1000)
        for before, after in itertools.pairwise(logged)
    ]


def _mean_of_phases(durations: Sequence[tuple[int, float]], begins: float, steps: int) -> float:
    """The typical duration, weighted where another phase begins after a share ``begins`` of the steps."""
    border = int(begins * steps)
    before, after = ([each for step, each in durations if (step < border) is first] for first in (True, False))
    if not (before and after):
        return _typical([each for _, each in durations])
    return begins * _typical(before) + (1 - begins) * _typical(after)


def _typical(durations: Sequence[float]) -> float:
    """The mean of the middle half; the median of fewer than four."""
    if len(durations) < 4:
        return statistics.median(durations)
    quarter = len(durations) // 4
    return statistics.fmean(sorted(durations)[quarter:-quarter])
