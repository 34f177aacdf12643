"""What runs inside Ray's workers: the shared stages, a trial, a retraining. Each works on the stage store."""

from __future__ import annotations

import contextlib
import logging
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latentsweep.datasets.slices import PreparedDataset, open_dataset
from latentsweep.execution.cluster import train_locally
from latentsweep.execution.work_log import noted, tail
from latentsweep.records.redaction import redact
from latentsweep.search.pairing import PAIRING, Pairing
from latentsweep.stages.dataset import open_published, publish
from latentsweep.stages.pipeline import Pipeline
from latentsweep.stages.stage import Identity, Stage
from latentsweep.stages.table import DENOISER, DOWNSTREAM, SHARED, STAGES, TRAININGS, VAE, VERSIONS, VERSIONS_OF
from latentsweep.storage.entries import Entry
from latentsweep.storage.home import Home, is_bucket
from latentsweep.storage.store import Store
from trainables.errors import (
    INFRASTRUCTURE,
    CapacityError,
    DiskError,
    DivergenceError,
    LatentsweepError,
    PluginError,
    WeightsError,
)
from trainables.loop import execution as ex
from trainables.loop.cards import out_of_memory
from trainables.loop.records import Record
from trainables.loop.settings import Execution
from trainables.measures.weights import InceptionWeights, find_weights
from trainables.recipes import Recipe, known_plugins, plugin_fields
from trainables.resources.pieces import piece_seconds
from trainables.resources.timing import step_seconds
from trainables.space import THRESHOLD

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Brief:
    """What every worker of a sweep or training needs to know; all of it pickles small.

    A worker may be on a machine that does not see the driver's disk. It reads all from the store, except the
    Inception weights and the plug-ins, which are installed on each machine.
    """

    store: str
    """The folder or the bucket's address, see :meth:`Store.at`."""
    datasets: str | None
    """The driver's folder of prepared datasets, where workers see it. None: the store holds the dataset."""
    dataset: str
    """The dataset's name."""
    identity: Identity
    execution: Execution
    weights_path: str
    """Where the driver has the Inception network; a worker looks there first."""
    plugins: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Package and version of each plug-in that the driver has, by ``section.field name``."""

    @classmethod
    def of(
        cls,
        home: Home,
        store: Store,
        dataset: str,
        weights: InceptionWeights,
        identity: Identity,
        execution: Execution,
    ) -> Brief:
        """A brief on a dataset of ``home``, which is published in ``store`` where that isn't in the home."""
        if home.location:
            publish(store, home.datasets, dataset, identity.dataset)
        datasets = None if home.location else str(home.datasets.resolve())
        return cls(home.store_address, datasets, dataset, identity, execution, str(weights.path), known_plugins())

    def pipeline(self, recipe: Recipe | None = None, split: str | None = None) -> Pipeline:
        """The stages of ``recipe``, measured on ``split`` (the brief's own by default), in this process.

        Raises :class:`~trainables.errors.DataError` where the store lacks the dataset, and :class:`WeightsError` or
        :class:`PluginError` where this machine has other Inception weights or plug-ins than the driver.
        """
        self.check_plugins(plugin_fields(recipe or self.identity.recipe))
        store, own = Store.at(self.store), self.identity
        weights = self.weights()
        return Pipeline(
            store, self._dataset(store), recipe or own.recipe, own.seed, self.execution, weights, split or own.split
        )

    def recipe(self, params: Mapping[str, Any]) -> Recipe:
        """The brief's recipe with a trial's ``params``; raises as :meth:`pipeline` does for what they name."""
        self.check_plugins(params)
        return self.identity.recipe.replace(**params)

    def check_plugins(self, named: Mapping[str, Any]) -> None:
        """Raises :class:`PluginError` where ``named``, values of fields, name plug-ins that aren't the driver's."""
        here = known_plugins()
        for path, value in named.items():
            for name in value if isinstance(value, list | tuple) else (value,):
                wanted, found = (known.get(f"{path} {name}") for known in (self.plugins, here))
                if wanted != found:
                    has, had = (" ".join(each) if each else "none of that name" for each in (found, wanted))
                    raise PluginError(
                        f"every machine must have the same plug-ins, and for {path}={name} {platform.node()} has "
                        f"{has} where the driver has {had}; install the same package on both"
                    )

    def _dataset(self, store: Store) -> PreparedDataset:
        if self.datasets is None:
            return open_published(store, self.dataset, self.identity.dataset)
        return open_dataset(Path(self.datasets), self.dataset, self.identity.dataset)

    def weights(self) -> InceptionWeights:
        """The Inception network of this machine; raises :class:`WeightsError` where it isn't the driver's."""
        path = Path(self.weights_path)
        found = find_weights(path if path.is_file() else None)
        if found.sha256 != self.identity.weights:
            raise WeightsError(
                f"every machine must measure with the same Inception weights, and {platform.node()} has "
                f"{found.sha256[:8]}… where the driver has {self.identity.weights[:8]}…; install the same on both"
            )
        return found


