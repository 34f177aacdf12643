"""However a job is asked to end, and wherever its output goes: exit code 130, and nothing is left RUNNING.

The processes, their signals, the terminals, and the databases of Optuna and MLflow are real; Ray is a stand-in
(``tests/stand_in_job.py``), but in the last rows.
"""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import signal
import sqlite3
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from command_line import ROOT, THIN, TINY
from processes import commands, descendants
from small_dataset import plant
from stand_in_job import RAY, start

from latentsweep.program.interruption import STOPPED
from latentsweep.storage.home import Home

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="whole groups are found by /proc, on Linux only"),
]

PATIENCE = 900
"""Seconds for what takes a few on a machine that is not busy."""
NUMBERS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
TARGETS = ("parent", "driver", "group")
OUTPUTS = ("tty", "terminal that is gone", "file", "pipe")
PAIRED = [
    (number, whom, OUTPUTS[(first + second + shift) % len(OUTPUTS)])
    for first, number in enumerate(NUMBERS)
    for second, whom in enumerate(TARGETS)
    for shift in (0, 2)
]
"""Each signal with each target and with each output, and each target with each output: half of all combinations."""
WORDS = ("sweep", "--dataset", "tiny", "--recipe", "smoke", "--trials", "2", "--device", "cpu")


@dataclass
class Running:
    """A job, and the end of its output that the test holds."""

    pid: int
    code: Callable[[], int | None]
    home: Path
    heard: int
    said: bytearray = field(default_factory=bytearray)

    def listen(self) -> bytes:
        """All that it has said so far."""
        with contextlib.suppress(BlockingIOError, OSError):
            while part := os.read(self.heard, 65536):
                self.said += part
        return bytes(self.said)

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.code() is None, (self.code(), self.listen()[-2000:])
            assert time.monotonic() < deadline, self.listen()[-2000:]
            time.sleep(0.05)

    @property
    def driver(self) -> int:
        return next(process for process, (parent, _) in commands().items() if parent == self.pid)

    @property
    def everything(self) -> list[int]:
        """All processes of the job, as a pod or a unit of systemd has them, the parent first."""
        return [self.pid, *descendants(self.pid)]

    def tell(self, number: signal.Signals, whom: str) -> None:
        """Sends the signal to the parent, the driver, or the whole group."""
        told = {"parent": [self.pid], "driver": [self.driver], "group": self.everything}[whom]
        for process in told:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def ended(self) -> int:
        """The exit code. Reads on, since a full terminal would keep the job waiting."""
        deadline = time.monotonic() + PATIENCE
        while (code := self.code()) is None:
            assert time.monotonic() < deadline, self.listen()[-2000:]
            self.listen()
            time.sleep(0.05)
        self.listen()
        return code

    def kill(self) -> None:
        """Ends what is left of it."""
        for process in self.everything if self.code() is None else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.close(self.heard)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a dataset, and the empty database of MLflow, which takes long to make."""
    home = tmp_path_factory.mktemp("signals") / "runs"
    plant(Home(home), each=6)
    script = "import sys; from latentsweep_mlflow.tracking import connect; connect(sys.argv[1])"
    address = f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"
    subprocess.run([sys.executable, "-c", script, address], check=True, cwd=ROOT, timeout=PATIENCE)
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "runs")


def open_output(folder: Path, output: str) -> tuple[int, str, int]:
    """The test's end of a terminal, a file or a pipe, the path of the job's end, and what keeps that open."""
    path = folder / "output"
    if output == "file":
        path.touch()
    elif output == "pipe":
        os.mkfifo(path)
    else:
        mine, theirs = pty.openpty()
        return mine, os.ttyname(theirs), theirs
    mine = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    return mine, str(path), os.open(path, os.O_WRONLY)


@pytest.fixture
def begin(home: Path) -> Iterator[Callable[[str], Running]]:
    """Starts a job whose output goes there, and waits until its trial runs; ends what is left of it."""
    jobs: list[Running] = []

    def begin(output: str) -> Running:
        mine, path, theirs = open_output(home.parent, output)
        os.set_blocking(mine, False)
        process = start(path, output == "tty", *WORDS, "--home", str(home))
        job = Running(process.pid or 0, lambda: process.exitcode, home, mine)
        jobs.append(job)
        job.wait_for(lambda: b"still running" in job.listen())
        os.close(theirs)
        return job

    yield begin
    for job in jobs:
        job.kill()


def states(home: Path) -> tuple[list[str], list[str]]:
    """The states of all of Optuna's trials and of all of MLflow's runs."""
    found = []
    studies = list((home / "sweeps").glob("*/study.db"))
    assert len(studies) == 1
    for path, query in (
        (studies[0], "SELECT state FROM trials"),
        (home / "mlflow" / "mlflow.db", "SELECT status FROM runs"),
    ):
        with contextlib.closing(sqlite3.connect(path)) as database:
            found.append([state for (state,) in database.execute(query)])
    return found[0], found[1]


def check_stopped(job: Running) -> None:
    assert job.ended() == STOPPED, job.said[-2000:]
    trials, runs = states(job.home)
    assert trials
    assert len(runs) == 1 + len(trials), "the sweep's and the trials'"
    assert "RUNNING" not in trials + runs
    assert b"Traceback" not in job.said
    assert not [text for _, text in commands().values() if f"{RAY} in {job.home.parent}" in text]


@pytest.mark.parametrize(("number", "whom", "output"), PAIRED)
def test_a_signal_ends_a_job_with_130_and_leaves_nothing_running(
    begin: Callable[[str], Running], number: signal.Signals, whom: str, output: str
) -> None:
    job = begin("terminal" if output == "terminal that is gone" else output)
    if output in ("terminal that is gone", "pipe"):  # whose reader ends, as ``tee`` does at Ctrl-C
        os.close(job.heard)
        time.sleep(1)  # meanwhile it prints
        assert job.code() is None
    job.tell(number, whom)
    check_stopped(job)
    if output in ("tty", "file"):
        assert b"the same command goes on" in job.said.strip().splitlines()[-1]


def test_a_closed_terminal_ends_a_job_as_ctrl_c_does(begin: Callable[[str], Running]) -> None:
    job = begin("tty")
    os.close(job.heard)  # the kernel sends SIGHUP, and every further print fails
    check_stopped(job)


def test_ctrl_c_at_a_terminal_ends_a_job(begin: Callable[[str], Running]) -> None:
    job = begin("tty")
    os.write(job.heard, b"\x03")
    check_stopped(job)


def test_a_disowned_job_whose_terminal_is_gone_goes_on_when_it_prints(begin: Callable[[str], Running]) -> None:
    job = begin("terminal")
    driver = job.driver
    os.close(job.heard)
    time.sleep(3)
    assert job.code() is None
    assert job.driver == driver
    assert states(job.home)[0].count("RUNNING") == 1, "it is at work"
    job.tell(signal.SIGTERM, "parent")
    check_stopped(job)


def test_a_terminal_with_tostop_does_not_stop_a_driver_that_prints(begin: Callable[[str], Running]) -> None:
    job = begin("tty")
    settings = termios.tcgetattr(job.heard)
    settings[3] |= termios.TOSTOP
    termios.tcsetattr(job.heard, termios.TCSANOW, settings)
    job.listen()
    job.said.clear()
    job.wait_for(lambda: job.listen().count(b"still running") > 5)
    state = Path(f"/proc/{job.driver}/stat").read_text().rpartition(")")[2].split()[0]
    assert state != "T"
    job.tell(signal.SIGTERM, "parent")
    check_stopped(job)


@pytest.mark.ray
@pytest.mark.parametrize(
    ("number", "whom", "output"),
    [
        (signal.SIGTERM, "group", "file"),
        (signal.SIGHUP, "parent", "terminal"),
        (signal.SIGINT, "driver", "pipe"),
    ],
)
def test_a_real_sweep_ends_as_the_stand_in_does(home: Path, number: signal.Signals, whom: str, output: str) -> None:
    mine, _, theirs = open_output(home.parent, output)
    os.set_blocking(mine, False)
    words = (*WORDS, *TINY, *THIN, "--set", "diffusion.steps=100000", "--home", str(home))
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), *words],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        cwd=home.parent,
        start_new_session=True,
    )
    os.close(theirs)
    job = Running(process.pid, process.poll, home, mine)
    try:
        job.wait_for(lambda: any("ray::ImplicitFunc" in text for text in descendants(job.pid).values()))
        if output != "file":
            os.close(job.heard)
        job.tell(number, whom)
        assert job.ended() == STOPPED, job.said[-2000:]
        trials, runs = states(home)
        assert trials
        assert "RUNNING" not in trials + runs
    finally:
        job.kill()
