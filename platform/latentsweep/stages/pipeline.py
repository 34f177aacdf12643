"""All results of a configuration: how to obtain each, and what was measured of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from latentsweep.stages.context import Context
from latentsweep.stages.keys import Keys, keys_of
from latentsweep.stages.results import metrics_of
from latentsweep.stages.table import DOWNSTREAM, EVALUATION, LAST, STAGES
from latentsweep.storage.entries import Entry, StageKey
from latentsweep.storage.store import Store
from trainables.recipes import Recipe


def scores_of(store: Store, keys: Mapping[str, StageKey], recipe: Recipe) -> dict[str, float] | None:
    """All that was measured of a configuration with these ``keys``, under its own early-stop threshold.

    None where the store lacks a measurement that the configuration has.
    """
    found = {stage.name: store.find(keys[stage.name]) for stage in (EVALUATION, *LAST) if stage.name in keys}
    evaluation, downstream = found[EVALUATION.name], found.get(DOWNSTREAM.name)
    if evaluation is None or None in found.values():
        return None
    return metrics_of(evaluation, recipe, downstream)


class Pipeline(Context):
    """A method for each stage of the table, ``pipeline.vae()`` and so on: :meth:`obtain` of that stage."""

    def __getattr__(self, stage: str) -> Callable[..., Entry]:
        if stage not in STAGES:
            raise AttributeError(f"there is no stage {stage!r}")
        return functools.partial(self.obtain, STAGES[stage])

    @property
    def keys(self) -> Keys:
        """The keys of all results."""
        return keys_of(self.recipe, self.identity.dataset, self.seed, self.weights.sha256, self.split)

    def finish(self) -> None:
        """Obtains every result that the recipe has."""
        for stage in LAST:
            if stage.wanted(self.recipe):
                self.obtain(stage)
