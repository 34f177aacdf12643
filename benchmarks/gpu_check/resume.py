"""A training that is killed in its middle and goes on, against one that nothing disturbs."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from pathlib import Path

from gpu_check.card import Card
from gpu_check.notes import Notes
from gpu_check.trainings import HELD_OUT, SAMPLES, execution, latents, scratch
from trainables.denoiser.training import train_denoiser
from trainables.loop.records import Record, Report, ignore_report
from trainables.recipes import RECIPES

RECIPE = RECIPES["smoke"]
"""A small denoiser: what is looked at is the way back, not the steps."""

STEPS, VALIDATIONS = 60, 6
STAND_INS = 18
"""Steps where nothing is computed."""

KILLED_AFTER = 2
"""Checkpoints that the training has written when it is killed."""

CLOSE = 1e-2
"""Tolerance of a record, relative, where the card's sums don't come out the same each time."""


def show_resume(notes: Notes, card: Card) -> None:
    """The same records; bit for bit where two undisturbed trainings give the same."""
    count = card.count(STEPS, STAND_INS)
    with scratch() as folder:
        undisturbed, again = (train(folder / name, count) for name in ("first", "second"))
        reached = kill_one(folder / "killed", count)
        notes.measure("resume.steps", count)
        notes.measure("resume.killed_after_step", reached)
        notes.check("the training was killed in its middle", 0 < reached < count)
        resumed = train(folder / "killed", count)
    notes.check("the resumed training has the steps of the undisturbed one", steps(resumed) == steps(undisturbed))
    repeats, differs = largest(undisturbed, again), largest(undisturbed, resumed)
    notes.measure("resume.two_undisturbed_differ_relative", repeats, computed=True)
    notes.measure("resume.resumed_differs_relative", differs, computed=True)
    if repeats == 0:
        notes.check("resumed records are those of the undisturbed training, bit for bit", differs == 0, computed=True)
    else:
        notes.check(
            f"resumed records differ by at most {CLOSE:g} from the undisturbed ones", differs <= CLOSE, computed=True
        )


def train(folder: Path, count: int, report: Report = ignore_report) -> list[Record]:
    """The records of the training of ``count`` steps in ``folder``, from its checkpoint on where there is one."""
    folder.mkdir(exist_ok=True)
    config = RECIPE.diffusion.replace(steps=count, validations=VALIDATIONS, dropout=0.1)
    training, held_out = latents(RECIPE, SAMPLES), latents(RECIPE, HELD_OUT)
    return train_denoiser(config, training, held_out, seed=0, folder=folder, execution=execution(), report=report)[1]


def kill_one(folder: Path, count: int) -> int:
    """Trains in another process, and ends that by SIGKILL; the step of the last report before."""
    told = folder.with_suffix(".step")
    process = multiprocessing.get_context("spawn").Process(
        target=train_and_tell, args=(folder, count, told), daemon=True
    )
    process.start()
    while process.is_alive() and not (told.exists() and len(told.read_text().split()) >= KILLED_AFTER):
        time.sleep(0.005)
    process.kill()
    process.join()
    reached = [int(step) for step in told.read_text().split()] if told.exists() else []
    return reached[-1] if process.exitcode and reached else 0


def train_and_tell(folder: Path, count: int, told: Path) -> None:
    """Trains, and adds the step of each report to a file."""

    def tell(fresh: Sequence[Record]) -> None:
        if fresh:
            with told.open("a") as file:
                file.write(f"{fresh[-1]['step']:.0f}\n")

    train(folder, count, tell)


def steps(records: Sequence[Record]) -> list[float]:
    """At which steps there are records."""
    return [record["step"] for record in records]


def largest(theirs: Sequence[Record], ours: Sequence[Record]) -> float:
    """The largest relative difference of a number in two lists of records; their times are left aside."""
    differences = [
        abs(mine[name] - value) / max(abs(value), 1e-12)
        for his, mine in zip(theirs, ours, strict=True)
        for name, value in his.items()
        if name != "time"
    ]
    return max(differences)
