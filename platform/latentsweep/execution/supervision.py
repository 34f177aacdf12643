"""The process that watches a driver: it passes signals on, starts a killed driver again, and ends what it left.

A driver that runs Ray can die at any moment and has no chance to say why: Ray ends the process when its raylet is
lost, and the kernel ends it when memory is short. So the command that a user starts only watches. The driver is its
child, started by ``sys.orig_argv``. A driver that is started again goes on from what the store has.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from latentsweep.execution import streams
from latentsweep.execution.ray_folder import remove_abandoned
from latentsweep.execution.stopping import TELLER, Teller, listen
from latentsweep.program.interruption import STOPPED
from latentsweep.program.invocation import CALLED, called

DRIVER = "LATENTSWEEP_DRIVER"
"""Set in a driver's environment: the number of the process that watches it."""

CLOSING = "LATENTSWEEP_CLOSING"
"""Set in the environment of a driver that only closes what another one left open."""

CRASHED = 70
"""Exit code of a driver with an unexpected error of this project: a new driver would meet it again."""

LOST = 75
"""Exit code of a driver that lost Ray: a new driver can go on."""

SHORT_LIFE = 60.0
"""Seconds. A driver that dies sooner, :data:`PATIENCE` times in a row, is not started again."""

PATIENCE = 5
ENDING = 60.0
"""Seconds that a driver has to end by itself; after them, a further signal kills it."""

REMINDED_EVERY = 15.0
"""Seconds until a driver is asked again: an interrupt is lost where it meets a callback of the interpreter."""

_ORPHANS_SECONDS = 10.0
_PR_SET_CHILD_SUBREAPER = 36
_TOGETHER = 1.0
"""Seconds in which several signals are one."""

_heard = -math.inf
"""When this driver was last asked to end."""
_holding, _pending = 0, False
"""How many :func:`hold_signals` there are around what runs, and whether it was asked to end inside."""


def must_watch() -> bool:
    """Whether a user started this process, so that it has to start a driver and watch it."""
    return DRIVER not in os.environ


def supervise() -> int:
    """Runs this command as a driver, and again each time that the driver was killed; returns its exit code.

    A driver that dies while it is asked to end, as Ray's driver does when the same signal ends Ray, is started once
    more, only to close what it left open.
    """
    if sys.platform == "linux":  # other systems have no such call; there, orphans end by themselves later
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    streams.endure()
    short, closing = 0, False
    while True:
        began = time.monotonic()
        code, stopping = _drive(closing)
        stopping |= code in (128 + signal.SIGTERM, 128 + signal.SIGHUP)  # which ended it before it could hear them
        if closing or code in (0, STOPPED) or (code in (2, CRASHED) and not stopping):
            return code
        if stopping:
            closing = True
            continue
        short = short + 1 if time.monotonic() - began < SHORT_LIFE else 0
        if short == PATIENCE:
            streams.say(f"error: the driver was lost {PATIENCE} times in a row; --debug shows more")
            return 1
        streams.say("note: the driver was lost; going on from what it had stored")


def _drive(closing: bool) -> tuple[int, bool]:
    """Starts one driver and waits for it; returns its exit code, and whether it was asked to end.

    One that is ``closing`` is asked from its start, and hears of no further signal but the one that kills it.
    """
    teller = Teller.make()
    asked: list[float] = []
    driver: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, frame: FrameType | None) -> None:
        if not asked and not closing:
            teller.tell()
        asked.append(time.monotonic())
        signal.setitimer(signal.ITIMER_REAL, REMINDED_EVERY)
        late = len(asked) > 2 and asked[-1] - asked[0] > ENDING
        if driver and (late or not closing):
            driver.send_signal(signal.SIGKILL if late else signal.SIGINT)

    before = {number: signal.signal(number, pass_on) for number in {*_stop_signals(), signal.SIGALRM}}
    try:
        marks = {DRIVER: str(os.getpid()), CALLED: called(), TELLER: str(teller.number)}
        marks |= {CLOSING: "1"} if closing else {}
        driver = subprocess.Popen(
            [sys.executable, *sys.orig_argv[1:]],
            env={**os.environ, **marks},
            pass_fds=[teller.number],
            process_group=0,
        )
        teller.theirs.close()
        code = driver.wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _end_orphans()
        for number, handler in before.items():
            signal.signal(number, handler)
        teller.close()
    return (code if code >= 0 else 128 - code), bool(asked)


