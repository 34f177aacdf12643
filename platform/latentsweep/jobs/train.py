"""Training one configuration in full, through Ray Train, and keeping what comes of it."""

from __future__ import annotations

import datetime
import logging
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from latentsweep import stages
from latentsweep.configuration import Configuration
from latentsweep.datasets.slices import PreparedDataset
from latentsweep.execution import worker
from latentsweep.execution.cluster import background, check_resources, cluster, run_under_train
from latentsweep.execution.packing import Packing
from latentsweep.execution.view import TrainingView
from latentsweep.execution.worker import Assignment
from latentsweep.lints import Finding, as_tags, inspection
from latentsweep.records.recorder import Recorder
from latentsweep.records.sweep import as_records, execution_tags, final_record, pictures, value_of
from latentsweep.search.plan import check_fit
from latentsweep.stages.dataset import published_name
from latentsweep.stages.model_folder import write_model
from latentsweep.stages.pipeline import Keys, keys_of
from latentsweep.storage.entries import Entry
from latentsweep.storage.home import Home, write_json
from latentsweep.storage.store import Store
from trainables.autoencoder.training import vae_steps
from trainables.errors import ConfigError, StoppedError
from trainables.measures.inception import InceptionWeights
from trainables.recipes import Recipe

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """A finished training: its model's folder, and its measurements by split."""

    name: str
    folder: Path
    evaluations: dict[str, Entry]
    entries: dict[str, Entry]
    """The results, by stage, those of the last split: test, where the dataset has one."""
    from_store: bool
    configuration: Configuration
    findings: list[Finding]
    """What the lints say of it."""

    def metrics(self, split: str) -> dict[str, float]:
        """The measurements on a split, under the configuration's own early-stop threshold."""
        return stages.measured(self.evaluations[split], self.configuration.recipe)

    @property
    def comparable(self) -> str:
        """What the test score was measured against: scores of the same are comparable."""
        reference = self.entries["reference"].summary
        generated = self.configuration.recipe.evaluation.samples
        return f"{reference['sha']}, {reference['samples']} real, {generated} generated"

    @property
    def last(self) -> str:
        """The split whose measurements count: test, where the dataset has one."""
        return list(self.evaluations)[-1]

    @property
    def scores(self) -> dict[str, float]:
        """The measurements that count."""
        return self.metrics(self.last)

    @property
    def ended(self) -> int:
        """When the last measurement was made, milliseconds since the epoch."""
        created = max(entry.manifest["created"] for entry in self.evaluations.values())
        return int(datetime.datetime.fromisoformat(created).timestamp() * 1000)


def watch(
    job: Future[None], store: Store, keys: Keys, recipe: Recipe, dataset: PreparedDataset, view: TrainingView
) -> None:
    """Shows a training's progress until it ends; raises what it raised, or :class:`StoppedError` after Ctrl-C."""
    slices = dataset.counts(recipe.data.split)["train"]
    totals = {"vae": vae_steps(recipe.vae, slices), "denoiser": recipe.diffusion.steps}
    try:
        while not wait([job], timeout=0.5).done:
            for stage, total in totals.items():
                record = store.progress(getattr(keys, stage).name)
                if record:
                    view.show(stage, record, total)
        job.result()
    except KeyboardInterrupt:
        raise StoppedError("the training was stopped; nothing is lost, and the same command goes on") from None


