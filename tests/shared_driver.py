"""One process that runs command after command over one Ray of its own, for tests of what a command makes.

A command of its own starts Python, Ray and Ray's workers before it begins; here all of them are there. What a command
does with its processes, and with a Ray that is lost, is tested with real ones: :mod:`processes`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

LONGEST = 900
"""Seconds that a command may take."""

RAY = "RAY_"
"""What the names of Ray's own variables begin with."""

environment: dict[str, str] = {}
"""What the driver is started with: the environment of the run, without what a single test has set."""

_shared: list[Driver] = []


class Driver:
    """The process, as those see it who ask it to run something."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self, words: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        """What the command line ``words`` did and said, run in ``folder``."""
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps([list(words), str(folder)]), file=self.process.stdin, flush=True)
        ready, _, _ = select.select([self.process.stdout], [], [], LONGEST)
        answer = self.process.stdout.readline() if ready else ""
        if not answer:
            self.process.kill()
            raise AssertionError(f"the shared driver ended, or did not within {LONGEST} s, at {words}")
        code, out, err = json.loads(answer)
        return subprocess.CompletedProcess(words, code, out, err)

    def end(self) -> None:
        """Ends it, and its Ray."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.communicate(timeout=60)
        self.process.kill()
        self.process.wait()


def shared() -> Driver:
    """The driver of this process of pytest; it is started when the first test asks for it."""
    if _shared and _shared[0].process.poll() is not None:
        end()
    if not _shared:
        _shared.append(Driver(environment))
    return _shared[0]


def end() -> None:
    """Ends the shared driver, where there is one."""
    while _shared:
        _shared.pop().end()


def without_ray(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what names a Ray that somebody else has started."""
    return {name: value for name, value in environment.items() if not name.startswith(RAY)}


def _stay() -> None:
    """Keeps the Ray that the first command starts for all after it."""
    import ray

    from latentsweep.execution.ray_folder import RayFolder

    init, shutdown, folder = ray.init, ray.shutdown, RayFolder.take()

    def init_once(*, address: str, num_gpus: int | None, **options: Any) -> None:
        assert (address, num_gpus) == ("local", 0), "a command that wants another Ray needs a process of its own"
        if not ray.is_initialized():
            # `cluster` throws the folder of a Ray away at its end; this one outlives the command.
            init(address=address, num_gpus=num_gpus, **{**options, "_temp_dir": str(folder.temporary)})

    ray.init, ray.shutdown = init_once, lambda: None
    try:
        with folder.token():
            _serve()
    finally:
        shutdown()
        folder.remove()


def _serve() -> None:
    """Runs each command that a line of standard input asks for, and answers with a line."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            words, folder = json.loads(line)
            os.chdir(folder)
            with _kept(1) as out, _kept(2) as err:
                code = _run(words)
                sys.stdout.flush()
                sys.stderr.flush()
            print(json.dumps([code, out(), err()]), file=answers, flush=True)


@contextlib.contextmanager
def _kept(stream: int) -> Iterator[Any]:
    """A function that says what was written to a stream of this process meanwhile."""
    before = os.dup(stream)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), stream)

        def said() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        content: list[str] = []
        try:
            yield lambda: content[0]
        finally:
            os.dup2(before, stream)
            os.close(before)
            content.append(said())


def _run(words: Sequence[str]) -> int:
    from latentsweep.commands.app import app

    try:
        app(args=words)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    _stay()
