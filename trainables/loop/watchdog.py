"""Ends a process whose loops no longer move on, so that it can be started again.

``faulthandler`` does it without the interpreter's lock, so it also works where a call into a library never returns.
It can't end a process that the system has stopped.
"""

from __future__ import annotations

import contextlib
import faulthandler
import time
from collections.abc import Iterator
from typing import TextIO

REARMED_EVERY = 1.0
"""Seconds after a beat in which another one only looks at the clock."""

_armed: tuple[float, TextIO] | None = None
_last = 0.0


@contextlib.contextmanager
def watch(seconds: float, log: TextIO) -> Iterator[None]:
    """Inside, ``seconds`` without a :func:`beat` end the process (exit code 1; stacks go to ``log``); 0: never."""
    global _armed
    if seconds:
        _armed = seconds, log
        _arm()
    try:
        yield
    finally:
        _armed = None
        faulthandler.cancel_dump_traceback_later()


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Inside, no beat is needed: this process waits for another one, which is watched itself.

    What waits and is never answered must end by another way, such as a lock that the system frees.
    """
    global _armed
    before, _armed = _armed, None
    faulthandler.cancel_dump_traceback_later()
    try:
        yield
    finally:
        _armed = before
        if _armed:
            _arm()


def beat() -> None:
    """Tells that a loop has moved on; it calls this at every step."""
    if _armed and time.monotonic() - _last > REARMED_EVERY:
        _arm()


def _arm() -> None:
    global _last
    assert _armed
    _last = time.monotonic()
    faulthandler.dump_traceback_later(_armed[0], exit=True, file=_armed[1])
