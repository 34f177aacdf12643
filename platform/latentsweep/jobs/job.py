"""What all jobs share: the lock, the number of threads, the list of results they use, Ray, shared stages, the end."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from latentsweep.datasets import holds
from latentsweep.datasets.slices import check_prepared
from latentsweep.execution.cluster import check_resources, cluster
from latentsweep.execution.lock import hold_lock
from latentsweep.execution.packing import Packing
from latentsweep.execution.shared_stages import Shared, obtain
from latentsweep.execution.supervision import ignore_signals, stop_if_closing
from latentsweep.execution.view import View
from latentsweep.execution.worker import Brief
from latentsweep.search.plan import FEWER
from latentsweep.stages.dataset import published_name
from latentsweep.stages.stage import Identity
from latentsweep.storage.home import Home, read_json, write_json
from latentsweep.storage.housekeeping import USES, note_uses
from latentsweep.storage.store import Store
from trainables.errors import StoppedError
from trainables.loop.execution import fewer_threads
from trainables.measures.weights import InceptionWeights
from trainables.recipes import Recipe


@dataclass(frozen=True)
class Runtime:
    """What a job runs with."""

    packing: Packing
    """How trainings share the cards and the cores."""
    console: Console
    """Where progress is shown."""
    address: str = "local"
    """The Ray cluster to join; ``local`` starts one on this machine."""
    joined: bool = False
    """Whether Ray runs already, for a job that is part of a longer work."""

    def with_threads(self, threads: int) -> Runtime:
        """The same with that number of threads for each training, or with as many as can be had, which it says."""
        here = min(threads, self.packing.cores)
        if here < threads:
            self.console.print(f"note: {fewer_threads(threads, here)}", highlight=False, markup=False, soft_wrap=True)
        return dataclasses.replace(self, packing=dataclasses.replace(self.packing, threads=here))

    @contextlib.contextmanager
    def ray(self, workers: int = 1) -> Iterator[None]:
        """Ray for the length of a ``with``, started or joined.

        Raises :class:`~trainables.errors.ConfigError` where it has not the CPUs and cards of one training by
        ``workers``, since the job would wait for ever.
        """
        stop_if_closing()
        packing = self.packing
        if self.joined:
            yield
            return
        with cluster(self.address, gpus=len(packing.cards), cards=packing.visible_devices):
            check_resources(workers * packing.threads, workers * packing.gpu_share)
            yield


class Job:
    """A job in its folder. It works on one dataset, and its results lie in the home's store."""

    noun: ClassVar[str]
    """What messages call it."""

    def __init__(self, home: Home, folder: Path, dataset: str, fingerprint: str, weights: InceptionWeights) -> None:
        self.home, self.folder, self.weights = home, home.writable(folder), weights
        self.dataset_name, self.fingerprint = dataset, fingerprint
        self.store = Store.of(home)
        before = read_json(self.folder / USES, [])  # kept, also where stages have other versions today
        self.uses = {*published_name(home, fingerprint), *before}

    @property
    def lock_folder(self) -> Path:
        """Where the lock lies; messages name the job by the name of this folder."""
        return self.folder

    def note_stop(self) -> None:
        """Records that the user stopped the job."""

    @contextlib.contextmanager
    def locked(self, database: str = "") -> Iterator[None]:
        """Holds the job's lock, that of its study in ``database`` and its dataset, for the length of a ``with``.

        Raises :class:`~trainables.errors.LatentsweepError` where another process drives the job, what
        :meth:`check_dataset` raises, and :class:`StoppedError` after Ctrl-C.
        """
        datasets = self.home.writable(self.home.datasets)
        with hold_lock(self.lock_folder, database), holds.use(datasets, self.dataset_name):
            self.check_dataset()
            try:
                yield
            except KeyboardInterrupt:
                with ignore_signals():
                    self.note_stop()
                raise StoppedError(
                    f"the {self.noun} was stopped; nothing is lost, and the same command goes on"
                ) from None

    def check_dataset(self) -> None:
        """Raises :class:`~trainables.errors.ChangedDataError` where another dataset has taken the place of the job's.

        The lock of :meth:`locked` keeps ``data prepare`` from that; it can't keep back who moves folders.
        """
        check_prepared(self.home.datasets, self.dataset_name, self.fingerprint)

    def keep_threads(self, runtime: Runtime, file: str, settings: Mapping[str, Any]) -> Runtime:
        """The runtime with the threads that the job began with, so that its results stay comparable bit for bit.

        Where they can't be had, it goes on with fewer, and says so. Writes the threads that it began with, the
        numbers of fewer that it ever had, and the ``settings`` to ``file`` in the job's folder.
        """
        path = self.folder / file
        kept = read_json(path, {"threads": runtime.packing.threads})
        began, fewer = int(kept["threads"]), set(kept.get(FEWER, []))
        runtime = runtime.with_threads(began)
        fewer |= {runtime.packing.threads} - {began}
        write_json(path, {**settings, "threads": began, **({FEWER: sorted(fewer)} if fewer else {})})
        return runtime

    def use(self, names: Iterable[str]) -> None:
        """Notes results of the store that the job refers to, so that ``store free`` keeps them."""
        self.uses.update(names)
        note_uses(self.home, self.folder, self.uses)

    def brief(
        self, packing: Packing, recipe: Recipe, seed: int, *, split: str = "validation", section: str = "diffusion"
    ) -> Brief:
        """What a worker must know to train ``recipe`` within the part of a card that is for ``section``."""
        identity = Identity(recipe, self.fingerprint, seed, self.weights.sha256, split)
        execution = packing.limited(section, packing.execution.replace(threads=packing.threads))
        return Brief.of(self.home, self.store, self.dataset_name, self.weights, identity, execution)

    def obtain(self, shared: Sequence[Shared], packing: Packing, view: View) -> None:
        """Computes what the store lacks of the ``shared`` stages, each once, under the first label that it has."""
        obtain(shared, self.store, self.folder / "train", packing, view)
