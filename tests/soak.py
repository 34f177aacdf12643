"""What the soaks share: a sweep whose processes may be killed at any moment, and how its command is said again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

from processes import Job, left_by
from swept import sweep_words

DATASET = "demo"
SPACE = """
dimensions:
  vae.latent_channels: [4, 8]
  diffusion.frequency_weight: [0.0, 0.1, 0.2, 0.3]
  diffusion.cutmix_probability: [0.0, 0.25, 0.5]
  sampling.early_stop_threshold: [0.0, 0.4]
"""
KILLED = ("command", "driver", "trial", "worker")
"""The process that a user started, the driver under it, a trial's, or any of Ray's workers."""

LONGEST_PAUSE = 6.0
"""Seconds that a process may go on, at most, when it was chosen."""


def short_sweep(
    folder: Path, trials: int, *, space: str = SPACE, sampler: str = "random", pruner: str = "none"
) -> list[str]:
    """The words of a sweep whose trials are as short as may be, and scored on the way only where a pruner looks."""
    folder.mkdir(exist_ok=True)
    words = sweep_words(folder, DATASET, trials, space=space, sampler=sampler, pruner=pruner)
    short = {"evaluation.samples": 4, "sampling.steps": 4} | ({} if pruner != "none" else {"evaluation.rungs": 0})
    words += ["--confirm", "0"]
    return [*words, *(word for field, value in short.items() for word in ("--set", f"{field}={value}"))]


def targets(job: Job, kind: str) -> list[int]:
    """The processes of a kind that are there to be killed."""
    return [job.process.pid] if kind == "command" else job.of_kind(kind)


def kill_one(job: Job, kind: str, random_: random.Random) -> bool:
    """SIGKILL for one process of a kind; False where there is none."""
    found = targets(job, kind)
    with contextlib.suppress(ProcessLookupError):
        if found:
            os.kill(random_.choice(found), signal.SIGKILL)
            return True
    return False


def again(job: Job, words: list[str]) -> Job:
    """The command once more, where it gave up after so many short lives of its driver; no other end may be."""
    assert "times in a row" in job.said, job.said
    return Job.start(job.home, *words, name=job.log.stem)


def check_nothing_left(home: Path, patience: float = 60.0) -> None:
    """No process works for a home any more, or will soon."""
    deadline = time.monotonic() + patience
    while left_by(home) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not left_by(home), left_by(home)
