"""What several runs share: autoencoders, each a Ray Train run, and real features.

A study computes all of it before its runs begin (:func:`obtain`); a sweep each :class:`Work` when a trial needs it.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentsweep.execution import worker
from latentsweep.execution.cluster import background, result_of, run_under_train
from latentsweep.execution.packing import Packing
from latentsweep.execution.view import View
from latentsweep.execution.worker import Brief
from latentsweep.search.leaderboard import described
from latentsweep.stages.keys import Keys
from latentsweep.stages.table import SHARED, VAE
from latentsweep.storage.entries import StageKey
from latentsweep.storage.store import Store
from trainables.space import stage_of

ALONE = [stage for stage in SHARED if stage is not VAE and not stage.follows(VAE)]
"""The shared stages that need no autoencoder; they are computed while it is trained."""


@dataclass(frozen=True)
class Shared:
    """An autoencoder and all else that runs share; ``label`` names them in the view."""

    label: str
    brief: Brief
    keys: Keys

    def names(self) -> list[str]:
        """The results, as the store names them."""
        return [self.keys[stage.name].name for stage in SHARED if stage.name in self.keys]

    @property
    def trained(self) -> list[StageKey]:
        """The keys of the autoencoder and of all that is computed from it, in the order of the table."""
        return [self.keys[stage.name] for stage in SHARED if stage not in ALONE]


@dataclass(frozen=True)
class Work:
    """What one worker computes for all trials that need it.

    It is an autoencoder and what follows from it alone, or real features. What follows from the autoencoder but also
    depends on other searched values is a trial's own.
    """

    label: str
    """As the view names it."""
    keys: tuple[StageKey, ...]
    """Of its results, in the order of the table."""
    params: Mapping[str, Any]
    """The values by which its configuration differs from the sweep's recipe."""

    @functools.cached_property
    def name(self) -> str:
        """The first of its results, as the store names it; it tells one work from another."""
        return self.keys[0].name

    @property
    def section(self) -> str:
        """The section of the recipe whose part of a card it takes."""
        return "vae" if self.keys[0].stage == VAE.name else "diffusion"

    @property
    def config(self) -> dict[str, Any]:
        """What its worker is told."""
        return {"stages": [key.stage for key in self.keys], "params": dict(self.params), "section": self.section}

    @classmethod
    def of(cls, keys: Keys, alone: Keys, params: Mapping[str, Any]) -> list[Work]:
        """What trials with these ``keys`` share; ``params`` are their values of ``data`` and ``vae``.

        ``alone`` are the keys of the sweep's recipe with ``params`` alone, which is what a work's worker computes.
        """
        data = {field: value for field, value in params.items() if stage_of(field) == "data"}
        following = [keys[stage.name] for stage in SHARED if stage not in ALONE]
        trained = tuple(key for key in following if key == alone[key.stage])
        others = [cls(_label(stage.title, data), (keys[stage.name],), data) for stage in ALONE if stage.name in keys]
        return [cls(_label(VAE.title, params), trained, params), *others]


def _label(title: str, params: Mapping[str, Any]) -> str:
    return ", ".join(filter(None, (title, described(params))))


def obtain(shared: Sequence[Shared], store: Store, folder: Path, packing: Packing, view: View) -> None:
    """Computes what the store lacks, as much at once as ``packing`` allows; ``folder`` is for Ray Train's own files.

    What several of ``shared`` have alike is computed once, under the first label. An autoencoder that diverges
    leaves nothing, and the view says so.
    """
    import ray

    began = time.monotonic()
    task = ray.remote(num_cpus=packing.threads, num_gpus=packing.gpu_share)(worker.compute)
    tasks = {}
    for stage in ALONE:
        having = [each for each in shared if stage.name in each.keys]
        lacking = {each.keys[stage.name].name: each for each in having if not store.find(each.keys[stage.name])}
        for each in lacking.values():
            which = f" [{each.keys[stage.name].digest[:6]}]" if len(lacking) > 1 else ""
            tasks[task.remote(each.brief, stage.name)] = stage.title + which
    for label in tasks.values():
        view.stage(label, "computing", going=True)
    first: dict[str, Shared] = {}
    for each in shared:
        first.setdefault(each.trained[-1].name, each)
    waiting = []
    for each in first.values():
        if all(store.find(key) for key in each.trained):
            view.stage(each.label, "done before", quiet=True)
        else:
            waiting.append(each)
    with background(packing.concurrent) as pool:
        jobs = {pool.submit(_train, each, folder, packing): each for each in waiting}
        while jobs or tasks:
            done, _ = concurrent.futures.wait(jobs, timeout=0.5)
            for future in done:
                each, seconds = jobs.pop(future), future.result()
                how = "done" if store.find(each.keys.latents) else "diverged, and its runs will fail:"
                view.stage(each.label, f"{how} in {seconds:.0f} s")
            for each in jobs.values():
                record = store.progress(each.keys.vae.name)
                state = f"training, step {int(record['step'])}" if record else "waiting"
                view.stage(each.label, state, going=True)
            ready, _ = ray.wait(list(tasks), timeout=0 if jobs else 0.5) if tasks else ([], [])
            for finished in ready:
                result_of(finished)
                view.stage(tasks.pop(finished), f"done in {time.monotonic() - began:.0f} s")


def _train(shared: Shared, folder: Path, packing: Packing) -> float:
    """Computes an autoencoder, and what is computed from it, in Ray; returns the seconds that this took."""
    began = time.monotonic()
    brief = dataclasses.replace(shared.brief, execution=packing.limited("vae", shared.brief.execution))
    run_under_train(
        worker.compute_shared,
        {"brief": brief},
        name=f"vae-{shared.trained[-1].digest}",
        folder=folder,
        workers=1,
        threads=packing.threads,
        gpu_share=packing.vae_share,
    )
    return time.monotonic() - began