def run_as_driver(work: Callable[[], object]) -> NoReturn:
    """Does ``work`` as a driver: it ends when its parent is gone, and takes SIGTERM and SIGHUP as Ctrl-C.

    The process ends at once after the work, with the code of its :class:`SystemExit`: a thread that waits for a lost
    Ray would keep the interpreter for ever. The code is never 0 where standard output found no room.
    """
    streams.endure()
    signal.signal(signal.SIGINT, _interrupt)  # a shell starts background jobs without it
    terminate_as_interrupt()
    threading.Thread(target=_end_with, args=(int(os.environ[DRIVER]),), daemon=True).start()
    listen()
    code: object = 0
    try:
        work()
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        code = STOPPED
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = CRASHED
    sys.stdout.flush()
    if streams.lost():
        streams.say(
            f"error: standard output must be written whole and is not: {streams.lost()}, and run the same command "
            "again; what was computed is kept"
        )
        code = code or 2
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _end_with(parent: int) -> None:
    """Waits in a thread until the parent is gone, then asks this process to end until it does."""
    while os.getppid() == parent:
        time.sleep(0.5)
    deadline = time.monotonic() + ENDING
    while time.monotonic() < deadline:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(REMINDED_EVERY)
    os._exit(LOST)


def terminate_as_interrupt() -> None:
    """Makes SIGTERM and SIGHUP do what Ctrl-C does; to be called again after Ray, which sets handlers of its own."""
    for number in _stop_signals() - {signal.SIGINT}:
        signal.signal(number, _terminate)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C in a driver."""
    global _pending
    if _again():
        return
    if _holding:
        _pending = True
    else:
        raise KeyboardInterrupt


def _terminate(number: int, frame: FrameType | None) -> None:
    """SIGTERM or SIGHUP in a driver: what Ctrl-C does now, which Ray Tune handles while trials run."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is _interrupt:
        _interrupt(number, frame)
    elif callable(handler) and not _again():
        handler(signal.SIGINT, frame)


def _again() -> bool:
    """Whether it was asked to end a moment ago: a whole group gets a signal, and the parent passes it on as well."""
    global _heard
    now = time.monotonic()
    again = now - _heard < _TOGETHER
    _heard = _heard if again else now
    return again


@contextlib.contextmanager
def hold_signals() -> Iterator[None]:
    """Inside, a driver that is asked to end goes on; it is interrupted at the end of the ``with`` instead."""
    global _holding, _pending
    _holding += 1
    try:
        yield
    finally:
        _holding -= 1
        if _pending and not _holding:
            _pending = False
            raise KeyboardInterrupt


def stop_if_closing() -> None:
    """Interrupts a driver that was started only to close what another one left open."""
    if CLOSING in os.environ:
        raise KeyboardInterrupt


@contextlib.contextmanager
def ignore_signals() -> Iterator[None]:
    """Ignores signals that ask for an end during a ``with``: for the few seconds in which records are closed."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_dead(process: int) -> bool:
    """Whether no process on this machine has that number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _stop_signals() -> set[signal.Signals]:
    """The signals that ask for an end; SIGHUP not where it is ignored, by ``nohup``."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return {signal.SIGINT, signal.SIGTERM} | (set() if ignored else {signal.SIGHUP})


def _end_orphans() -> None:
    """Ends what a driver left: kills the processes that have no other parent now, and removes Ray's folder."""
    deadline = time.monotonic() + _ORPHANS_SECONDS
    while _children() and time.monotonic() < deadline:
        for child in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)
    remove_abandoned()


def _children() -> list[int]:
    """This process's children. On Linux the kernel makes the orphans of a driver children of this process."""
    try:
        listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    except OSError:
        return []
    return [int(number) for number in listed.split()]
