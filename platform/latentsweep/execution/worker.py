"""What runs inside Ray's workers: the shared stages, a trial, a retraining. Each works on the stage store."""

from __future__ import annotations

import contextlib
import logging
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentsweep.datasets.slices import PreparedDataset, open_dataset
from latentsweep.execution.work_log import noted, tail
from latentsweep.records.redaction import redact
from latentsweep.stages.dataset import publish, published
from latentsweep.stages.pipeline import Pipeline
from latentsweep.storage.entries import StageKey
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.errors import INFRASTRUCTURE, CapacityError, DivergenceError, LatentsweepError, WeightsError
from trainables.loop import execution as ex
from trainables.loop.cards import out_of_memory
from trainables.loop.execution import Execution
from trainables.loop.training import Record
from trainables.measures.inception import InceptionWeights, find_weights
from trainables.recipes import Recipe
from trainables.resources.timing import step_seconds
from trainables.space import THRESHOLD

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Assignment:
    """What every worker of a sweep or training needs to know; all of it pickles small.

    A worker may be on a machine that sees nothing of the driver's: all that it reads is in the store, but for the
    Inception weights, which are installed on each.
    """

    store: str
    """The folder or the bucket's address, see :meth:`Store.at`."""
    datasets: str | None
    """The folder of prepared datasets, where workers see that of the driver; else the store holds the dataset."""
    dataset: str
    fingerprint: str
    recipe: Recipe
    seed: int
    execution: Execution
    weights: str
    """The SHA-256 of the Inception network."""
    weights_path: str
    """Where the driver has it; tried first."""
    split: str = "validation"

    @classmethod
    def of(
        cls,
        home: Home,
        store: Store,
        dataset: str,
        fingerprint: str,
        weights: InceptionWeights,
        *,
        recipe: Recipe,
        seed: int,
        execution: Execution,
        split: str = "validation",
    ) -> Assignment:
        """An assignment on a dataset of ``home``, which is published in ``store`` where that isn't in the home."""
        if home.location:
            publish(store, home.datasets, dataset, fingerprint)
        return cls(
            store=home.store_address,
            datasets=None if home.location else str(home.datasets.resolve()),
            dataset=dataset,
            fingerprint=fingerprint,
            recipe=recipe,
            seed=seed,
            execution=execution,
            weights=weights.sha256,
            weights_path=str(weights.path),
            split=split,
        )

    def pipeline(self, recipe: Recipe | None = None, split: str | None = None) -> Pipeline:
        """The stages of ``recipe``, measured on ``split`` (the assignment's own by default), in this process."""
        store = Store.at(self.store)
        return Pipeline(
            store,
            self._dataset(store),
            recipe or self.recipe,
            self.seed,
            self.execution,
            self._weights(),
            split or self.split,
        )

    def _dataset(self, store: Store) -> PreparedDataset:
        if self.datasets is None:
            return published(store, self.dataset, self.fingerprint)
        return open_dataset(Path(self.datasets), self.dataset)

    def _weights(self) -> InceptionWeights:
        path = Path(self.weights_path)
        found = find_weights(path if path.is_file() else None)
        if found.sha256 != self.weights:
            raise WeightsError(
                f"every machine must measure with the same Inception weights, and {platform.node()} has "
                f"{found.sha256[:8]}… where the driver has {self.weights[:8]}…; install the same on both"
            )
        return found


@contextlib.contextmanager
def noting(pipeline: Pipeline, stage: str) -> Iterator[Path]:
    """Keeps a log of the work on ``stage`` beside the store, a file for each worker; yields its path."""
    path = pipeline.store.log_of(getattr(pipeline.keys, stage))
    if ex.rank():
        path = path.with_suffix(f".{ex.rank()}.log")
    with pipeline.store.writing(), noted(path):
        yield path


def autoencoder(config: dict[str, Any]) -> None:
    """One worker of a Ray Train run: the shared autoencoder of ``config["assignment"]``, its latents, its worth.

    A divergence, or too little memory, leaves nothing in the store, since trying again would only repeat it.
    """
    assignment: Assignment = config["assignment"]
    try:
        with noting(assignment.pipeline(), "vae"):
            encoding(assignment)
            if ex.rank() == 0:
                assignment.pipeline().reconstruction()
    except (DivergenceError, CapacityError) as error:
        log.warning("%s", error)


