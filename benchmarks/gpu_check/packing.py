"""Trials packed on a card as processes: the steps a second of all of them together, at 1, 2 and 4."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from contest import Contender, Processes

from gpu_check.card import Card
from gpu_check.notes import Notes
from gpu_check.trainings import RECIPE, execution, scratch, stretch, threads
from trainables.loop.records import Record
from trainables.loop.settings import GIB
from trainables.resources.memory import CONTEXT

TOGETHER, STAND_INS_TOGETHER = (1, 2, 4), (1, 2)
"""Trials at once, and where nothing is computed."""

PLANNED = 6 * GIB
"""The card that the trials share: each is held to its part of it."""

EVERY, FEWEST, MOST = 20, 80, 600
"""Steps between two looks at the clock, and of a turn at least and at most."""

SECONDS = 2.0
"""That a turn takes about, at the speed of the first steps."""

STAND_INS = 20
"""Steps of a turn where nothing is computed."""


def show_packing(notes: Notes, card: Card) -> None:
    """Part 8: denoisers of the recipe as it is, each process with its context, without NVIDIA's MPS."""
    together = TOGETHER if card.computes else STAND_INS_TOGETHER
    with scratch() as folder:
        contenders = {
            str(rank): Contender(build, (folder / f"{rank}.json", card.computes), max(1, threads() // max(together)))
            for rank in range(max(together))
        }
        with Processes(contenders) as processes:
            for rank in contenders:
                processes.run(rank, 0)  # waits until it is ready
            rates = {count: rate_of(processes, list(contenders)[:count], folder) for count in together}
    for count, rate in rates.items():
        notes.check(f"{count} at once came to their end", rate > 0)
        notes.measure(f"packed.{count}.steps_a_second_in_all", rate, computed=True)
        notes.measure(f"packed.{count}.over_one", rate / rates[1], computed=True)


def rate_of(processes: Processes, ranks: Sequence[str], folder: Path) -> float:
    """Steps a second in all of the processes ``ranks``, at once."""
    for rank in ranks:
        processes.start(rank, 1)
    for rank in ranks:
        processes.seconds(rank)
    return rate_in_all([json.loads((folder / f"{rank}.json").read_text()) for rank in ranks])


def build(path: Path, computes: bool) -> Callable[[], object]:
    """A job that trains a denoiser for some steps in its part of a card, and leaves its records in a file.

    A few steps are taken beforehand, which say how many make a turn.
    """
    most, every = max(TOGETHER), EVERY if computes else STAND_INS // 4
    how = execution(memory_gib=(PLANNED // most - CONTEXT) / GIB, threads=max(1, threads() // most))
    rate = rate_in_all([stretch(RECIPE, "diffusion", 2 * every, every, how)])
    steps = min(MOST, max(FEWEST, int(SECONDS * rate))) if computes else STAND_INS

    def job() -> None:
        path.write_text(json.dumps(stretch(RECIPE, "diffusion", steps, every, how)))

    return job


def rate_in_all(runs: Sequence[Sequence[Record]]) -> float:
    """Steps a second of all trainings together, over the time in which all were past their first records."""
    times = [np.array([record["time"] for record in run]) / 1000 for run in runs]
    steps = [np.array([record["step"] for record in run]) for run in runs]
    begin, end = max(each[0] for each in times), min(each[-1] for each in times)
    if end <= begin:
        raise RuntimeError("the trainings did not run at the same time")
    taken = (np.diff(np.interp((begin, end), *pair)).item() for pair in zip(times, steps, strict=True))
    return float(sum(taken) / (end - begin))
