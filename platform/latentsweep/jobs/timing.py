"""How long stages take here: as long as results of their size in the store, or by pieces that are timed now."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from latentsweep.ablation.design.walltime import cost_key
from latentsweep.datasets.slices import PreparedDataset
from latentsweep.execution import worker
from latentsweep.execution.cluster import result_of
from latentsweep.execution.packing import Packing
from latentsweep.execution.worker import Brief
from latentsweep.jobs.forecast import mean_seconds
from latentsweep.search.planner import Costs
from latentsweep.stages.keys import Keys
from latentsweep.stages.stage import Identity, Stage
from latentsweep.stages.table import (
    DENOISER,
    DOWNSTREAM,
    EVALUATION,
    LATENTS,
    REAL_FEATURES,
    REAL_SEGMENTATION,
    RECONSTRUCTION,
    SAMPLES,
    TABLE,
    VAE,
)
from latentsweep.storage.entries import Entry, StageKey
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.autoencoder.training import vae_steps
from trainables.config import fingerprint
from trainables.measures.weights import InceptionWeights
from trainables.recipes import Recipe
from trainables.resources.pieces import piece_seconds

SECONDS = 2.0
"""For how long a training's steps are timed; where they are slow, those of a part of a batch are."""

ENCODING = 1 / 6
"""The encoder's pass over a slice, over the slice's part of a training step, which passes both halves both ways."""

ENDING = tuple(stage for stage in TABLE if stage.follows(DENOISER))
"""The stages that come after a denoiser."""

Measure = Callable[[str, Recipe], float]
"""Times one of :data:`~trainables.resources.pieces.PIECES` of a recipe: the seconds of one."""


@dataclass
class StageTimes:
    """Seconds of stages on a dataset, by results in the ``store``; ``measure`` times what they don't tell, once."""

    store: Store
    dataset: PreparedDataset
    measure: Measure
    timed: dict[str, float] = field(default_factory=dict)
    """Seconds of each piece that was timed, by what they depend on."""

    @classmethod
    def here(cls, home: Home, dataset: PreparedDataset, weights: InceptionWeights, packing: Packing) -> StageTimes:
        """By pieces that this process times, one training at a time."""
        execution = packing.execution.replace(threads=packing.threads)

        def measure(piece: str, recipe: Recipe) -> float:
            slices = dataset.counts(recipe.data.rule)["train"]
            return piece_seconds(piece, recipe, weights, execution, slices, SECONDS)

        return cls(Store.of(home), dataset, measure)

    @classmethod
    def under_load(
        cls, home: Home, dataset: PreparedDataset, weights: InceptionWeights, packing: Packing, seed: int
    ) -> StageTimes:
        """By pieces that as many workers of Ray time at once as trainings will run; Ray must run already."""
        import ray

        store = Store.of(home)
        task = ray.remote(num_cpus=packing.threads, num_gpus=packing.gpu_share)(worker.piece_time)

        def measure(piece: str, recipe: Recipe) -> float:
            identity = Identity(recipe, dataset.fingerprint_of(masks=recipe.data.mask), seed, weights.sha256)
            execution = packing.execution.replace(threads=packing.threads)
            limited = packing.limited("vae" if piece == "vae" else "diffusion", execution)
            brief = Brief.of(home, store, dataset.name, weights, identity, limited)
            slices = dataset.counts(recipe.data.rule)["train"]
            waiting = [task.remote(brief, piece, slices, SECONDS) for _ in range(packing.concurrent)]
            return statistics.fmean(result_of(each) for each in waiting)

        return cls(store, dataset, measure)

    @functools.cached_property
    def entries(self) -> list[Entry]:
        """The results that the store has."""
        return list(self.store.entries())

    def of(self, key: StageKey, recipe: Recipe) -> float:
        """Seconds of a result of a recipe, by the mean of those of its size in the store, if there are any."""
        return mean_seconds(self.entries, key, 0.0) or self._estimate(key.stage, recipe)

    def costs(self, keys: Keys, recipe: Recipe) -> Costs:
        """The costs of a sweep of ``recipe``; steps and rungs are always timed, since a result doesn't tell them."""
        drawn = self._piece("image", recipe) + self._piece("features", recipe)
        return Costs(
            vae_step=self._piece("vae", recipe),
            denoiser_step=self._piece("diffusion", recipe),
            reference=self._of_those(keys, (REAL_FEATURES, REAL_SEGMENTATION), recipe),
            encoding=self.of(keys.latents, recipe) + self.of(keys.reconstruction, recipe),
            rung=recipe.evaluation.rung_samples * drawn,
            ending=self._of_those(keys, ENDING, recipe),
        )

    def _of_those(self, keys: Keys, stages: tuple[Stage, ...], recipe: Recipe) -> float:
        """Seconds of the results of some stages, as far as the recipe has them."""
        return sum(self.of(keys[stage.name], recipe) for stage in stages if stage.name in keys)

    def _estimate(self, stage: str, recipe: Recipe) -> float:
        """Seconds of a result by the pieces of which it is made: trainings, images and features take nearly all."""
        counts, evaluation = self.dataset.counts(recipe.data.rule), recipe.evaluation
        piece = functools.partial(self._piece, recipe=recipe)
        if stage == VAE.name:
            return vae_steps(recipe.vae, counts["train"]) * piece("vae")
        if stage == LATENTS.name:
            alike = 1 + (recipe.diffusion.flip_probability > 0) + recipe.diffusion.augmented_copies
            return ENCODING * alike * counts["train"] * piece("vae") / recipe.vae.batch_size
        if stage == REAL_FEATURES.name:
            return (counts["validation"] + evaluation.samples) * piece("features")
        if stage == RECONSTRUCTION.name:
            return evaluation.samples * piece("features")
        if stage == DENOISER.name:
            rungs = evaluation.rungs * evaluation.rung_samples
            scored = rungs * (piece("image") + piece("features")) if rungs else 0.0
            return recipe.diffusion.steps * piece("diffusion") + scored
        networks, train = recipe.downstream, recipe.downstream.seeds * recipe.downstream.steps
        if stage == REAL_SEGMENTATION.name:
            return len(networks.fractions) * train * piece("segmentation")
        if stage == DOWNSTREAM.name:
            drawn = (networks.synthetic or counts["train"]) * piece("image")
            return drawn + (1 + len(networks.fractions)) * train * piece("segmentation")
        if stage == SAMPLES.name:
            return evaluation.samples * piece("image")
        if stage == EVALUATION.name:
            # Samples that stop at the same evaluation under several thresholds are one image: half are taken to.
            distinct = (1 + len(recipe.sampling.thresholds)) / 2
            return evaluation.samples * distinct * piece("features")
        return 0.0

    def _piece(self, piece: str, recipe: Recipe) -> float:
        depends: list[object] = [piece]
        if piece in ("vae", "diffusion"):
            depends.append(cost_key(recipe, piece))
        if piece == "image":
            depends += [cost_key(recipe, "vae"), cost_key(recipe, "diffusion"), recipe.sampling.identity()]
        if piece == "segmentation":
            depends += [recipe.downstream.identity(), recipe.data.image_size]
        key = fingerprint(depends)
        if key not in self.timed:
            self.timed[key] = self.measure(piece, recipe)
        return self.timed[key]