@contextlib.contextmanager
def log_work(pipeline: Pipeline, stage: Stage) -> Iterator[Path]:
    """Keeps a log of the work on ``stage`` beside the store, a file for each worker; yields its path."""
    path = pipeline.store.log_of(pipeline.keys[stage.name])
    if ex.rank():
        path = path.with_suffix(f".{ex.rank()}.log")
    with pipeline.store.writing(), noted(path):
        yield path


def compute(brief: Brief, stage: str) -> None:
    """A Ray task: computes a stage that needs no training, by its name."""
    pipeline = brief.pipeline()
    with log_work(pipeline, STAGES[stage]):
        pipeline.obtain(STAGES[stage])


def compute_shared(config: dict[str, Any]) -> None:
    """One worker of a Ray Train run: the autoencoder of ``config["brief"]``, and the other shared stages.

    A divergence, or too little memory, leaves nothing in the store, since trying again would only repeat it.
    """
    pipeline = config["brief"].pipeline()
    try:
        with log_work(pipeline, VAE):
            train_together(pipeline, VAE)
            if ex.rank() == 0:
                for stage in SHARED:
                    if stage.wanted(pipeline.recipe):
                        pipeline.obtain(stage)
    except (DivergenceError, CapacityError) as error:
        log.warning("%s", error)


def retraining(config: dict[str, Any]) -> None:
    """One worker of a Ray Train run: all that ``config["brief"]`` lacks, measured on ``config["splits"]``."""
    pipeline = config["brief"].pipeline()
    with log_work(pipeline, DENOISER):
        for stage in TRAININGS:
            train_together(pipeline, stage)
        if ex.rank() == 0:
            for split in config["splits"]:
                config["brief"].pipeline(split=split).finish()


def train_together(pipeline: Pipeline, stage: Stage) -> None:
    """A training by all workers: the first obtains it, with its inputs; the others compute along.

    A denoiser is measured at its rungs, so that the step is known from which on it copies.
    """
    key = stage.key(pipeline.identity)
    found = pipeline.store.find(key) is not None
    if ex.rank() == 0:
        for each in stage.inputs:  # also where the training is found: whoever reads its model reads them
            pipeline.obtain(each)
    if ex.from_first(float(found)):
        return

    def report(records: Sequence[Record]) -> None:
        note(records)
        if records:
            pipeline.store.note_progress(key, records[-1])  # where the driver's live view finds it

    if ex.rank() == 0:
        pipeline.obtain(stage, report, rungs=True)
    else:
        pipeline.assist(stage, rungs=True)
    ex.barrier()


def note(records: Sequence[Record]) -> None:
    """Writes a line of the log for each record."""
    for record in records:
        values = (f"{name} {value:.5g}" for name, value in record.items() if name not in ("step", "time"))
        log.info("step %d: %s", record["step"], ", ".join(values))


def step_time(brief: Brief, section: str, slices: int, seconds: float) -> float:
    """A Ray task: the time of a step of the recipe's ``section``, see ``timing.step_seconds``."""
    brief.check_plugins(plugin_fields(brief.identity.recipe))
    return step_seconds(brief.identity.recipe, section, brief.execution, slices=slices, seconds=seconds)


def piece_time(brief: Brief, piece: str, slices: int, seconds: float) -> float:
    """A Ray task: the time of a piece of the recipe's stages, see ``pieces.piece_seconds``."""
    brief.check_plugins(plugin_fields(brief.identity.recipe))
    return piece_seconds(piece, brief.identity.recipe, brief.weights(), brief.execution, slices, seconds)


def failure(error: Exception, path: Path | None, store: str = "") -> dict[str, str]:
    """Why a run has no result, of what class that is, and the last lines of its log.

    Raises ``error`` itself where the infrastructure is to blame, or something unexpected: then it is tried again. So
    is a full disk where the ``store`` is a bucket: another machine's may have room.
    """
    kind = error.kind if isinstance(error, LatentsweepError) else INFRASTRUCTURE
    if kind == DiskError.kind and is_bucket(store):
        kind = INFRASTRUCTURE
    if out_of_memory(error):
        kind = CapacityError.kind
    if kind == INFRASTRUCTURE:
        raise error
    return {"reason": redact(error), "class": kind, "log": tail(path) if path else ""}