def retraining(config: dict[str, Any]) -> None:
    """One worker of a Ray Train run: all that ``config["assignment"]`` lacks, measured on ``config["splits"]``."""
    assignment: Assignment = config["assignment"]
    with noting(assignment.pipeline(), "denoiser"):
        encoding(assignment)
        together(assignment.pipeline(), "denoiser")
        if ex.rank() == 0:
            for split in config["splits"]:
                assignment.pipeline(split=split).evaluation()


def encoding(assignment: Assignment) -> None:
    """The autoencoder, by all workers, and the latents, by the first."""
    pipeline = assignment.pipeline()
    together(pipeline, "vae")
    if ex.rank() == 0:
        pipeline.latents()


def together(pipeline: Pipeline, stage: str) -> None:
    """A training by all workers: the first owns the store's entry, the others compute along."""
    key: StageKey = getattr(pipeline.keys, stage)
    if ex.from_first(float(pipeline.store.find(key) is not None)):
        return
    if ex.rank() == 0:
        getattr(pipeline, stage)(lambda records: note_progress(pipeline.store, key, records))
    else:
        pipeline.assist(stage)
    ex.barrier()


def note_progress(store: Store, key: StageKey, records: Sequence[Record]) -> None:
    """Leaves the last record where the driver's live view finds it, and all of them in the log."""
    note(records)
    if records:
        store.note_progress(key, records[-1])


def note(records: Sequence[Record]) -> None:
    """A line of the log for each record."""
    for record in records:
        values = (f"{name} {value:.5g}" for name, value in record.items() if name not in ("step", "time"))
        log.info("step %d: %s", record["step"], ", ".join(values))


def reference(assignment: Assignment) -> None:
    """Computes what generated images are compared with."""
    pipeline = assignment.pipeline()
    with noting(pipeline, "reference"):
        pipeline.reference()


def step_time(assignment: Assignment, section: str, slices: int, seconds: float) -> float:
    """A Ray task: the time of a step of the recipe's ``section``, see ``timing.step_seconds``."""
    return step_seconds(assignment.recipe, section, assignment.execution, slices=slices, seconds=seconds)


def failure(error: Exception, path: Path | None) -> dict[str, str]:
    """Why a run has no result, of what class that is, and the last lines of its log.

    Raises ``error`` itself where the infrastructure is to blame, or something unexpected: then it is tried again.
    """
    kind = error.kind if isinstance(error, LatentsweepError) else INFRASTRUCTURE
    if out_of_memory(error):
        kind = CapacityError.kind
    if kind == INFRASTRUCTURE:
        raise error
    return {"reason": redact(error), "class": kind, "log": tail(path) if path else ""}


def measurements(assignment: Assignment, recipes: Sequence[Recipe]) -> dict[str, str] | None:
    """A Ray task: trains the denoiser that these recipes share, and measures each of them.

    Returns what can't succeed by being tried again as :func:`failure` says; the rest is raised.
    """
    path = None
    try:
        with noting(assignment.pipeline(recipes[0]), "denoiser") as path:
            for recipe in recipes:
                pipeline = assignment.pipeline(recipe)
                pipeline.denoiser(note)
                pipeline.evaluation()
    except (LatentsweepError, RuntimeError) as error:
        return failure(error, path)
    return None


def trial(config: Mapping[str, Any], assignment: Assignment) -> None:
    """A Ray Tune trial: trains one denoiser, samples every threshold in one pass, and measures them all.

    Reports ``records`` after each checkpoint and ``points`` at the end. What can't succeed by being tried
    again (a refused configuration, a divergence, too little memory) is reported as :func:`failure` says; the rest is
    raised, and Ray tries it again.
    """
    from ray import tune

    def report(records: Sequence[Record]) -> None:
        note(records)
        tune.report({"records": list(records)})

    params, path = dict(config["params"]), None
    try:
        pipeline = assignment.pipeline(assignment.recipe.replace(**params))
        with noting(pipeline, "denoiser") as path:
            pipeline.denoiser(report, rungs=True)
            entry = pipeline.evaluation()
    except (LatentsweepError, RuntimeError) as error:
        tune.report(failure(error, path))
        return
    searched = THRESHOLD in params
    points = [
        {"params": {**params, THRESHOLD: point["threshold"]} if searched else params, "metrics": point["metrics"]}
        for point in entry.summary["points"]
        if searched or point["threshold"] == pipeline.recipe.sampling.early_stop_threshold
    ]
    tune.report({"points": points, "keys": pipeline.keys.names()})
