"""What a sweep of the small recipe finds out about the real slices, before it trains anything."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from command_line import THIN, TINY

from latentsweep.configuration import overridden
from latentsweep.datasets.slices import open_dataset
from latentsweep.execution import worker
from latentsweep.execution.worker import Brief
from latentsweep.lints.targets import lint_dataset
from latentsweep.stages.stage import Identity
from latentsweep.stages.table import REAL_FEATURES
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.loop.settings import Execution
from trainables.measures.weights import find_weights
from trainables.recipes import recipe_named

REAL = ("reference", "inspection")
"""The stages that depend on the real slices and on nothing trained."""
SHARED = ("vae", "latents", "reconstruction", *REAL)
"""The stages that trials share."""


def measure(folder: Path, dataset: str = "demo") -> None:
    """Computes :data:`REAL` in the home ``folder`` as commands with the small recipe and the thin network would.

    Sweeps compare with the validation split, and studies and retrainings with the test split.
    """
    home, weights = Home(folder), find_weights(Path(THIN[1]))
    slices = open_dataset(home.datasets, dataset)
    recipe = overridden(recipe_named("smoke"), [word for word in TINY if word != "--set"])
    execution = Execution(threads=1)
    for split in ("validation", "test"):
        identity = Identity(recipe, slices.fingerprint, 0, weights.sha256, split)
        worker.compute(Brief.of(home, Store.of(home), dataset, weights, identity, execution), REAL_FEATURES.name)
    lint_dataset(home, slices)


def give(source: Path, home: Path, stages: Sequence[str] = REAL) -> None:
    """Copies the results of ``stages`` from one home's store to another's.

    A key derives from all that its result depends on, so a command finds them only where it would compute the same.
    """
    for stage in stages:
        shutil.copytree(source / "store" / stage, home / "store" / stage, dirs_exist_ok=True)


if __name__ == "__main__":  # a process of the tests, which may measure with the thin network
    measure(Path(sys.argv[1]))
