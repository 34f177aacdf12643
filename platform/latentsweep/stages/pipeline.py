"""The chain of stages for one configuration: which keys its results have, and how to obtain each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentsweep import stages
from latentsweep.datasets.slices import PreparedDataset
from latentsweep.storage.entries import Entry, StageKey
from latentsweep.storage.store import Store
from trainables.config import fingerprint
from trainables.denoiser.training import Score
from trainables.loop.execution import Execution
from trainables.loop.training import Record, Report, ignore_report
from trainables.measures.inception import InceptionWeights
from trainables.recipes import Recipe

VERSIONS = {
    "vae": 2,
    "latents": 1,
    "reference": 2,
    "reconstruction": 1,
    "denoiser": 4,
    "samples": 3,
    "evaluation": 2,
}
"""Raised when a stage's code changes its result; what was stored under the old version is then built again."""

REFERENCE_SEED = 0
"""Of the draw of real slices: runs with different seeds are measured against the same ones."""


@dataclass(frozen=True)
class Keys:
    """The keys of a configuration's results; they can be computed without any of them being there."""

    vae: StageKey
    latents: StageKey
    denoiser: StageKey
    samples: StageKey
    reference: StageKey
    reconstruction: StageKey
    evaluation: StageKey

    def names(self) -> list[str]:
        """All of them, as the store names them."""
        return [key.name for key in self.evaluation.lineage()]


def keys_of(recipe: Recipe, dataset: str, seed: int, weights: str, split: str = "validation") -> Keys:
    """The keys of ``recipe`` on the dataset with fingerprint ``dataset``, measured on ``split``.

    ``weights`` is the SHA-256 of the Inception network.
    """
    data = {"dataset": dataset, "data": recipe.data.identity()}
    vae = StageKey("vae", VERSIONS["vae"], {**data, "vae": recipe.vae.identity(), "seed": seed})
    latents = StageKey("latents", VERSIONS["latents"], {}, (vae,))
    denoiser = StageKey(
        "denoiser", VERSIONS["denoiser"], {"diffusion": recipe.diffusion.identity(), "seed": seed}, (latents,)
    )
    sampling = recipe.sampling.identity()
    for name in ("early_stop_threshold", "threshold_grid"):
        del sampling[name]
    samples = StageKey(
        "samples",
        VERSIONS["samples"],
        {
            "sampling": sampling,
            "thresholds": list(recipe.sampling.thresholds),
            "samples": recipe.evaluation.samples,
            "seed": seed,
        },
        (denoiser,),
    )
    reference = StageKey(
        "reference",
        VERSIONS["reference"],
        {
            **data,
            "split": split,
            "samples": recipe.evaluation.samples,
            "bootstrap": recipe.evaluation.bootstrap,
            "weights": weights,
            "seed": REFERENCE_SEED,
        },
    )
    measured = {"bootstrap": recipe.evaluation.bootstrap}
    reconstruction = StageKey("reconstruction", VERSIONS["reconstruction"], measured, (latents, reference))
    evaluation = StageKey("evaluation", VERSIONS["evaluation"], measured, (samples, reconstruction))
    return Keys(vae, latents, denoiser, samples, reference, reconstruction, evaluation)


