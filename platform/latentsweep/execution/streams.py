"""Standard streams that outlive what they lead to: a terminal that was closed, a pipe whose reader has ended.

A job runs for hours, and what it says is the least of what it does. A line that nobody can read is dropped. So is one
that finds no room, for which :func:`lost` tells at the end that the output isn't whole.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
from typing import Any

from latentsweep.storage.refusals import why

_GONE = {errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO}
"""The errors of a pipe without a reader, and of a terminal or a descriptor that was closed."""
_OUTPUT = 1
_lost: list[OSError] = []


class _Enduring(io.FileIO):
    """A file descriptor, not its owner, which takes what can't be written as written."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)

    def write(self, data: Any, /) -> Any:
        try:
            return super().write(data)
        except OSError as error:
            if self.fileno() == _OUTPUT and error.errno not in _GONE:
                _lost.append(error)
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


def lost() -> str:
    """Why standard output isn't whole though somebody reads it, in words; empty where it is."""
    return why(_lost[0]) if _lost else ""


def say(line: str) -> None:
    """Writes a line to standard error, also from a handler of signals; what can't be written is dropped."""
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode())
