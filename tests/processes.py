"""The processes of a running command, told apart by what they do; Linux's ``/proc`` is enough for it."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from command_line import ROOT

KINDS = {
    "raylet": "/raylet/raylet",
    "trial": "ray::ImplicitFunc",
    "worker": "ray::",
    "driver": "cli.py",
}
"""Part of the command line of each kind of process."""


@dataclass
class Job:
    """A command that runs in the background; its output goes to ``log``."""

    process: subprocess.Popen[bytes]
    home: Path
    log: Path

    @classmethod
    def start(cls, home: Path, *words: object, environment: dict[str, str] | None = None, name: str = "") -> Job:
        """Runs a command in a home; ``name`` tells the log from those of others that run there at once."""
        log = home.with_name(f"{name or home.name}.log")
        command = [sys.executable, str(ROOT / "cli.py"), *map(str, words), "--home", str(home)]
        with log.open("w") as file:
            process = subprocess.Popen(
                command,
                stdout=file,
                stderr=file,
                cwd=home.parent,
                start_new_session=True,
                env={**os.environ, "LATENTSWEEP_HOME": str(home), **(environment or {})},
            )
        return cls(process, home, log)

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, condition: Callable[[], object], seconds: float = 900) -> None:
        """Until ``condition()`` holds; the command must still run."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)

    def wait_to_hear(self, text: str, times: int = 1) -> None:
        self.wait_for(lambda: self.said.count(text) >= times)

    def of_kind(self, kind: str) -> list[int]:
        return [pid for pid, command in descendants(self.process.pid).items() if KINDS[kind] in command]

    def kill(self, kind: str) -> int:
        """SIGKILL for one process of that kind, as soon as there is one."""
        self.wait_for(lambda: self.of_kind(kind))
        pid = self.of_kind(kind)[0]
        os.kill(pid, signal.SIGKILL)
        return pid

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The driver does nothing, and so cannot end, for the length of a ``with``; its workers go on."""
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)

    def ended(self, seconds: float = 600) -> int:
        """The exit code, when it has ended."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(self.said) from None


def spent() -> float:
    """Seconds of the CPU that this process's children took which have ended: how long they waited isn't in it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def commands() -> dict[int, tuple[int, str]]:
    """Parent and command line of every process that is not a zombie."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                text = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[int(folder.name)] = int(parent), text
    return found


def descendants(root: int) -> dict[int, str]:
    """Command lines of all processes below ``root``."""
    table = commands()
    below: dict[int, str] = {}
    waiting = [root]
    while waiting:
        parent = waiting.pop()
        children = {pid: text for pid, (above, text) in table.items() if above == parent}
        below |= children
        waiting += children
    return below


def left_by(home: Path) -> list[str]:
    """Command lines of processes that still work for a home: all inherit its name from the command."""
    mark, left = f"LATENTSWEEP_HOME={home}\0".encode(), []
    for pid, (_, text) in commands().items():
        with contextlib.suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            if mark in environment:
                left.append(text)
    return left
