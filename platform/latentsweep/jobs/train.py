"""Training one configuration in full, through Ray Train, and keeping what comes of it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from concurrent.futures import wait
from dataclasses import dataclass, field
from pathlib import Path

from latentsweep import stages
from latentsweep.configuration import Configuration
from latentsweep.datasets.ledger import note_use
from latentsweep.datasets.slices import PreparedDataset, check_fingerprint
from latentsweep.execution import worker
from latentsweep.execution.cluster import background, run_under_train
from latentsweep.execution.supervision import ignore_signals
from latentsweep.execution.view import View, describe_progress
from latentsweep.execution.worker import Brief
from latentsweep.jobs.job import Job, Runtime
from latentsweep.lints import Finding, as_tags, targets
from latentsweep.metrics import GENERATED
from latentsweep.records.descriptions import describe_training
from latentsweep.records.recorder import Recorder
from latentsweep.records.results import (
    as_records,
    execution_tags,
    final_record,
    guard_tags,
    log_samples,
    pictures,
    span,
    value_of,
)
from latentsweep.search.plan import check_fit
from latentsweep.stages import guards
from latentsweep.stages.denoiser import check_kept, check_rung, how_to_keep, scored_with
from latentsweep.stages.keys import Keys, keys_of
from latentsweep.stages.model_folder import write_model
from latentsweep.stages.stage import Identity
from latentsweep.stages.table import DOWNSTREAM
from latentsweep.storage.entries import Entry
from latentsweep.storage.home import Home, write_json
from trainables.autoencoder.training import vae_steps
from trainables.errors import ConfigError
from trainables.measures.weights import InceptionWeights

log = logging.getLogger(__name__)

SCORES = "scores.json"
"""The file of a model's folder with all that was measured of it, by split."""


def name_of(dataset: str, keys: Keys) -> str:
    """The name of what is measured on a dataset under these keys, in a training's folder and in the ledger."""
    return f"{dataset}-{keys.evaluation.digest[:8]}"


def checked_keys(
    configuration: Configuration, dataset: PreparedDataset, weights: InceptionWeights, workers: int
) -> dict[str, Keys]:
    """The keys of a training's results, by the held-out split that they are measured on; nothing is made.

    Raises :class:`ConfigError` or :class:`DataError` for what can't be trained.
    """
    recipe = configuration.recipe
    check_fit(recipe, dataset)
    if workers > min(recipe.vae.batch_size, recipe.diffusion.batch_size):
        raise ConfigError(f"--workers must be at most the batch size, since each takes a share of it; got {workers}")
    read = dataset.fingerprint_of(masks=recipe.data.mask)
    check_fingerprint(dataset.name, read, configuration.fingerprint)
    return {
        split: keys_of(recipe, read, configuration.seed, weights.sha256, split)
        for split in dataset.splits(recipe.data.rule)
        if split != "train"
    }


