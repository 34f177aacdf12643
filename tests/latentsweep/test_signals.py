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
from command_line import ROOT, TINY
from processes import descendants
from small_dataset import plant
from stand_in_job import RAY

from latentsweep.execution.supervision import STOPPED
from latentsweep.storage.home import Home

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="whole groups are found by /proc, on Linux only"),
]

PATIENCE = 300
"""Seconds for what takes a few on a machine that is not busy."""
WORDS = ("sweep", "--dataset", "tiny", "--recipe", "smoke", "--trials", "2", "--device", "cpu")


@dataclass
class Running:
    """A job, and the end of its output that the test holds."""

    process: subprocess.Popen[bytes]
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
            assert self.process.poll() is None, (self.process.returncode, self.listen()[-2000:])
            assert time.monotonic() < deadline, self.listen()[-2000:]
            time.sleep(0.05)

    @property
    def driver(self) -> int:
        return next(pid for pid, text in descendants(self.process.pid).items() if "sweep" in text.split())

    @property
    def everything(self) -> list[int]:
        """All processes of the job, as a pod or a unit of systemd has them, the parent first."""
        return [self.process.pid, *descendants(self.process.pid)]

    def ended(self) -> int:
        """The exit code. Reads on, since a full terminal would keep the job waiting."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.listen()[-2000:]
            self.listen()
            time.sleep(0.05)
        self.listen()
        return self.process.returncode


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


def terminal(controlling: bool) -> tuple[int, int, Callable[[], None] | None]:
    """The test's end of a new terminal, the job's, and what the job does first to be ruled by it."""
    mine, theirs = pty.openpty()

    def rule() -> None:
        os.setsid()
        os.close(os.open(os.ttyname(theirs), os.O_RDWR))  # the first terminal that a session opens rules it

    return mine, theirs, rule if controlling else os.setsid


def start(home: Path, output: str, *words: str, script: Path = ROOT / "tests/stand_in_job.py") -> Running:
    """A job whose output goes to ``output``: a terminal, or a kind of it, a file, or a pipe."""
    first: Callable[[], None] | None = os.setsid
    if output == "file":
        theirs = os.open(home.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        mine = os.open(home.parent / "log", os.O_RDONLY)
    elif output == "pipe":
        mine, theirs = os.pipe()
    else:
        mine, theirs, first = terminal(controlling=output == "tty")
    os.set_blocking(mine, False)
    process = subprocess.Popen(
        [sys.executable, str(script), *(words or WORDS), "--home", str(home)],
        stdin=theirs if output == "tty" else subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        cwd=home.parent,
        preexec_fn=first,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    os.close(theirs)
    return Running(process, home, mine)


@pytest.fixture
def begin(home: Path) -> Iterator[Callable[[str], Running]]:
    """Starts a job, and waits until its trial runs; ends what is left of it."""
    jobs: list[Running] = []

    def begin(output: str) -> Running:
        job = start(home, output)
        jobs.append(job)
        job.wait_for(lambda: b"still running" in job.listen())
        return job

    yield begin
    for job in jobs:
        for process in job.everything if job.process.poll() is None else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        job.process.wait()
        with contextlib.suppress(OSError):
            os.close(job.heard)


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
    assert not [text for _, text in descendants(os.getpid()).items() if f"# {RAY}" in text]


@pytest.mark.parametrize("output", ["tty", "terminal that is gone", "file", "pipe"])
@pytest.mark.parametrize("whom", ["parent", "driver", "group"])
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_job_with_130_and_leaves_nothing_running(
    begin: Callable[[str], Running], number: signal.Signals, whom: str, output: str
) -> None:
    job = begin(output)
    if output in ("terminal that is gone", "pipe"):  # whose reader ends, as ``tee`` does at Ctrl-C
        os.close(job.heard)
        time.sleep(1)  # meanwhile it prints
        assert job.process.poll() is None
    whole = {"parent": [job.process.pid], "driver": [job.driver], "group": job.everything}[whom]
    for process in whole:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
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


def test_a_job_without_a_terminal_goes_on_and_says_nothing_more(begin: Callable[[str], Running]) -> None:
    job = begin("terminal that nothing rules")  # as a disowned job's
    os.close(job.heard)
    time.sleep(3)
    assert job.process.poll() is None
    assert job.driver
    assert states(job.home)[0].count("RUNNING") == 1, "it is at work"
    job.process.terminate()
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
    job.process.terminate()
    check_stopped(job)


@pytest.mark.ray
@pytest.mark.parametrize(
    ("number", "whom", "output"),
    [
        (signal.SIGTERM, "group", "file"),
        (signal.SIGHUP, "parent", "terminal that is gone"),
        (signal.SIGINT, "driver", "pipe"),
    ],
)
def test_a_real_sweep_ends_as_the_stand_in_does(home: Path, number: signal.Signals, whom: str, output: str) -> None:
    words = (*WORDS, *TINY, "--set", "diffusion.steps=100000")
    job = start(home, output, *words, script=ROOT / "cli.py")
    try:
        job.wait_for(lambda: any("ray::ImplicitFunc" in text for text in descendants(job.process.pid).values()))
        if output != "file":
            os.close(job.heard)
        whole = {"parent": [job.process.pid], "driver": [job.driver], "group": job.everything}[whom]
        for process in whole:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
        assert job.ended() == STOPPED, job.said[-2000:]
        trials, runs = states(home)
        assert trials
        assert "RUNNING" not in trials + runs
    finally:
        for process in job.everything if job.process.poll() is None else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
