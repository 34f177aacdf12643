"""What a result of the store is in a record: points of curves, scores, pictures and tags."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from latentsweep import stages
from latentsweep.metrics import DENOISER_SECONDS, EVALUATION_SECONDS, FINALS
from latentsweep.records.recorder import GENERATED_IMAGES, Recorder, StepRecord
from latentsweep.stages import guards
from latentsweep.stages.table import DENOISER, EVALUATION, PICTURED
from latentsweep.storage.entries import Entry, StageKey
from latentsweep.storage.store import Store
from trainables.config import as_scalar
from trainables.recipes import Recipe

DIGITS = 4
"""How many digits count of a number that is recorded to be shown."""


def log_scores(
    recorder: Recorder,
    key: str,
    store: Store,
    keys: Mapping[str, StageKey | str],
    recipe: Recipe,
    metrics: Mapping[str, float],
) -> None:
    """Record the scores of a configuration, what its stages took, and its pictures; nothing where they were freed.

    ``keys`` are those of its results, or their names, by stage.
    """
    evaluation, denoiser = store.find(keys[EVALUATION.name]), store.find(keys[DENOISER.name])
    if evaluation is None or denoiser is None:
        return
    costs = {DENOISER_SECONDS.name: denoiser.seconds, EVALUATION_SECONDS.name: evaluation.seconds}
    recorder.log(key, [final_record(evaluation, recipe.diffusion.steps, {**costs, **metrics})])
    found = (store.find(keys[stage.name]) for stage in PICTURED if stage.name in keys)
    log_pictures(recorder, key, (entry for entry in found if entry))
    log_samples(recorder, key, evaluation, recipe)


def log_samples(recorder: Recorder, key: str, evaluation: Entry, recipe: Recipe) -> None:
    """Record the images of a configuration's own early-stop threshold, beside real ones, as those of the last step.

    Trainings draw a few images at each rung and keep none, so there is no picture of an earlier step.
    """
    path = evaluation.folder / stages.FIGURES / f"{stages.figure_of(recipe.sampling.early_stop_threshold)}.png"
    if path.is_file():
        recorder.log_picture(key, path, GENERATED_IMAGES, step=recipe.diffusion.steps, time=span([evaluation])[1])


def log_pictures(recorder: Recorder, key: str, entries: Iterable[Entry]) -> None:
    """Record the figures that these results hold."""
    for path in pictures(entries):
        recorder.log_file(key, path, stages.FIGURES)


def guard_tags(metrics: Mapping[str, float]) -> dict[str, str]:
    """What the guards say of measurements that they refuse; empty where they don't."""
    refused = guards.refusal(metrics)
    return {guards.TAG: refused} if refused else {}


def execution_tags(training: Entry) -> dict[str, str]:
    """What a training was computed on and in, and what of the ladder it took where memory was short."""
    taken = {name: value for name, value in training.summary.get("memory", {}).items() if value}
    return {
        f"latentsweep.{name}": str(value) for name, value in (training.summary.get("execution", {}) | taken).items()
    }


def span(entries: Iterable[Entry]) -> tuple[int, int]:
    """When the first of these results was begun, and the last was there, milliseconds since the epoch."""
    ends = [(datetime.datetime.fromisoformat(entry.manifest["created"]).timestamp(), entry) for entry in entries]
    return int(1000 * min(end - entry.seconds for end, entry in ends)), int(1000 * max(end for end, _ in ends))


def pictures(entries: Iterable[Entry]) -> list[Path]:
    """The figures that these results hold."""
    return [path for entry in entries for path in sorted((entry.folder / stages.FIGURES).glob("*.png"))]


def as_records(records: Sequence[Mapping[str, float]]) -> list[StepRecord]:
    """Records of a training loop as the recorder takes them."""
    return [
        StepRecord(int(r["step"]), int(r["time"]), {k: v for k, v in r.items() if k not in ("step", "time")})
        for r in records
    ]


def final_record(entry: Entry, step: int, metrics: Mapping[str, float]) -> StepRecord:
    """The end result under its own names and, for the columns of the runs' table, under ``final/``."""
    return StepRecord(step, span([entry])[1], {**metrics, **finals(metrics)})


def finals(metrics: Mapping[str, float]) -> dict[str, float]:
    """The few scores that the runs' table shows, under ``final/``: rounded, since it shows every digit of them."""
    return {final: rounded(metrics[name]) for name, final in FINALS.items() if name in metrics}


def rounded(value: float) -> float:
    """A number of :data:`DIGITS` digits that count."""
    return float(f"{value:.{DIGITS}g}")


def milliseconds(moment: datetime.datetime | None) -> int | None:
    """A moment of the study as milliseconds since the epoch."""
    return None if moment is None else int(moment.timestamp() * 1000)


def value_of(recipe: Recipe, field: str) -> Any:
    """The value of a dotted field, as a search space holds it."""
    section, name = field.split(".")
    return as_scalar(getattr(getattr(recipe, section), name))
