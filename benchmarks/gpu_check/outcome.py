"""Runs a part in its own process under its limit, and says what came of it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_check.notes import Noted, Value

LAST_LINES = 25
"""Lines of a part's own output that are shown where it fails."""


@dataclass(frozen=True)
class Outcome:
    """A part's line."""

    part: int
    name: str
    status: str
    """'passed', 'failed', 'not shown' or 'timed out'."""
    reason: str
    seconds: float
    checks: dict[str, bool]
    numbers: dict[str, Value]

    @property
    def bad(self) -> bool:
        """Whether the whole check fails by it."""
        return self.status in ("failed", "timed out")

    def to_json(self) -> str:
        """As one line."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)


def run(number: int, name: str, limit: float, command: Sequence[str], notes: Path, log: Path) -> Outcome:
    """Runs ``command``, which leaves ``notes``, for at most ``limit`` seconds; its output goes to ``log``.

    Whatever it has started ends with it.
    """
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    overran = process.returncode is None
    code = process.wait()
    seconds = round(time.monotonic() - began, 1)
    noted = Noted.read(notes)
    status, reason = judge(noted, None if overran else code, limit)
    return Outcome(number, name, status, reason, seconds, noted.checks, noted.numbers)


def judge(noted: Noted, code: int | None, limit: float) -> tuple[str, str]:
    """Status and reason of a part that left ``noted`` and ended with ``code``; None: it was ended at its limit."""
    failures = [f"doesn't hold: {claim}" for claim, held in noted.checks.items() if not held] + noted.failures
    if code is None:
        return "timed out", "; ".join([f"ended after {limit:g} s, its limit", *failures])
    if not noted.ended:
        failures.append(f"its process ended with {code} before the part did")
    if failures:
        return "failed", "; ".join(failures)
    if noted.left_out:
        return "not shown", "; ".join(noted.left_out)
    return "passed", ""


def last_lines(log: Path) -> str:
    """The end of a part's output."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-LAST_LINES:])


def table(outcomes: Sequence[Outcome]) -> str:
    """All outcomes for people: a line for each, its claims and its numbers under it."""
    lines = []
    for outcome in outcomes:
        lines.append(f"{outcome.part:>2}  {outcome.name:<10} {outcome.status:<10} {outcome.seconds:6.1f} s")
        lines += [f"      {reason}" for reason in [outcome.reason] if reason]
        lines += [f"      {'held' if held else 'DID NOT HOLD'}: {claim}" for claim, held in outcome.checks.items()]
        lines += [f"      {name:<58} {value}" for name, value in outcome.numbers.items()]
    counts = {status: sum(outcome.status == status for outcome in outcomes) for status in STATUSES}
    total = sum(outcome.seconds for outcome in outcomes)
    said = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return "\n".join([*lines, f"{said}; {total:.0f} s in all, with {sys.executable}"])


STATUSES = ("passed", "failed", "not shown", "timed out")
