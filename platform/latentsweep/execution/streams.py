"""Standard streams that outlive what they lead to: a terminal that was closed, a pipe whose reader has ended.

A job runs for hours, and what it says is the least of what it does. A line that nobody can read is dropped.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from typing import Any


class _Enduring(io.FileIO):
    """A file descriptor, not its owner, which takes what can't be written as written."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)

    def write(self, data: Any, /) -> Any:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def endure() -> None:
    """Makes ``sys.stdout`` and ``sys.stderr`` outlive what they lead to, and a terminal no reason to stop.

    ``stty tostop`` stops a process of the background that prints; a driver is one, whoever started it.
    """
    if hasattr(signal, "SIGTTOU"):
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError):
                stream.flush()
            raw = io.BufferedWriter(_Enduring(stream.fileno()))
            setattr(sys, name, io.TextIOWrapper(raw, stream.encoding, stream.errors, line_buffering=True))


def say(line: str) -> None:
    """Writes a line to standard error, also from a handler of signals; what can't be written is dropped."""
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode())
