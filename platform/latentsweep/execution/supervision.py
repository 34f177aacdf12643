"""The process that watches a driver: it passes signals on, starts a killed driver again, and ends what it left.

A driver that runs Ray can die at any moment and has no chance to say why: Ray ends the process when its raylet is
lost, and the kernel ends it when memory is short. So the command that a user starts only watches. The driver is its
child, started by ``sys.orig_argv``. A driver that is started again goes on from what the store has.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from latentsweep.invocation import CALLED, called

DRIVER = "LATENTSWEEP_DRIVER"
"""Set in a driver's environment: the number of the process that watches it."""

TELLER = "LATENTSWEEP_TELLER"
"""Set in a driver's environment: the socket by which it hears that a stop was asked for."""

STOPPING = "stopping: what runs ends at its last checkpoint"

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

_PREFIX, _SHORT, _ORPHANS_SECONDS = "ls-", 20, 10.0
_PR_SET_CHILD_SUBREAPER = 36


def must_watch() -> bool:
    """Whether a user started this process, so that it has to start a driver and watch it."""
    return DRIVER not in os.environ


def supervise() -> int:
    """Runs this command as a driver, and again each time that the driver was killed; returns its exit code."""
    if sys.platform == "linux":  # other systems have no such call; there, orphans end by themselves later
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    short = 0
    while True:
        began = time.monotonic()
        code, stopping = _drive()
        if stopping or code in (0, 2, CRASHED, 128 + signal.SIGINT):
            return code
        short = short + 1 if time.monotonic() - began < SHORT_LIFE else 0
        if short == PATIENCE:
            print(f"error: the driver was lost {PATIENCE} times in a row; --debug shows more", file=sys.stderr)
            return 1
        print("note: the driver was lost; going on from what it had stored", file=sys.stderr, flush=True)


def _drive() -> tuple[int, bool]:
    """Starts one driver and waits for it; returns its exit code, and whether it was asked to end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    told = {DRIVER: str(os.getpid()), CALLED: called(), TELLER: str(theirs.fileno())}
    driver = subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]],
        env={**os.environ, **told},
        pass_fds=[theirs.fileno()],
        process_group=0,
    )
    theirs.close()
    asked: list[float] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if not asked:
            _say_stopping(ours)
        asked.append(time.monotonic())
        signal.setitimer(signal.ITIMER_REAL, REMINDED_EVERY)
        late = len(asked) > 2 and asked[-1] - asked[0] > ENDING
        driver.send_signal(signal.SIGKILL if late else signal.SIGINT)

    before = {number: signal.signal(number, pass_on) for number in {*_stop_signals(), signal.SIGALRM}}
    try:
        code = driver.wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        ours.close()
        _end_orphans(driver.pid)
    return (code if code >= 0 else 128 - code), bool(asked)


def _say_stopping(driver: socket.socket) -> None:
    """Has the driver say it, whose live view would paint over another's words; says it itself before that listens."""
    try:
        listens = driver.recv(1)
        driver.send(listens)
    except OSError:
        print(f"\n{STOPPING}", file=sys.stderr, flush=True)


_speakers: list[Callable[[str], None]] = []


@contextlib.contextmanager
def stop_told_by(say: Callable[[str], None]) -> Iterator[None]:
    """During a ``with``, ``say`` tells that a stop was asked for, from a thread of its own."""
    _speakers.append(say)
    try:
        yield
    finally:
        _speakers.remove(say)


def _listen(number: int) -> None:
    """Waits in a thread until a stop is asked for, and says so at once, whatever the main thread does."""
    os.set_inheritable(number, False)
    with contextlib.suppress(OSError), socket.socket(fileno=number) as parent:
        parent.send(b"!")
        if parent.recv(1):
            say = _speakers[-1] if _speakers else lambda line: print(f"\n{line}", file=sys.stderr, flush=True)
            say(STOPPING)


def run_as_driver(work: Callable[[], object]) -> NoReturn:
    """Does ``work`` as a driver: it ends when its parent is gone, and takes SIGTERM and SIGHUP as Ctrl-C.

    The process ends at once after the work, with the code of its :class:`SystemExit`: a thread that waits for a lost
    Ray would keep the interpreter for ever.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs without it
    terminate_as_interrupt()
    threading.Thread(target=_end_with, args=(int(os.environ[DRIVER]),), daemon=True).start()
    if TELLER in os.environ:
        threading.Thread(target=_listen, args=(int(os.environ.pop(TELLER)),), daemon=True).start()
    code: object = 0
    try:
        work()
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = CRASHED
    sys.stdout.flush()
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
        signal.signal(number, lambda number, frame: signal.raise_signal(signal.SIGINT))


@contextlib.contextmanager
def ignore_signals() -> Iterator[None]:
    """Ignores signals that ask for an end during a ``with``: for the few seconds in which records are closed."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ray_folder() -> Path:
    """A new folder for Ray's sockets and logs, named by this process's number; removes those of dead processes.

    Its path is short, since the path of a Unix socket must be.
    """
    _remove_folders(is_dead)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_temporary()))


def _temporary() -> Path:
    usual = Path(tempfile.gettempdir())
    return usual if len(str(usual)) <= _SHORT else Path("/tmp")


def _remove_folders(of: Callable[[int], bool]) -> None:
    for folder in _temporary().glob(f"{_PREFIX}*-*"):
        number = folder.name.removeprefix(_PREFIX).partition("-")[0]
        with contextlib.suppress(FileNotFoundError):  # another driver that starts now removes the same folders
            if number.isdecimal() and folder.stat().st_uid == os.getuid() and of(int(number)):
                shutil.rmtree(folder, ignore_errors=True)


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


def _end_orphans(driver: int) -> None:
    """Ends what a driver left: removes Ray's folder, and kills the processes that have no other parent now."""
    deadline = time.monotonic() + _ORPHANS_SECONDS
    while _children() and time.monotonic() < deadline:
        for child in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)
    _remove_folders(lambda process: process == driver)


def _children() -> list[int]:
    """This process's children. On Linux the kernel makes the orphans of a driver children of this process."""
    try:
        listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    except OSError:
        return []
    return [int(number) for number in listed.split()]
