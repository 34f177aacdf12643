"""The features of real slices, which generated ones are compared with, and the floor of real against real."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from latentsweep.stages.context import Context
from latentsweep.stages.table import DRAW_SEED
from trainables.measures.inception import InceptionExtractor
from trainables.measures.reference import build_reference
from trainables.measures.weights import InceptionWeights


def measure_real(context: Context, folder: Path) -> dict[str, Any]:
    """Measures all real slices of a split, and some of the training split against them."""
    device = context.execution.prepare()
    held_out, training = context.slices(context.split), context.slices("train")
    reference = build_reference(
        held_out.images,
        held_out.subjects,
        training.images,
        training.subjects,
        extractor(context.weights, str(device)),
        samples=context.recipe.evaluation.samples,
        bootstrap=context.recipe.evaluation.bootstrap,
        seed=DRAW_SEED,
    )
    reference.save(folder)
    return {
        "split": context.split,
        "samples": len(reference.images),
        "floor": reference.floor,
        "sha": reference.sha,
        "extractor": reference.extractor,
    }


@functools.lru_cache(maxsize=1)
def extractor(weights: InceptionWeights, device: str) -> InceptionExtractor:
    """The Inception network, loaded once a process; it is on the device only while features are taken."""
    return InceptionExtractor(weights, device)
