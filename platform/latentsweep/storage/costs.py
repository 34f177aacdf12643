"""What a build in progress leaves beside it in its workspace: its cost so far, and what it says of itself."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latentsweep.storage.home import write_json

COST = ".cost.json"
PROGRESS = ".progress.json"


@contextlib.contextmanager
def stopwatch(workspace: Path) -> Iterator[dict[str, float]]:
    """Wall and CPU seconds of the body, added to those of earlier attempts in this workspace."""
    path = workspace / COST
    cost = {"seconds": 0.0, "cpu_seconds": 0.0} | read_numbers(path)
    wall, cpu = time.monotonic() - cost["seconds"], time.process_time() - cost["cpu_seconds"]
    try:
        yield cost
    finally:
        cost["seconds"] = round(time.monotonic() - wall, 3)
        cost["cpu_seconds"] = round(time.process_time() - cpu, 3)
        if workspace.exists():
            write_json(path, cost)


def read_numbers(path: Path) -> dict[str, float]:
    """The numbers of a JSON file beside a build in progress; none where it is missing or damaged."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return numbers_of(found)


def numbers_of(found: Any) -> dict[str, float]:
    """What was read, where it is numbers by name; else nothing."""
    numbers = isinstance(found, dict) and all(isinstance(value, (int, float)) for value in found.values())
    return found if numbers else {}
