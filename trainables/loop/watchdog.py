"""Ends a process whose loops have stopped moving, so that whoever waits for it can start it again.

A thread of the interpreter's own does it, without the interpreter's lock: it also fires where a call into a
library never returns, and writes where each thread was. (A process that the system has stopped is out of its reach.)
"""

from __future__ import annotations

import contextlib
import faulthandler
import time
from collections.abc import Iterator
from typing import TextIO

REARMED_EVERY = 1.0
"""Seconds: a beat within this time of the last costs nothing but a look at the clock."""

_armed: tuple[float, TextIO] | None = None
_last = 0.0


@contextlib.contextmanager
def watched(seconds: float, log: TextIO) -> Iterator[None]:
    """While this lasts, the process ends (exit code 1) when ``seconds`` go by without a :func:`beat`; 0: never.

    The stack of every thread goes to ``log``, an open file.
    """
    global _armed
    if seconds:
        _armed = seconds, log
        _arm()
    try:
        yield
    finally:
        _armed = None
        faulthandler.cancel_dump_traceback_later()


def beat() -> None:
    """A loop has moved: called at every step of what may take long."""
    if _armed and time.monotonic() - _last > REARMED_EVERY:
        _arm()


def _arm() -> None:
    global _last
    assert _armed
    _last = time.monotonic()
    faulthandler.dump_traceback_later(_armed[0], exit=True, file=_armed[1])