class Retraining(Job):
    """One configuration in the folder of its model; whoever calls :meth:`run` holds :meth:`~Job.locked`."""

    noun = "training"

    def __init__(
        self,
        home: Home,
        configuration: Configuration,
        dataset: PreparedDataset,
        weights: InceptionWeights,
        workers: int = 1,
    ) -> None:
        """Raises what :func:`checked_keys` raises."""
        self.keys = checked_keys(configuration, dataset, weights, workers)
        """The results by the split that they are measured on."""
        self.configuration, self.dataset, self.workers = configuration, dataset, workers
        self.last = list(self.keys)[-1]
        """The split whose measurements count: test, where the dataset has one."""
        self.name = name_of(dataset.name, self.keys[self.last])
        read = dataset.fingerprint_of(masks=configuration.recipe.data.mask)
        super().__init__(home, home.trained / self.name, dataset.name, read, weights)

    @property
    def lock_folder(self) -> Path:
        """Beside the model's folder, all of which is registered."""
        return self.home.writable(self.home.trained / ".locks" / self.name)

    def run(self, runtime: Runtime) -> Training:
        """Trains what the store lacks, measures on the held-out splits, and writes the model's folder.

        Raises what the trainings and :meth:`Runtime.ray` raise.
        """
        configuration, keys = self.configuration, self.keys[self.last]
        recipe = configuration.recipe
        self.use(name for each in self.keys.values() for name in each.names())
        found = self.store.find(keys.denoiser)
        if found:
            check_kept(found, recipe)
        else:
            check_rung(recipe)
        from_store = bool(found and self.store.find(keys.latents))
        earlier = note_use(self.home, self.dataset, "train", self.name, self.last, recipe.data.rule)
        share = 1.0 if runtime.packing.gpu_share else 0.0
        runtime = dataclasses.replace(runtime, packing=dataclasses.replace(runtime.packing, gpu_share=share))
        runtime = runtime.with_threads(configuration.execution.threads)
        brief = self.brief(runtime.packing, recipe, configuration.seed)
        if not from_store:
            self._train(runtime, brief)
        pipelines = {split: brief.pipeline(split=split) for split in self.keys}
        for pipeline in pipelines.values():
            pipeline.finish()
        evaluations = {split: pipeline.evaluation() for split, pipeline in pipelines.items()}
        tried = {split: each.downstream() for split, each in pipelines.items() if DOWNSTREAM.wanted(recipe)}
        found_now = {stage: self.store.find(key) for stage, key in keys.items()}
        entries = {stage: entry for stage, entry in found_now.items() if entry}
        write_model(self.folder, self.store, keys, configuration)
        by_split = {split: stages.metrics_of(entry, recipe, tried.get(split)) for split, entry in evaluations.items()}
        write_json(self.folder / SCORES, by_split)
        findings = [
            *targets.lint_run(self.store, recipe, keys, by_split[self.last]),
            *targets.lint_dataset(self.home, self.dataset, recipe.data.rule),
        ]
        from latentsweep.jobs.model_card import write_card  # only here: a plan draws nothing

        training = Training(self, evaluations, entries, from_store, findings, earlier, tried)
        write_card(training, brief.pipeline(split=self.last))
        return training

    def before_copying(self, training: Training) -> Retraining | None:
        """The same training as it was at the last rung before it copied; None where it doesn't, or copied at once.

        The slices of the first held-out split decide, not those of the test split. Where the store's training was not
        measured on its way as this configuration is, that is said.
        """
        recipe, denoiser = self.configuration.recipe, training.entries["denoiser"]
        if recipe.sampling.after_steps or not guards.copies(training.metrics(next(iter(self.keys)))):
            return None
        identity = Identity(recipe, self.fingerprint, self.configuration.seed, self.weights.sha256)
        kept = denoiser.summary.get("clean_until", 0)
        alike = denoiser.summary.get("rungs") == scored_with(identity)
        if recipe.evaluation.rungs and not alike:
            log.warning(
                "it copies at its end, and the training in the store kept no earlier weights that were measured as "
                "this configuration is; for these %s",
                how_to_keep(denoiser),
            )
        if not kept or not alike:
            return None
        clean = dataclasses.replace(self.configuration, recipe=recipe.replace(**{"sampling.after_steps": kept}))
        return Retraining(self.home, clean, self.dataset, self.weights, self.workers)

    def _train(self, runtime: Runtime, brief: Brief) -> None:
        """Trains in Ray, and shows the progress."""
        recipe, keys = self.configuration.recipe, self.keys[self.last]
        steps = {
            "vae": vae_steps(recipe.vae, self.dataset.counts(recipe.data.rule)["train"]),
            "denoiser": recipe.diffusion.steps,
        }
        with View(runtime.console, self.name) as view, runtime.ray(self.workers), background(1) as pool:
            training = pool.submit(
                run_under_train,
                worker.retraining,
                {"brief": brief, "splits": list(self.keys)},
                name=f"train-{keys.evaluation.digest}",
                folder=self.folder / "train",
                workers=self.workers,
                threads=runtime.packing.threads,
                gpu_share=runtime.packing.gpu_share,
            )
            while not wait([training], timeout=0.5).done:
                self.show(view, steps)
            training.result()

    def show(self, view: View, steps: Mapping[str, int]) -> None:
        """Shows how far each stage is, of so many ``steps``, while it goes on, and then once that it is done."""
        for stage, total in steps.items():
            name = getattr(self.keys[self.last], stage).name
            record = self.store.progress(name)
            if record:
                view.stage(stage, describe_progress(record, total), going=True)
            elif stage in view.going:
                view.stage(stage, "done")


