"""Whether generated slices help to train a segmentation network, over the folds of a dataset with masks.

For each fold a configuration is trained and measured downstream on the fold's own test patients; then all test
patients are judged together. What the store has is not computed again, so the command can be stopped and goes on:

    python cli.py data prepare brats_masks --source ~/brats --home runs
    python benchmarks/downstream.py masks.yaml --home runs --folds 5

Prints the table and the sentence of ``evaluate --downstream``, and how much of the lesions is brighter than what is
around them, in real and in generated slices. The folds' generators and networks share training patients, so intervals
over the patients of all folds are a little too narrow.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation

from latentsweep.ablation.page import downstream
from latentsweep.ablation.statistics.downstream import Usefulness
from latentsweep.configuration import Configuration, read_configuration
from latentsweep.datasets.slices import open_dataset
from latentsweep.stages.downstream import labelled
from latentsweep.stages.pipeline import Pipeline
from latentsweep.stages.samples import IMAGES
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables import figures
from trainables.loop.checkpoint import load_tensors
from trainables.measures.weights import find_weights

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


RING = 3
"""Pixels around a lesion that count as its surround, where they are not background."""

LEAST = 8
"""Pixels of a lesion, at least; a smaller one is left out."""


def of_fold(configuration: Configuration, home: Home, fold: int, folds: int) -> Pipeline:
    """The pipeline of a configuration, on the test patients of a fold; ``folds`` 1 is the own split."""
    changes = {"data.folds": folds, "data.fold": fold, "downstream.measured": True}
    return Pipeline(
        Store.of(home),
        open_dataset(home.datasets, configuration.dataset),
        configuration.recipe.replace(**changes),
        configuration.seed,
        configuration.execution,
        find_weights(None),
        "test",
    )


def brighter_shares(images: Bytes, masks: Bytes) -> Floats:
    """Of each slice (N, H, W), the share of the lesion's pixels above the median of its surround; NaN without one."""
    found = np.full(len(images), np.nan)
    for number, (image, mask) in enumerate(zip(images, masks > 0, strict=True)):
        surround = binary_dilation(mask, iterations=RING) & ~mask & (image > 0)
        if mask.sum() >= LEAST and surround.any():
            found[number] = np.mean(image[mask] > np.median(image[surround]))
    return found


def compare_brightness(pipeline: Pipeline) -> tuple[list[float], list[float]]:
    """:func:`brighter_shares` of the training patients, a mean each, and of the generated slices."""
    real = labelled(pipeline, "train")
    shares = brighter_shares(real.images, real.masks)
    owners = np.array(real.patients)
    means = [float(np.nanmean(own)) for each in set(owners) if np.isfinite(own := shares[owners == each]).any()]
    drawn = load_tensors(pipeline.samples().file(IMAGES))[0]
    generated = brighter_shares(drawn["images"].numpy(), drawn["masks"].numpy())
    return means, generated[np.isfinite(generated)].tolist()


def pool(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One comparison of the held-out patients of several, networks with the same seed, arm and share together."""
    rows = [
        {
            **first[0],
            "slices": sum(row["slices"] for row in first) / len(first),
            **{score: [value for row in first for value in row[score]] for score in ("dice", "hausdorff")},
        }
        for first in zip(*(summary["rows"] for summary in summaries), strict=True)
    ]
    return {"rows": rows, **{name: sum(each[name] for each in summaries) for name in ("drawn", "copies")}}


def main(words: Sequence[str]) -> None:
    """Runs the study that the command line names, fold by fold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--home", type=Path, default=Path("runs"))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--picture", type=Path, help="where to write the Dice by the share of real patients, as PNG")
    asked = parser.parse_args(words)
    configuration, found = read_configuration(asked.config), []
    real: list[float] = []
    generated: list[float] = []
    for fold in range(asked.folds):
        pipeline = of_fold(configuration, Home(asked.home), fold, asked.folds)
        found.append(pipeline.downstream().summary)
        for all_of, more in zip((real, generated), compare_brightness(pipeline), strict=True):
            all_of.extend(more)
        usefulness = Usefulness.of(pool(found))
        print(f"after {fold + 1} of {asked.folds} folds: {downstream.sentence(usefulness)}", flush=True)
    if asked.picture:
        figures.dice_by_patients(pool(found)["rows"]).savefig(asked.picture)
    print(downstream.table(usefulness).as_markdown())
    print(downstream.CAVEAT)
    low, high = np.quantile(real, (0.025, 0.975))
    print(
        f"Of the pixels of a lesion, {np.mean(generated):.0%} are brighter than the median of what is around it in "
        f"generated slices ({len(generated)} with lesion), and {np.mean(real):.0%} in real ones; 95 % of the "
        f"patients lie in [{low:.0%}, {high:.0%}]."
    )


if __name__ == "__main__":
    main(sys.argv[1:])
