"""What is read from results: records, scores, the names of pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from latentsweep.storage.entries import Entry
from trainables.loop.records import Record, without_scores
from trainables.recipes import Recipe

RECORDS = "records.json"
FIGURES = "figures"
DICE_BY_PATIENTS = "dice_by_patients"
"""The picture of a comparison."""


def records_of(entry: Entry, *, rungs: bool = True) -> list[Record]:
    """The records of a finished training, without the scores at its rungs if ``rungs`` is False."""
    records: list[Record] = entry.json(RECORDS)
    return records if rungs else without_scores(records)


def figure_of(threshold: float) -> str:
    """The name of the picture of images generated under this early-stop threshold."""
    return f"generated_threshold_{threshold:g}"


def point_of(summary: Mapping[str, Any], recipe: Recipe) -> Mapping[str, Any]:
    """The point of a configuration's own early-stop threshold, in the summary of its evaluation."""
    own = recipe.sampling.early_stop_threshold
    return next(point for point in summary["points"] if point["threshold"] == own)


def metrics_of(evaluation: Entry, recipe: Recipe, downstream: Entry | None = None) -> dict[str, float]:
    """The measurements of a configuration's own early-stop threshold, of its autoencoder, and those downstream."""
    return {
        **point_of(evaluation.summary, recipe)["metrics"],
        **(downstream.summary["metrics"] if downstream else {}),
    }


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that JSON can store and a page can show."""
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