@dataclass(frozen=True)
class Training:
    """What a retraining gave."""

    job: Retraining
    evaluations: dict[str, Entry]
    """The measurements by split."""
    entries: dict[str, Entry]
    """The results by stage, measured on the split that counts."""
    from_store: bool
    findings: list[Finding]
    """What the lints say of it."""
    earlier: int | None = None
    """How many other decisions had read the test split; None where it wasn't measured on that."""
    downstream: Mapping[str, Entry] = field(default_factory=dict)
    """The downstream comparisons by split, where the configuration has them."""

    def metrics(self, split: str) -> dict[str, float]:
        """The measurements on a split, under the configuration's own early-stop threshold."""
        return stages.metrics_of(self.evaluations[split], self.job.configuration.recipe, self.downstream.get(split))

    @property
    def comparable(self) -> str:
        """What the test score was measured against: scores of the same are comparable."""
        reference = self.entries["reference"].summary
        generated = self.job.configuration.recipe.evaluation.samples
        return f"{reference['sha']}, {reference['samples']} real, {generated} generated"

    @property
    def scores(self) -> dict[str, float]:
        """The measurements that count."""
        return self.metrics(self.job.last)

    @property
    def judged(self) -> dict[str, float]:
        """The measurements that the guards judge: of the first split that they refuse, else those that count."""
        each = map(self.metrics, self.evaluations)
        return next((metrics for metrics in each if guards.refusal(metrics)), self.scores)

    @property
    def refused(self) -> str:
        """Why the guards refuse it on any split, in words; empty where they don't."""
        return guards.refusal(self.judged)

    @property
    def ended(self) -> int:
        """When the last measurement was made, milliseconds since the epoch."""
        return span(self.evaluations.values())[1]

    @property
    def began(self) -> int:
        """When the training of the denoiser began, milliseconds since the epoch."""
        return span([self.entries["denoiser"]])[0]


def by_split(split: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Measurements under the name of their split, as ``test/kid``; one of reconstructions keeps its part of the name
    where the generated slices have one of the same name: ``test/recon/kid``."""
    short = {name: name.rpartition("/")[2] for name in metrics}
    generated = {short[name] for name in metrics if name.startswith(GENERATED)}
    return {
        f"{split}/{name if short[name] in generated and not name.startswith(GENERATED) else short[name]}": value
        for name, value in metrics.items()
    }


def record_training(recorder: Recorder, training: Training) -> str | None:
    """A run of its own for a training; returns its identifier."""
    job, configuration = training.job, training.job.configuration
    key, origin, steps = f"training/{job.name}", configuration.origin, configuration.recipe.diffusion.steps
    recorder.open_run(
        key,
        name=job.name,
        kind="training",
        params={
            "dataset": configuration.dataset,
            "seed": configuration.seed,
            "steps": steps,
            **{field: value_of(configuration.recipe, field) for field in origin.get("parameters", {})},
        },
        tags={
            **{f"latentsweep.from_{name}": str(origin[name]) for name in ("sweep", "trial") if name in origin},
            **as_tags(training.findings),
            **guard_tags(training.judged),
        },
        began=training.began,
    )
    try:
        recorder.log_dataset(key, job.dataset.name, job.fingerprint)
        text = describe_training(job.dataset.name, configuration.origin, training.scores, job.last)
        recorder.describe(key, text)
        recorder.log(key, as_records(stages.records_of(training.entries["denoiser"])))
        for split, evaluation in training.evaluations.items():
            recorder.log(key, [final_record(evaluation, steps, by_split(split, training.metrics(split)))])
        recorder.log(key, [final_record(training.evaluations[job.last], steps, training.scores)])
        for path in pictures(training.entries.values()):
            recorder.log_file(key, path, stages.FIGURES)
        log_samples(recorder, key, training.evaluations[job.last], configuration.recipe)
        recorder.close_run(key, "finished", tags=execution_tags(training.entries["denoiser"]), ended=training.ended)
    except KeyboardInterrupt:
        with ignore_signals():
            recorder.close_run(key, "stopped")
        raise
    return recorder.run_id(key)
