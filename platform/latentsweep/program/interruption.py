"""Ctrl-C while a command still imports itself: one line and the exit code of a stop, and no traceback.

Imports nothing that takes time, for it has to come before all else.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

STOPPED = 128 + signal.SIGINT
"""Exit code of a command that ended because it was asked to."""
SAID = "stopped; what was finished is kept, and the same command goes on"


def end_quietly() -> None:
    """From now on Ctrl-C ends this process in one line; not where it is ignored, or another handler is set."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_again() -> None:
    """From now on Ctrl-C raises :class:`KeyboardInterrupt` again, which somebody catches; undoes the above alone."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, f"{SAID}\n".encode())
    os._exit(STOPPED)
