"""Cells of the contest: trainings that fill a budget of CPU seconds, each computed once and kept as two files.

A cell is a contender, a budget, a seed and the settings that its name holds a digest of. Its phases, such as an
autoencoder and a denoiser, are trained one after another. How many steps fit is found from short runs at the start,
which aren't counted. A phase that missed its seconds by more than :data:`TOLERANCE` of the budget is trained again.
"""

from __future__ import annotations

import functools
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from trainables.config import fingerprint

Bytes = npt.NDArray[np.uint8]

TOLERANCE = 0.05
"""By how much of the budget the CPU seconds of a cell may miss it."""
ATTEMPTS = 3
"""How often a phase is trained at most."""
SHORTEST = 3.0
"""The last of the short runs takes at least so many CPU seconds more than the one before it."""
OF_BUDGET = 0.02
"""The same as a share of the phase's seconds."""


class Training(Protocol):
    """A contender's training from one seed; its phases run in the order of ``shares``, any number of times."""

    @property
    def shares(self) -> Mapping[str, float]:
        """Each phase's share of the budget."""

    def run(self, phase: str, steps: int) -> None:
        """Trains a phase from its start, in so many steps; its schedule has their length."""

    def draw(self, count: int) -> Bytes:
        """Images (count, H, W) of what the last runs left."""


class Cost(NamedTuple):
    """CPU seconds of a phase: some at each run, and some for each step."""

    start: float
    step: float

    def steps(self, seconds: float) -> int:
        """How many steps come nearest to so many seconds, at least one."""
        return max(1, round((seconds - self.start) / self.step))

    def scale(self, factor: float) -> Cost:
        """The same on a machine that takes ``factor`` times as long."""
        return Cost(self.start * factor, self.step * factor)


class Phase(NamedTuple):
    """What a phase took."""

    steps: int
    seconds: float


def spend(
    training: Training, budget: float, clock: Callable[[], float] = time.process_time
) -> tuple[dict[str, Phase], int]:
    """Trains every phase, so that all together take ``budget`` CPU seconds; and how often each was trained at most.

    The last phase has what the others left.
    """

    def seconds_of(phase: str, steps: int) -> float:
        started = clock()
        training.run(phase, steps)
        return clock() - started

    spent: dict[str, Phase] = {}
    attempts, names = 0, list(training.shares)
    for phase in names:
        used = sum(each.seconds for each in spent.values())
        wanted = budget - used if phase == names[-1] else training.shares[phase] * budget
        cost = measure_cost(functools.partial(seconds_of, phase), max(SHORTEST, OF_BUDGET * wanted))
        for attempt in range(ATTEMPTS):
            attempts = max(attempts, attempt + 1)
            steps = cost.steps(wanted)
            spent[phase] = Phase(steps, seconds_of(phase, steps))
            if abs(spent[phase].seconds - wanted) <= TOLERANCE * budget:
                break
            cost = cost.scale(spent[phase].seconds / (cost.start + steps * cost.step))
    return spent, attempts


def measure_cost(seconds_of: Callable[[int], float], shortest: float) -> Cost:
    """The cost of a phase, from runs of 1, 2, 4 … steps until one takes ``shortest`` seconds more than the last.

    These two give the line: shorter ones validate less often than a long one does. A run before them warms the caches
    and says nothing.
    """
    seconds_of(1)
    before, steps = seconds_of(1), 1
    while True:
        steps *= 2
        now = seconds_of(steps)
        if now - before >= shortest:
            step = (now - before) / (steps / 2)
            return Cost(max(0.0, now - steps * step), step)
        before = now


@dataclass(frozen=True)
class Plan:
    """What a cell is of."""

    contender: str
    budget: int
    """CPU seconds."""
    seed: int
    settings: Mapping[str, Any]
    """JSON values: all that the training depends on beyond budget and seed."""

    @property
    def name(self) -> str:
        """The name of the cell's files: the same plan has the same one, another plan another one."""
        return f"{self.contender}-{self.budget}s-seed{self.seed}-{fingerprint(dict(self.settings), length=8)}"


@dataclass(frozen=True)
class Cell:
    """What came of a plan."""

    plan: Plan
    phases: dict[str, Phase]
    attempts: int
    sampling_seconds: float
    """CPU seconds for the images, which the budget doesn't hold."""
    images: int
    metrics: dict[str, float]
    """As :func:`trainables.measures.evaluation.evaluate_generated` names them, against the test split."""
    validation_kid: float
    """KID ×1000 against the validation split, by which a learning rate is chosen."""
    machine: str

    @property
    def seconds(self) -> float:
        """CPU seconds of the training."""
        return sum(phase.seconds for phase in self.phases.values())

    @property
    def on_budget(self) -> bool:
        """Whether they are within the tolerance."""
        return abs(self.seconds - self.plan.budget) <= TOLERANCE * self.plan.budget


class Cells:
    """The cells in a folder, ``<name>.json`` beside ``<name>.npz``, which holds ``images`` (N, H, W) uint8.

    Those that were published have no images: their JSON files lie in the folder ``published``.
    """

    def __init__(self, folder: Path, published: Path) -> None:
        self.folder, self.published = folder, published
        folder.mkdir(parents=True, exist_ok=True)

    def find(self, plan: Plan) -> Cell | None:
        """The cell of a plan; None where it isn't computed."""
        paths = [folder / f"{plan.name}.json" for folder in (self.folder, self.published)]
        path = next((path for path in paths if path.exists()), None)
        if path is None:
            return None
        values = json.loads(path.read_text())
        values["phases"] = {name: Phase(*phase) for name, phase in values["phases"].items()}
        return Cell(**values | {"plan": plan})

    def images(self, plan: Plan) -> Bytes | None:
        """Its images; None where they were not computed in this folder."""
        path = self.folder / f"{plan.name}.npz"
        if not path.exists():
            return None
        images: Bytes = np.load(path)["images"]
        return images

    def publish(self) -> None:
        """Copies the numbers of all cells, those that chose a learning rate too, to the published ones."""
        self.published.mkdir(parents=True, exist_ok=True)
        for path in self.folder.glob("*.json"):
            shutil.copyfile(path, self.published / path.name)

    def keep(self, cell: Cell, images: Bytes) -> None:
        """Writes both files, the JSON last and at once: a cell that was interrupted isn't there."""
        np.savez_compressed(self.folder / f"{cell.plan.name}.npz", images=images)
        path = self.folder / f"{cell.plan.name}.json"
        path.with_suffix(".new").write_text(json.dumps(asdict(cell), indent=1) + "\n")
        os.replace(path.with_suffix(".new"), path)


class Mean(NamedTuple):
    """A mean over seeds, and its standard error, which is NaN for one seed."""

    value: float
    error: float
    seeds: int


def mean_of(values: Iterable[float]) -> Mean:
    """Of at least one value; NaN for none."""
    found = np.array(list(values), dtype=np.float64)
    if not len(found):
        return Mean(math.nan, math.nan, 0)
    error = float(found.std(ddof=1) / math.sqrt(len(found))) if len(found) > 1 else math.nan
    return Mean(float(found.mean()), error, len(found))