@dataclass(frozen=True)
class Pipeline:
    """One configuration on one dataset: every method answers from the store, or does the work and stores it."""

    store: Store
    dataset: PreparedDataset
    recipe: Recipe
    seed: int
    execution: Execution
    weights: InceptionWeights
    split: str = "validation"

    @property
    def keys(self) -> Keys:
        """The keys of all results."""
        return keys_of(self.recipe, self.dataset.fingerprint, self.seed, self.weights.sha256, self.split)

    def vae(self, report: Report = ignore_report) -> Entry:
        """The trained autoencoder; ``report`` also hears the records of one that was there."""
        kept = self._kept(self.keys.vae, report)
        return self._trained(self.keys.vae, lambda folder: self._train_vae(folder, kept), report)

    def latents(self) -> Entry:
        """The encoded slices."""
        return self._obtain(
            self.keys.latents,
            lambda folder, vae: stages.latents_stage(folder, self.dataset, self.recipe, vae, self.execution),
            self.vae,
        )

    def reference(self) -> Entry:
        """Features of the real slices."""
        return self._obtain(
            self.keys.reference,
            lambda folder: stages.reference_stage(
                folder, self.dataset, self.recipe, self.split, REFERENCE_SEED, self.execution, self.weights
            ),
        )

    def denoiser(self, report: Report = ignore_report, *, rungs: bool = False) -> Entry:
        """The trained denoiser, scored at the rungs on the way if asked; ``report`` as in :meth:`vae`."""

        def build(folder: Path) -> dict[str, Any]:
            latents, score = self.latents(), None
            if rungs and self.recipe.evaluation.rungs:
                score = stages.rung_score(
                    self.recipe,
                    self.vae(),
                    latents,
                    self.reference(),
                    self.seed,
                    self.execution,
                    self.weights,
                    self.rungs,
                )
            kept = self._kept(self.keys.denoiser, report)
            return self._train_denoiser(folder, latents, kept, score) | {"rungs": self.rungs if score else None}

        return self._trained(self.keys.denoiser, build, report)

    @property
    def rungs(self) -> str:
        """What the scores on the way depend on beyond the denoiser: they are replayed to nobody else."""
        evaluation = self.recipe.evaluation
        return fingerprint(
            [self.recipe.sampling.identity(), evaluation.rungs, evaluation.rung_samples, self.keys.reference.digest]
        )

    def assist(self, stage: str) -> None:
        """Computes along with the worker that trains ``stage`` ("vae" or "denoiser"); keeps nothing."""
        self.store.fetch_checkpoint(getattr(self.keys, stage))
        if stage == "vae":
            self._train_vae(self.store.workspace(self.keys.vae.name), ignore_report)
        else:
            self._train_denoiser(self.store.workspace(self.keys.denoiser.name), self.latents(), ignore_report)

    def samples(self) -> Entry:
        """The generated images, under every threshold."""
        return self._obtain(
            self.keys.samples,
            lambda folder, vae, latents, denoiser: stages.samples_stage(
                folder, self.recipe, vae, latents, denoiser, self.seed, self.execution
            ),
            self.vae,
            self.latents,
            self.denoiser,
        )

    def reconstruction(self) -> Entry:
        """What the autoencoder alone is worth."""
        return self._obtain(
            self.keys.reconstruction,
            lambda folder, vae, latents, reference: stages.reconstruction_stage(
                folder,
                self.dataset,
                self.recipe,
                vae,
                latents,
                reference,
                self.split,
                self.execution,
                self.weights,
            ),
            self.vae,
            self.latents,
            self.reference,
        )

    def evaluation(self) -> Entry:
        """What the images are worth."""
        return self._obtain(
            self.keys.evaluation,
            lambda folder, latents, denoiser, samples, reference, reconstruction: stages.evaluation_stage(
                folder,
                self.dataset,
                self.recipe,
                latents,
                denoiser,
                samples,
                reference,
                reconstruction,
                self.split,
                self.execution,
                self.weights,
            ),
            self.latents,
            self.denoiser,
            self.samples,
            self.reference,
            self.reconstruction,
        )

    def _kept(self, key: StageKey, report: Report) -> Report:
        """``report``, called when the checkpoint is where a worker on any machine finds it."""

        def kept(records: Sequence[Record]) -> None:
            self.store.keep_checkpoint(key)
            report(records)

        return kept

    def _trained(self, key: StageKey, build: Callable[[Path], dict[str, Any]], report: Report) -> Entry:
        """A training's result; where somebody else trained it, ``report`` hears its records all the same."""
        built: list[Path] = []

        def noted(folder: Path) -> dict[str, Any]:
            built.append(folder)
            return build(folder)

        entry = self.store.obtain(key, noted)
        if not built:
            report(stages.replayed(entry, rungs=entry.summary.get("rungs") == self.rungs))
        return entry

    def _obtain(self, key: StageKey, build: Callable[..., dict[str, Any]], *upstream: Callable[[], Entry]) -> Entry:
        """The result of ``key``; what it stands on is asked for only where it must be built, and not in its cost."""
        found = self.store.find(key)
        if found:
            return found
        entries = [obtain() for obtain in upstream]
        return self.store.obtain(key, lambda folder: build(folder, *entries))

    def _train_vae(self, folder: Path, report: Report) -> dict[str, Any]:
        return stages.vae_stage(folder, self.dataset, self.recipe, self.seed, self.execution, report)

    def _train_denoiser(
        self, folder: Path, latents: Entry, report: Report, score: Score | None = None
    ) -> dict[str, Any]:
        return stages.denoiser_stage(folder, self.recipe, latents, self.seed, self.execution, report, score)
