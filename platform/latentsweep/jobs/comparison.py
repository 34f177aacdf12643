"""Slices that are there already, measured against the real ones of a prepared dataset."""

from __future__ import annotations

import numpy as np

from latentsweep import stages
from latentsweep.datasets.slices import PreparedDataset
from latentsweep.stages.pipeline import Pipeline
from latentsweep.stages.real_features import extractor
from latentsweep.storage.store import Store
from trainables.loop.settings import Execution
from trainables.measures.evaluation import evaluate_generated
from trainables.measures.memorisation import nearest
from trainables.measures.reference import Reference
from trainables.measures.weights import InceptionWeights
from trainables.recipes import Recipe


def measuring(recipe: Recipe, size: int) -> Recipe:
    """What counts of a recipe for slices of ``size`` pixels that are there: how they are split and measured."""
    return Recipe(data=recipe.data.replace(image_size=size, mask=False, mask_label=0), evaluation=recipe.evaluation)


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
    recipe = measuring(recipe, images.shape[-1])
    pipeline = Pipeline(store, dataset, recipe, seed, execution, weights, split)
    reference = Reference.load(pipeline.reference().folder)
    device = execution.prepare()
    features = extractor(weights, str(device)).features(images)
    neighbours = nearest(images, pipeline.slices("train").images)
    metrics = evaluate_generated(images, features, neighbours, reference, recipe.evaluation)
    return stages.finite(metrics)