def train(
    home: Home,
    configuration: Configuration,
    dataset: PreparedDataset,
    weights: InceptionWeights,
    packing: Packing,
    console: Console,
    *,
    workers: int = 1,
    address: str = "local",
) -> Training:
    """Trains what the store lacks, measures on the held-out splits, and writes the model's folder."""
    check_fit(configuration.recipe, dataset)
    if workers > min(configuration.recipe.vae.batch_size, configuration.recipe.diffusion.batch_size):
        raise ConfigError(f"--workers must be at most the batch size, since each takes a share of it; got {workers}")
    expected = configuration.origin.get("dataset_fingerprint", dataset.fingerprint)
    if expected != dataset.fingerprint:
        log.warning("%s was prepared otherwise than for this configuration's sweep: scores will differ", dataset.name)
    store = Store.of(home)
    splits = [split for split in dataset.splits(configuration.recipe.data.split) if split != "train"]
    last = splits[-1]
    keys = {
        split: keys_of(configuration.recipe, dataset.fingerprint, configuration.seed, weights.sha256, split)
        for split in splits
    }
    name = f"{dataset.name}-{keys[last].evaluation.digest[:8]}"
    folder = home.writable(home.trained / name)
    uses = {name for split in splits for name in keys[split].names()} | published_name(home, dataset.fingerprint)
    write_json(folder / "uses.json", sorted(uses))
    from_store = all(store.find(key) for key in (keys[last].latents, keys[last].denoiser))
    assignment = Assignment.of(
        home,
        store,
        dataset.name,
        dataset.fingerprint,
        weights,
        recipe=configuration.recipe,
        seed=configuration.seed,
        execution=packing.limited("diffusion", configuration.execution).replace(workers=workers),
    )
    if not from_store:
        with (
            TrainingView(console) as view,
            cluster(address, gpus=len(packing.cards), cards=packing.visible_devices),
            background(1) as pool,
        ):
            gpu_share = 1.0 if packing.gpu_share else 0.0
            check_resources(workers * configuration.execution.threads, workers * gpu_share)
            job = pool.submit(
                run_under_train,
                worker.retraining,
                {"assignment": assignment, "splits": splits},
                name=f"train-{keys[last].evaluation.digest}",
                folder=folder / "train",
                workers=workers,
                threads=configuration.execution.threads,
                gpu_share=gpu_share,
            )
            watch(job, store, keys[last], configuration.recipe, dataset, view)
    evaluations = {split: assignment.pipeline(split=split).evaluation() for split in splits}
    lineage = {key.stage: store.find(key) for key in keys[last].evaluation.lineage()}
    entries = {stage: entry for stage, entry in lineage.items() if entry}
    write_model(folder, store, keys[last], configuration)
    scores = stages.measured(evaluations[last], configuration.recipe)
    findings = [
        *inspection.of_run(store, configuration.recipe, keys[last], scores),
        *inspection.of_dataset(home, dataset, configuration.recipe.data.split),
    ]
    return Training(name, folder, evaluations, entries, from_store, configuration, findings)


def record_training(recorder: Recorder, training: Training) -> str | None:
    """A run of its own for a training; returns its identifier."""
    key, configuration = f"training/{training.name}", training.configuration
    origin = configuration.origin
    recorder.open_run(
        key,
        name=f"training {training.name}",
        kind="training",
        params={
            "dataset": configuration.dataset,
            "seed": configuration.seed,
            "steps": configuration.recipe.diffusion.steps,
            **{field: value_of(configuration.recipe, field) for field in origin.get("parameters", {})},
        },
        tags={
            **{f"latentsweep.from_{name}": str(origin[name]) for name in ("sweep", "trial") if name in origin},
            **as_tags(training.findings),
        },
    )
    recorder.log(key, as_records(stages.replayed(training.entries["denoiser"])))
    for split, evaluation in training.evaluations.items():
        named = {f"{split}/{name.split('/')[-1]}": value for name, value in training.metrics(split).items()}
        recorder.log(key, [final_record(evaluation, configuration.recipe.diffusion.steps, named)])
    last = final_record(training.evaluations[training.last], configuration.recipe.diffusion.steps, training.scores)
    recorder.log(key, [last])
    for path in pictures(training.entries.values()):
        recorder.log_file(key, path, stages.FIGURES)
    recorder.close_run(key, "finished", tags=execution_tags(training.entries["denoiser"]), ended=training.ended)
    return recorder.run_id(key)
