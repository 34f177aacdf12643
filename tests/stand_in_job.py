"""A sweep with the real command line, handlers, study and record, and no Ray: a process stands for it.

A trial is asked for and never ends; a line is printed every moment. Where the process that stands for Ray dies, the
driver is ended at once, as Ray ends its driver. Processes are forked from one that has imported everything, since a
start costs five seconds of imports and a signal none.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest import mock

RAY = "stand-in of Ray"
IMPORTED = [
    "stand_in_job",
    "latentsweep.commands.sweep",
    "latentsweep.jobs.sweep",
    "latentsweep.jobs.forecast",
    "latentsweep_mlflow.recorder",
    "mlflow.artifacts",
    "optuna.storages",
]


class Forked:
    """Stands for ``subprocess.Popen`` of a driver: a fork, with the signals as they are after ``exec``.

    It has all open files, those of ``pass_fds`` among them.
    """

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], pass_fds: Sequence[int], process_group: int
    ) -> None:
        self.pid = os.fork()
        if not self.pid:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
                if signal.getsignal(number) != signal.SIG_IGN:
                    signal.signal(number, signal.SIG_DFL)
            os.setpgid(0, process_group)
            os.environ.clear()
            os.environ.update(env)
            drive()

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


@contextlib.contextmanager
def cluster(*_: Any, **__: Any) -> Iterator[None]:
    from latentsweep.execution import supervision

    ray = subprocess.Popen(["bash", "-c", f"exec -a '{RAY} in {Path.cwd()}' sleep 600"])

    def end_with_ray() -> None:
        ray.wait()
        os._exit(1)

    threading.Thread(target=end_with_ray, daemon=True).start()
    supervision.terminate_as_interrupt()
    yield


def trials(self: Any, view: Any, target: int, packing: Any) -> None:
    number, _ = self.search.ask(target)
    self.record.open_trial(self.search.trial(number))
    while True:
        view.say("still running")
        time.sleep(0.2)


def drive() -> None:
    from latentsweep.commands.app import app

    try:
        app()
    finally:
        os._exit(70)


def run(output: str, ruled: bool, *words: str) -> None:
    """The command with these words. All that it says goes to ``output``: a file, a pipe, or a terminal.

    A terminal rules it where it is ``ruled``.
    """
    from latentsweep.execution import supervision

    os.setsid()
    how = os.O_RDWR if Path(output).is_char_device() else os.O_WRONLY | os.O_APPEND
    opened = os.open(output, how | (0 if ruled else os.O_NOCTTY))
    for descriptor in (1, 2):
        os.dup2(opened, descriptor)
    home = Path(words[-1])
    os.chdir(home.parent)
    sys.argv = ["cli.py", *words]
    supervision.subprocess = mock.Mock(Popen=Forked)  # type: ignore[attr-defined]
    mock.patch("latentsweep.jobs.job.cluster", cluster).start()
    mock.patch("latentsweep.jobs.sweep.Sweep._trials", trials).start()
    mock.patch("latentsweep.jobs.job.check_resources", return_value=None).start()
    os._exit(supervision.supervise())


def start(output: str, ruled: bool, *words: str) -> BaseProcess:
    """A process that does :func:`run`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    process = context.Process(target=run, args=(output, ruled, *words))
    process.start()
    return process
