"""Counts the CPU seconds that the guards against faults take, in every process of a command.

A guard is a function of the product that nothing but a fault needs. Each is wrapped as soon as its module is there;
what it took is added up in a file of the process, in memory that outlives a killed one. Of guards inside guards the
outer one counts.
"""

from __future__ import annotations

import atexit
import importlib.util
import mmap
import os
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = "GUARD_CLOCK"
"""The environment variable that names the folder of the files."""
COMMAND = "the command that watches its driver"
THREADS = "threads that wait for the parent's word or end"
GUARDS: dict[str, dict[str, tuple[str, ...]]] = {
    "the dataset's fingerprint, rows and digests at every open": {
        "latentsweep.datasets.slices": ("open_dataset", "PreparedDataset.check_unchanged"),
        "latentsweep.datasets.allowance": ("fits",),
    },
    "form and digests of results": {"latentsweep.storage.entries": ("fault_of", "damage_of")},
    "names and links of the store": {
        "latentsweep.storage.bounds": ("fits", "admit", "link_in", "refuse_links", "remove_links"),
    },
    "locks": {
        "filelock._api": ("BaseFileLock.acquire", "BaseFileLock.release"),
        "latentsweep.execution.lock": ("hold_lock",),
        "latentsweep.datasets.holds": ("use",),
    },
    "beats": {"trainables.loop.watchdog": ("beat", "watch", "waiting")},
    "folders that Ray left": {"latentsweep.execution.ray_folder": ("remove_abandoned",)},
    THREADS: {},
    COMMAND: {},
}
"""Functions and methods by module, by what the table calls them."""
WATCHING = ("_end_with", "_listen")
"""The functions of the threads, by which Python names these."""
NAMES = list(GUARDS)

_counts: mmap.mmap | None = None
_inside = threading.local()


def sums(folder: Path) -> dict[str, float]:
    """CPU seconds by guard, of all processes."""
    found = dict.fromkeys(NAMES, 0.0)
    for path in folder.iterdir():
        for name, seconds in zip(NAMES, struct.unpack(f"{len(NAMES)}d", path.read_bytes()), strict=True):
            found[name] += seconds
    return found


def begin() -> None:
    """Counts from now on in this process."""
    global _counts
    if FOLDER in os.environ:
        path = Path(os.environ[FOLDER]) / f"{os.getpid()}-{time.monotonic_ns()}"
        path.write_bytes(bytes(8 * len(NAMES)))
        with path.open("r+b") as file:
            _counts = mmap.mmap(file.fileno(), 0)
        sys.meta_path.insert(0, Finder())
        atexit.register(note_command)


def add(name: str, seconds: float, *, instead: bool = False) -> None:
    assert _counts
    place = 8 * NAMES.index(name)
    before = 0.0 if instead else struct.unpack_from("d", _counts, place)[0]
    struct.pack_into("d", _counts, place, before + seconds)


def note_command() -> None:
    """At the end of the process that a user started: all that it took, for a driver would do without it."""
    if "latentsweep.execution.supervision" in sys.modules and "LATENTSWEEP_DRIVER" not in os.environ:
        add(COMMAND, time.process_time(), instead=True)


def note_threads() -> None:
    """What the threads that wait have taken till now."""
    taken = 0.0
    for thread in threading.enumerate():
        if thread.ident and any(f"({function})" in thread.name for function in WATCHING):
            taken += time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    add(THREADS, taken, instead=True)


class Timed:
    """Time inside of it counts for a guard, unless it is inside of another one's."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        _inside.depth = getattr(_inside, "depth", 0) + 1
        self.began = time.thread_time()

    def __exit__(self, *error: object) -> None:
        _inside.depth -= 1
        if not _inside.depth:
            add(self.name, time.thread_time() - self.began)
            note_threads()


class TimedContext:
    """What a guard gives for a ``with``: only its beginning and its end count."""

    def __init__(self, name: str, context: Any) -> None:
        self.name, self.context = name, context

    def __enter__(self) -> Any:
        with Timed(self.name):
            return self.context.__enter__()

    def __exit__(self, *error: Any) -> Any:
        with Timed(self.name):
            return self.context.__exit__(*error)


def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def guard(*arguments: Any, **options: Any) -> Any:
        with Timed(name):
            given = function(*arguments, **options)
        return TimedContext(name, given) if type(given).__name__ == "_GeneratorContextManager" else given

    return guard


class Finder:
    """Wraps the guards of a module once it has run."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        wanted = {label: functions[name] for label, functions in GUARDS.items() if name in functions}
        if not wanted or getattr(_inside, "looking", False):
            return None
        _inside.looking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            _inside.looking = False
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            run(module)
            for label, functions in wanted.items():
                for function in functions:
                    *classes, own = function.split(".")
                    holder = module
                    for each in classes:
                        holder = getattr(holder, each)
                    setattr(holder, own, timed(label, getattr(holder, own)))

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
