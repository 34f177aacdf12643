"""A sweep with the real command line, handlers, study and record, and no Ray: a process stands for it.

Run as a script, with the words of a command. A trial is asked for and never ends; a line is printed every moment.
Where the process that stands for Ray dies, this one is ended at once, as Ray ends its driver.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

RAY = "stand-in of Ray"


@contextlib.contextmanager
def cluster(*_: Any, **__: Any) -> Iterator[None]:
    from latentsweep.execution import supervision

    ray = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep(600)  # {RAY}"])

    def end_with_ray() -> None:
        ray.wait()
        os._exit(1)

    threading.Thread(target=end_with_ray, daemon=True).start()
    supervision.terminate_as_interrupt()
    yield


def trials(self: Any, view: Any, target: int, packing: Any) -> None:
    number, params = self.search.ask(target)
    self.record.open_trial(number, params)
    view.say("running")
    while True:
        view.say("still running")
        time.sleep(0.2)


if __name__ == "__main__":
    from latentsweep.cli import app
    from latentsweep.execution import supervision

    if not supervision.must_watch():
        for name in ("jobs.job.cluster", "jobs.sweep.Sweep._trials"):
            mock.patch(f"latentsweep.{name}", cluster if "cluster" in name else trials).start()
        for name in ("jobs.job.check_resources", "jobs.sweep.Sweep._shared_stages"):
            mock.patch(f"latentsweep.{name}", return_value=None).start()
    app()
