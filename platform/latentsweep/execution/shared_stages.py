"""What several runs share, computed before any begins: autoencoders, each a Ray Train run, and real features."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latentsweep.execution import worker
from latentsweep.execution.cluster import background, result_of, run_under_train
from latentsweep.execution.packing import Packing
from latentsweep.execution.view import View
from latentsweep.execution.worker import Assignment
from latentsweep.stages.pipeline import Keys
from latentsweep.storage.store import Store


@dataclass(frozen=True)
class Shared:
    """An autoencoder, its latents and worth, and the real slices that it is measured with; ``label`` names them."""

    label: str
    assignment: Assignment
    keys: Keys

    def names(self) -> list[str]:
        """The results, as the store names them."""
        return [key.name for key in self.keys.reconstruction.lineage()]


def obtain(shared: Sequence[Shared], store: Store, folder: Path, packing: Packing, view: View) -> None:
    """Computes what the store lacks, as much at once as ``packing`` allows; ``folder`` is for Ray Train's own files.

    An autoencoder that diverges leaves nothing, and the view says so.
    """
    import ray

    began = time.monotonic()
    task = ray.remote(num_cpus=packing.threads, num_gpus=packing.gpu_share)(worker.reference)
    lacking = {each.keys.reference.name: each for each in shared if not store.find(each.keys.reference)}
    references = {}
    for each in lacking.values():
        which = f" [{each.keys.reference.digest[:6]}]" if len(lacking) > 1 else ""
        references[task.remote(each.assignment)] = f"real features and floor{which}"
    for label in references.values():
        view.stage(label, "computing")
    waiting = {}
    for each in shared:
        if all(store.find(key) for key in (each.keys.vae, each.keys.latents, each.keys.reconstruction)):
            view.stage(each.label, "done before", quiet=True)
        else:
            waiting[each.keys.reconstruction.name] = each
    with background(packing.concurrent) as pool:
        jobs = {pool.submit(_train, each, folder, packing): each for each in waiting.values()}
        while jobs or references:
            done, _ = concurrent.futures.wait(jobs, timeout=0.5)
            for future in done:
                each, seconds = jobs.pop(future), future.result()
                how = "done" if store.find(each.keys.latents) else "diverged, and its runs will fail:"
                view.stage(each.label, f"{how} in {seconds:.0f} s")
            for each in jobs.values():
                record = store.progress(each.keys.vae.name)
                view.stage(each.label, f"training, step {int(record['step'])}" if record else "waiting", quiet=True)
            ready, _ = ray.wait(list(references), timeout=0 if jobs else 0.5) if references else ([], [])
            for reference in ready:
                result_of(reference)
                view.stage(references.pop(reference), f"done in {time.monotonic() - began:.0f} s")


def _train(shared: Shared, folder: Path, packing: Packing) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    assignment = dataclasses.replace(shared.assignment, execution=packing.limited("vae", shared.assignment.execution))
    run_under_train(
        worker.autoencoder,
        {"assignment": assignment},
        name=f"vae-{shared.keys.reconstruction.digest}",
        folder=folder,
        workers=1,
        threads=packing.threads,
        gpu_share=packing.vae_share,
    )
    return time.monotonic() - began
