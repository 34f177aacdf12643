"""What a command costs: the wall time until it ends, and the CPU seconds of it and of every process below it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

EVERY = 0.2
"""Seconds between looks at the tree; a process that its parent doesn't wait for may lose as much of its time."""

TICK = os.sysconf("SC_CLK_TCK")
_PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Tree:
    """The CPU seconds of each process seen below this one, by its number and when it was started."""

    used: dict[tuple[int, int], float] = field(default_factory=dict)
    names: dict[tuple[int, int], str] = field(default_factory=dict)

    def look(self) -> list[int]:
        """Notes what every process below this one has used so far; returns their numbers."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                name, _, rest = path.read_text().rpartition(") ")
                fields = rest.split()
                seconds = (int(fields[11]) + int(fields[12])) / TICK
                found[int(path.parent.name)] = (int(fields[1]), int(fields[19]), seconds, name.partition("(")[2])
        below, reached = [], {os.getpid()}
        while reached:
            reached = {number for number, (parent, *_) in found.items() if parent in reached}
            below += sorted(reached)
        for number in below:
            _, started, seconds, name = found[number]
            self.used[number, started] = seconds
            self.names[number, started] = name
        return below

    def by_name(self) -> dict[str, float]:
        """CPU seconds by the name of the process, most first."""
        sums: dict[str, float] = {}
        for key, seconds in self.used.items():
            sums[self.names[key]] = sums.get(self.names[key], 0.0) + seconds
        return dict(sorted(sums.items(), key=lambda item: -item[1]))


@dataclass(frozen=True)
class Cost:
    """Seconds of a command: on the clock until it ended, and of CPU, user and system, of all its processes."""

    wall: float
    cpu: float
    by_name: dict[str, float]
    output: str


def measured(command: Sequence[str], environment: dict[str, str]) -> Cost:
    """Runs a command and says what it cost; raises ``RuntimeError`` with its output where it fails. Linux only.

    What the command leaves behind becomes a child of this process and is counted until it ends, too. CPU seconds
    are the larger of two counts that can only miss time: that of :class:`Tree`, and what the kernel adds up of
    processes that were waited for.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    tree, ended = Tree(), threading.Event()

    def watch() -> None:
        while not ended.wait(EVERY):
            tree.look()

    before, began = _waited_for(), time.monotonic()
    watcher = threading.Thread(target=watch)
    watcher.start()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wall = time.monotonic() - began
    ended.set()
    watcher.join()
    while tree.look():
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(EVERY)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} … ended with {done.returncode}:\n{done.stdout}")
    return Cost(wall, max(sum(tree.used.values()), _waited_for() - before), tree.by_name(), done.stdout)


def _waited_for() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
