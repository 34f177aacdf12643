"""The table of stages, and what follows from it: the keys of a configuration's results, and how to obtain each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from latentsweep.stages.denoiser import DENOISER
from latentsweep.stages.downstream import DOWNSTREAM, REAL_SEGMENTATION
from latentsweep.stages.evaluation import EVALUATION, metrics_of
from latentsweep.stages.latents import LATENTS
from latentsweep.stages.real_features import REAL_FEATURES
from latentsweep.stages.reconstruction import RECONSTRUCTION
from latentsweep.stages.samples import SAMPLES
from latentsweep.stages.stage import Context, Identity, Stage
from latentsweep.stages.vae import VAE
from latentsweep.storage.entries import Entry, StageKey
from latentsweep.storage.store import Store
from trainables.recipes import Recipe

TABLE = (
    VAE,
    LATENTS,
    REAL_FEATURES,
    RECONSTRUCTION,
    REAL_SEGMENTATION,
    DENOISER,
    SAMPLES,
    EVALUATION,
    DOWNSTREAM,
)
"""All stages, in the order in which they are done. A new stage is a module beside theirs and an entry here."""

STAGES: dict[str, Stage] = {stage.name: stage for stage in TABLE}
VERSIONS = {stage.name: stage.version for stage in TABLE}
"""The version of each stage, as it is noted with what was measured."""

TRAININGS = tuple(stage for stage in TABLE if stage.replay)
PICTURED = tuple(stage for stage in TABLE if stage.pictured)
SHARED = tuple(stage for stage in TABLE if stage is not DENOISER and not stage.follows(DENOISER))
"""What runs share: it is computed before any of them trains a denoiser."""
LAST = tuple(stage for stage in TABLE if not any(stage in other.inputs for other in TABLE))
"""The stages that no other reads; whoever obtains them obtains all."""


class Keys(dict[str, StageKey]):
    """The key of each result that a configuration has, in the table's order, also as an attribute: ``keys.vae``."""

    def __getattr__(self, stage: str) -> StageKey:
        try:
            return self[stage]
        except KeyError:
            raise AttributeError(f"there is no stage {stage!r}") from None

    def names(self) -> list[str]:
        """All of them, as the store names them."""
        return [key.name for key in self.values()]


def keys_of(recipe: Recipe, dataset: str, seed: int, weights: str, split: str = "validation") -> Keys:
    """The keys of ``recipe`` on the dataset with fingerprint ``dataset``, measured on ``split``.

    A recipe that learns masks needs their fingerprint, too, as ``fingerprint_of`` of the dataset gives it.

    ``weights`` is the SHA-256 of the Inception network. None of the results needs to be there.
    """
    identity = Identity(recipe, dataset, seed, weights, split)
    return Keys({stage.name: stage.key(identity) for stage in TABLE if stage.wanted(recipe)})


def scores_of(store: Store, keys: Mapping[str, StageKey], recipe: Recipe) -> dict[str, float] | None:
    """All that was measured of a configuration with these ``keys``, under its own early-stop threshold.

    None where the store lacks a measurement that the configuration has.
    """
    found = {stage.name: store.find(keys[stage.name]) for stage in LAST if stage.name in keys}
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
