"""The word that a job stops: the parent hears first that it was asked for, and the driver says so through its view.

The driver is deaf while Ray waits, and its live view would paint over what the parent says. So the parent tells a
thread of the driver by a socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from latentsweep.execution import streams

TELLER = "LATENTSWEEP_TELLER"
"""Set in a driver's environment: its end of the socket."""
STOPPING = "stopping: what runs ends at its last checkpoint"

_speakers: list[Callable[[str], None]] = []


@dataclass(frozen=True)
class Teller:
    """The parent's end of the socket, and the driver's until that is started."""

    ours: socket.socket
    theirs: socket.socket

    @classmethod
    def make(cls) -> Teller:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        return cls(ours, theirs)

    @property
    def number(self) -> int:
        """The descriptor that the driver gets."""
        return self.theirs.fileno()

    def tell(self) -> None:
        """Has the driver say it; says it itself before that listens."""
        try:
            listens = self.ours.recv(1)
            self.ours.send(listens)
        except OSError:
            streams.say(f"\n{STOPPING}")

    def close(self) -> None:
        for end in (self.ours, self.theirs):
            end.close()


@contextlib.contextmanager
def stop_told_by(say: Callable[[str], None]) -> Iterator[None]:
    """During a ``with``, ``say`` tells that a stop was asked for, from a thread of its own."""
    _speakers.append(say)
    try:
        yield
    finally:
        _speakers.remove(say)


def listen() -> None:
    """In a driver, begins to wait in a thread for the parent's word, which it says whatever the main thread does."""
    if TELLER in os.environ:
        number = int(os.environ.pop(TELLER))
        threading.Thread(target=_listen, args=(number,), daemon=True).start()


def _listen(number: int) -> None:
    os.set_inheritable(number, False)
    with contextlib.suppress(OSError), socket.socket(fileno=number) as parent:
        parent.send(b"!")
        if parent.recv(1):
            say = _speakers[-1] if _speakers else lambda line: streams.say(f"\n{line}")
            say(STOPPING)
