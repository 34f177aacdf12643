"""Any folder of images, measured against a prepared dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from latentsweep import stages
from latentsweep.datasets.slices import PreparedDataset
from latentsweep.pipeline import Pipeline
from latentsweep.store import Store
from trainables.errors import DataError
from trainables.evaluation import evaluate_generated
from trainables.execution import Execution
from trainables.inception import InceptionWeights
from trainables.memorisation import nearest
from trainables.recipes import Recipe
from trainables.reference import Reference

SUFFIXES = (".png", ".jpg", ".jpeg")
LARGEST = 4096
GRID = "grid.png"
"""The overview that ``sample`` leaves among its images; it is none of them."""


def read_images(folder: Path) -> np.ndarray:
    """The pictures of a folder as grey uint8 (N, S, S), by name; raises :class:`DataError` otherwise."""
    if not folder.is_dir():
        raise DataError(f"--images must be a folder of PNG or JPEG files, and {folder} is none")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name != GRID)
    if len(paths) < 2:
        raise DataError(f"--images needs two pictures or more (PNG or JPEG), and {folder} holds {len(paths)}")
    images = []
    for path in paths:
        try:
            with Image.open(path) as picture:
                if max(picture.size) > LARGEST:
                    raise DataError(f"{path.name} is larger than {LARGEST} pixels a side; reduce it first")
                images.append(np.asarray(picture.convert("L")))
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"{path.name} is not a whole picture ({type(error).__name__}); remove it") from error
    shapes = {image.shape for image in images}
    if len(shapes) > 1 or next(iter(shapes))[0] != next(iter(shapes))[1]:
        raise DataError(f"all pictures must be square and of one size, got {sorted(shapes)[:3]}")
    return np.stack(images)


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
