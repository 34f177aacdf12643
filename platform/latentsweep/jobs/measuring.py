"""Measuring runs, for studies and confirmations: what they share first, then each denoiser as a Ray task."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from latentsweep.execution import worker
from latentsweep.execution.packing import Packing
from latentsweep.execution.shared_stages import Shared
from latentsweep.execution.view import View
from latentsweep.execution.work_log import tail
from latentsweep.jobs.job import Job
from latentsweep.records.redaction import redact
from latentsweep.stages.keys import Keys
from trainables.errors import INFRASTRUCTURE, DiskError
from trainables.recipes import Recipe

log = logging.getLogger(__name__)


class Measurable(Protocol):
    """A configuration with a seed, to be trained and measured."""

    @property
    def name(self) -> str:
        """As it is told to people."""

    @property
    def recipe(self) -> Recipe:
        """Its configuration."""

    @property
    def seed(self) -> int:
        """The seed of its trainings and samples."""

    @property
    def keys(self) -> Keys:
        """The keys of its results."""


Run = TypeVar("Run", bound=Measurable)
Failure = Mapping[str, str]
"""``reason``, ``class`` and ``log`` of a run that gave no result."""


def measure(
    job: Job,
    runs: Sequence[Run],
    packing: Packing,
    view: View,
    ended: Callable[[Run, Failure | None], str],
    *,
    split: str = "validation",
    before: int = 0,
) -> None:
    """Trains and measures ``runs``, whose results the store lacks, on ``split``; runs of one denoiser share a task.

    ``ended`` is told of each run how it ended, and returns that in words for the view, which counts on from
    ``before``. Raises what computing the shared stages raises, and :class:`~trainables.errors.DiskError`.
    """
    import ray

    briefs = {run.name: job.brief(packing, run.recipe, run.seed, split=split) for run in runs}
    shared = [Shared(f"autoencoder of {run.name}", briefs[run.name], run.keys) for run in runs]
    job.obtain(shared, packing, view)
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.keys.denoiser.name, []).append(run)
    task = ray.remote(num_cpus=packing.threads, num_gpus=packing.gpu_share, max_retries=2)(worker.measurements)
    waiting: dict[Any, list[Run]] = {}
    for group in groups.values():
        waiting[task.remote(briefs[group[0].name], [run.recipe for run in group])] = group
    done, total = before, before + len(runs)
    while waiting:
        ready, _ = ray.wait(list(waiting), timeout=0.5)
        for reference in ready:
            group = waiting.pop(reference)
            failure = _outcome(reference, job.store.log_of(group[0].keys.denoiser))
            for run in group:
                done += 1
                view.stage(run.name, f"{ended(run, failure)}   ({done} of {total})")
        for group in waiting.values():
            progress = job.store.progress(group[0].keys.denoiser.name)
            if progress:
                view.stage(group[0].name, f"training, step {int(progress['step'])}", going=True)


def _outcome(reference: Any, log_of: Path) -> dict[str, str] | None:
    """What a task returned; a lost worker or an unexpected error is the infrastructure's. Raises a ``DiskError``."""
    import ray

    try:
        found: dict[str, str] | None = ray.get(reference)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        log.debug("a task failed", exc_info=error)
        reason = f"{type(cause).__name__}: {redact(str(cause).splitlines()[0])}"
        return {"reason": reason, "class": INFRASTRUCTURE, "log": tail(log_of)}
    if found and found["class"] == DiskError.kind:
        raise DiskError(found["reason"])
    return found
