"""A command over the null card: run in the rehearsal's environment, with what it said kept in files."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rehearsal.card import Card, Process, processes
from rehearsal.environment import CHECKOUT, Environment

ENDING = 30.0
"""Seconds that a command has to end by itself when its time is over."""


class FailedError(Exception):
    """Something in a part of the rehearsal is not as it has to be."""


class Said(NamedTuple):
    """What a command wrote to its two streams, and its exit code."""

    out: str
    err: str
    code: int


@dataclass(frozen=True)
class Stage:
    """A card, and a folder for the logs of the commands that share it."""

    environment: Environment
    folder: Path
    card: Card = field(default_factory=Card)
    took: dict[str, float] = field(default_factory=dict)
    """Seconds of its commands, by their names."""

    @property
    def record(self) -> Path:
        """What its processes did."""
        return self.folder / "record"

    def variables(self) -> dict[str, str]:
        """The environment variables of its commands."""
        return self.environment.variables() | self.card.variables(self.record)

    def processes(self) -> list[Process]:
        """The processes that launched something on the card."""
        return processes(self.record, self.environment.card)

    def run(
        self, name: str, *words: object, seconds: float = 900, codes: tuple[int, ...] = (0,), path: Path | None = None
    ) -> Said:
        """What a command said, which is begun in the checkout; its streams are kept under ``name``.

        Modules in ``path`` come first. Raises :class:`FailedError` where it ends with none of the exit ``codes``, or
        not within so many ``seconds``.
        """
        log, began = self.folder / f"{len(self.took) + 1:02}-{name}", time.monotonic()
        out, err = log.with_suffix(".out"), log.with_suffix(".err")
        variables = self.variables()
        if path:
            variables["PYTHONPATH"] = f"{path}{os.pathsep}{variables['PYTHONPATH']}"
        with out.open("w") as standard, err.open("w") as error:
            process = subprocess.Popen(
                [str(word) for word in words], stdout=standard, stderr=error, env=variables, cwd=CHECKOUT
            )
            try:
                ended = process.wait(seconds)
            except subprocess.TimeoutExpired:
                end(process)
                raise FailedError(f"{name} took more than {seconds:.0f} s; see {log}.err") from None
            finally:
                self.took[name] = time.monotonic() - began
        said = Said(out.read_text(), err.read_text(), ended)
        if ended not in codes:
            lines = [line for line in (said.err or said.out).splitlines() if line.strip()]
            tail = "".join(f"\n    {line}" for line in lines[-8:])
            raise FailedError(f"{name} ended with {ended}; see {log}.out and .err{tail}")
        return said


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process, by force where it doesn't end by itself in time."""
    process.terminate()
    try:
        process.wait(ENDING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
