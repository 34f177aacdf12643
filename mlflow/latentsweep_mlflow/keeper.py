"""The process between a command and a server: it ends the server and its children when the command is gone.

A command that is killed can end nothing itself. ``python -P keeper.py NUMBER-OF-THE-COMMAND WORDS…`` leads the group
of processes that the words start.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

EVERY = 0.5
"""Seconds between two looks at who the parent is."""
PATIENCE = 5.0
"""Seconds that the server has to end by itself."""


def keep(parent: int, words: list[str]) -> int:
    """Runs ``words`` until they end, or this process has another parent; returns their exit code."""
    server = subprocess.Popen(words)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which the server, too, gets, and ends by
    while server.poll() is None and os.getppid() == parent:
        time.sleep(EVERY)
    if server.returncode is not None:
        return server.returncode
    os.killpg(0, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(PATIENCE)
    os.killpg(0, signal.SIGKILL)
    return 0


if __name__ == "__main__":
    sys.exit(keep(int(sys.argv[1]), sys.argv[2:]))