def measurements(brief: Brief, recipes: Sequence[Recipe]) -> dict[str, str] | None:
    """A Ray task: trains the denoiser that these recipes share, and measures each of them.

    Returns None, or what :func:`failure` says of an error that trying again would repeat; raises other errors.
    """
    path = None
    try:
        with log_work(brief.pipeline(recipes[0]), DENOISER) as path:
            for recipe in recipes:
                pipeline = brief.pipeline(recipe)
                pipeline.obtain(DENOISER, note)
                pipeline.finish()
    except (LatentsweepError, RuntimeError) as error:
        return failure(error, path, brief.store)
    return None


def run(config: Mapping[str, Any], briefs: Mapping[str, Brief]) -> None:
    """A Ray Tune trial: a :func:`trial` of the study, or a :func:`share` of what these have in common.

    ``briefs`` are by the section of the recipe whose part of a card they allow.
    """
    if "stages" in config:
        share(config, briefs[config["section"]])
    else:
        trial(config, briefs["diffusion"])


def share(config: Mapping[str, Any], brief: Brief) -> None:
    """Computes the ``stages`` that trials share; an autoencoder is trained as the one worker of a Ray Train run.

    Reports ``records`` at once and after each checkpoint, and ``computed`` at the end, or ends as :func:`trial` does.
    """
    from ray import tune

    def report(records: Sequence[Record]) -> None:
        note(records)
        tune.report({"records": list(records)})

    def train(_: dict[str, Any]) -> None:
        pipeline.obtain(VAE, report)

    stages, path = [STAGES[name] for name in config["stages"]], None
    report([])
    try:
        pipeline = brief.pipeline(brief.recipe(config["params"]))
        with log_work(pipeline, stages[0]) as path:
            if stages[0] is VAE:
                train_locally(train, {})
            for stage in stages:
                pipeline.obtain(stage)
    except (LatentsweepError, RuntimeError) as error:
        tune.report(failure(error, path, brief.store))
        return
    tune.report({"computed": True})


def trial(config: Mapping[str, Any], brief: Brief) -> None:
    """A Ray Tune trial: trains one denoiser, samples every threshold in one pass, and measures them all.

    Reports ``records`` after each checkpoint and ``points`` at the end, or what :func:`failure` says of an error that
    trying again would repeat (a refused configuration, a divergence, too little memory, a full disk). Raises other
    errors, and Ray tries the trial again.
    """
    from ray import tune

    def report(records: Sequence[Record]) -> None:
        note(records)
        tune.report({"records": list(records)})

    params, path = dict(config["params"]), None
    try:
        pipeline = brief.pipeline(brief.recipe(params))
        with log_work(pipeline, DENOISER) as path:
            pipeline.obtain(DENOISER, report, rungs=True)
            pipeline.finish()
            evaluation = pipeline.evaluation()
    except (LatentsweepError, RuntimeError) as error:
        tune.report(failure(error, path, brief.store))
        return
    keys = pipeline.keys
    said = {"keys": keys.names(), VERSIONS_OF: {stage: VERSIONS[stage] for stage in keys}}
    tune.report({"points": points_of(pipeline, params, evaluation), **said})


def points_of(pipeline: Pipeline, params: Mapping[str, Any], evaluation: Entry) -> list[dict[str, Any]]:
    """The measured thresholds of a trial: all where the threshold is searched, else the recipe's own.

    Each has its ``params``, ``metrics`` and, if it is known, what pairs it with others of the sweep. The downstream
    metrics are those of the recipe's own threshold alone.
    """
    searched, own = THRESHOLD in params, pipeline.recipe.sampling.early_stop_threshold
    further = pipeline.downstream().summary["metrics"] if DOWNSTREAM.wanted(pipeline.recipe) else {}
    shared = f"{pipeline.keys.reference.name} seed {pipeline.seed}"
    found = []
    for point in evaluation.summary["points"]:
        if searched or point["threshold"] == own:
            here = {**params, THRESHOLD: point["threshold"]} if searched else dict(params)
            pairing = Pairing.of(point, shared)
            known = {PAIRING: pairing.to_plain()} if pairing else {}
            metrics = point["metrics"] | (further if point["threshold"] == own else {})
            found.append({"params": here, "metrics": metrics, **known})
    return found
