"""Any folder of images, measured against a prepared dataset."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from latentsweep import stages
from latentsweep.datasets.limits import MAX_SIDE, TOO_MANY_PIXELS, guarded, open_regular, pixels_limited
from latentsweep.datasets.pictures import UNREADABLE
from latentsweep.datasets.silence import silenced
from latentsweep.datasets.slices import PreparedDataset
from latentsweep.datasets.volumes import Reject
from latentsweep.stages.pipeline import Pipeline
from latentsweep.storage.store import Store
from trainables.errors import DataError
from trainables.loop.execution import Execution
from trainables.measures.evaluation import evaluate_generated
from trainables.measures.inception import InceptionWeights
from trainables.measures.memorisation import nearest
from trainables.measures.reference import Reference
from trainables.recipes import Recipe

SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_SET_BYTES = 2**30
"""Pixels of all pictures together, a byte each."""
GRID = "grid.png"
"""The overview that ``sample`` leaves among its images; it is none of them."""


def read_images(folder: Path) -> np.ndarray:
    """The pictures of a folder as grey uint8 (N, S, S), by name; raises :class:`DataError` otherwise.

    Refused before they are decoded: a picture of more pixels than the limits of :mod:`latentsweep.datasets.limits`,
    more than ``MAX_SET_BYTES`` pixels in all, a link out of the folder, and what is no regular file.
    """
    if not folder.is_dir():
        raise DataError(f"--images must be a folder of PNG or JPEG files, and {folder} is none")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name != GRID)
    if len(paths) < 2:
        raise DataError(f"--images needs two pictures or more (PNG or JPEG), and {folder} holds {len(paths)}")
    images: list[np.ndarray] = []
    for path in paths:
        image = _read_image(path, folder)
        if images and image.shape != images[0].shape:
            shapes = sorted({image.shape, images[0].shape})
            raise DataError(f"all pictures must be square and of one size, got {shapes}")
        if image.shape[0] != image.shape[1]:
            raise DataError(f"all pictures must be square and of one size, got {[image.shape]}")
        if image.size * len(paths) > MAX_SET_BYTES:
            raise DataError(f"--images takes up to {MAX_SET_BYTES:,} pixels in all, got {image.size * len(paths):,}")
        images.append(image)
    return np.stack(images)


def _read_image(path: Path, folder: Path) -> np.ndarray:
    """One picture as grey uint8 (rows, columns)."""
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise DataError(f"{path.name} is a link out of the folder of --images; put the picture itself there")
    try:
        with guarded(), open_regular(path) as file, silenced("PIL"), pixels_limited():
            return np.asarray(Image.open(file, formats=("PNG", "JPEG")).convert("L"))
    except TOO_MANY_PIXELS:
        raise DataError(f"{path.name} has more than {MAX_SIDE}×{MAX_SIDE} pixels; reduce it first") from None
    except Reject as reject:
        raise DataError(f"{path.name} cannot be used ({reject.reason}); remove it") from None
    except UNREADABLE as error:
        raise DataError(f"{path.name} is not a whole picture ({type(error).__name__}); remove it") from error


def compare(
    images: np.ndarray,
    dataset: PreparedDataset,
    store: Store,
    weights: InceptionWeights,
    recipe: Recipe,
    *,
    split: str,
    execution: Execution,
    seed: int = 0,
) -> dict[str, float]:
    """The metrics of images uint8 (N, S, S) against real slices of a split, at S pixels, as ``recipe`` measures."""
    recipe = recipe.replace(**{"data.image_size": images.shape[-1]})
    pipeline = Pipeline(store, dataset, recipe, seed, execution, weights, split)
    reference = Reference.load(pipeline.reference().folder)
    device = execution.prepare()
    features = stages.extractor(weights, str(device)).features(images)
    neighbours = nearest(images, stages.split_slices(dataset, recipe.data, "train").images)
    metrics = evaluate_generated(images, features, neighbours, reference, recipe.evaluation)
    return stages.finite(metrics)
