"""The watching parent, alone: what it passes on, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import ROOT
from typer.testing import CliRunner

from latentsweep.commands.app import app, is_job
from latentsweep.execution.lock import hold_lock
from latentsweep.execution.supervision import DRIVER
from latentsweep.program.interruption import SAID, STOPPED
from trainables.errors import LatentsweepError, StoppedError, UnfinishedError

ORPHANS = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)  # orphan of NAME"], start_new_session=True)
time.sleep(0.5)
os._exit(0)
"""


def supervise(script: Path, **settings: float) -> subprocess.Popen[str]:
    program = (
        f"import sys; from latentsweep.execution import supervision as s; vars(s).update({settings!r}); "
        f"sys.orig_argv = [sys.executable, {str(script)!r}]; sys.exit(s.supervise())"
    )
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("words", "job"),
    [
        (["sweep", "--dataset", "demo"], True),
        (["--debug", "train", "--config", "x"], True),
        (["sweep", "--dataset", "demo", "--dry-run"], False),
        (["ablate", "--help"], False),
        (["data", "prepare", "demo"], False),
        ([], False),
    ],
)
def test_only_what_runs_for_long_is_watched(words: list[str], job: bool) -> None:
    assert is_job(words) == job


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are given to the parent on Linux only")
def test_what_a_driver_leaves_is_ended(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(ORPHANS.replace("NAME", tmp_path.name))
    parent = supervise(script)
    assert parent.wait(30) == 0
    mark = f"# orphan of {tmp_path.name}".encode()
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if mark in read(p)]


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_foreseen_end_is_passed_on_and_not_repeated(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(f"open({str(tmp_path / 'lives')!r}, 'a').write('x'); raise SystemExit(2)")
    assert supervise(script).wait(30) == 2
    assert (tmp_path / "lives").read_text() == "x"


@pytest.mark.slow
def test_a_signal_reaches_the_driver_once_as_ctrl_c(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(
        "import signal, sys, time\n"
        "heard = []\n"
        "signal.signal(signal.SIGINT, lambda *_: heard.append(1))\n"
        f"open({str(tmp_path / 'ready')!r}, 'w').close()\n"
        "time.sleep(3)\n"
        f"open({str(tmp_path / 'heard')!r}, 'w').write(str(len(heard)))\n"
    )
    parent = supervise(script)
    while not (tmp_path / "ready").exists():
        assert parent.poll() is None
        time.sleep(0.02)
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(30) == 0
    assert (tmp_path / "heard").read_text() == "1"


PRINTING = "from latentsweep.execution.supervision import run_as_driver; run_as_driver(lambda: print('found'))"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here is always full")
def test_output_without_room_is_an_error_and_output_that_nobody_reads_is_none() -> None:
    environment = {**os.environ, DRIVER: str(os.getpid())}
    full = os.open("/dev/full", os.O_WRONLY)
    reader, unread = os.pipe()
    os.close(reader)
    for descriptor, code in ((full, 2), (unread, 0)):
        done = subprocess.run(
            [sys.executable, "-c", PRINTING], env=environment, stdout=descriptor, stderr=subprocess.PIPE, text=True
        )
        os.close(descriptor)
        assert done.returncode == code, done.stderr
        assert ("No space left on device; make room there" in done.stderr) == (code == 2)


DEAF = """
import os, sys, time
from latentsweep.execution import supervision

supervision.REMINDED_EVERY = 0.5

def deaf_once():
    open(sys.argv[1], "w").write(str(os.getpid()))
    for _ in range(2):
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            continue
    raise SystemExit(0)

supervision.run_as_driver(deaf_once)
"""


@pytest.mark.slow
def test_a_driver_whose_parent_is_gone_ends_though_an_interrupt_was_lost(tmp_path: Path) -> None:
    script, note = tmp_path / "driver.py", tmp_path / "pid"
    script.write_text(DEAF.replace("sys.argv[1]", repr(str(note))))
    parent = supervise(script)
    while not (note.exists() and note.read_text()):
        assert parent.poll() is None
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{note.read_text()}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


SIGNAL = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        whose = "driver" if "LATENTSWEEP_DRIVER" in os.environ else "command"
        if f"{name} of a {whose}" == os.environ.get("SIGNAL_AT"):
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["lint"], "latentsweep.commands.app of a command"),
        (["lint"], "typer of a command"),
        (["lint"], "latentsweep.lints of a command"),
        (["train", "--config", "none.yaml"], "typer of a command"),
        (["train", "--config", "none.yaml"], "typer of a driver"),
        (["train", "--config", "none.yaml"], "latentsweep.jobs.train of a driver"),
    ],
)
def test_a_signal_while_a_command_imports_itself_is_one_line_and_no_traceback(
    tmp_path: Path, words: list[str], place: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SIGNAL)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *words, "--home", str(tmp_path / "runs")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "SIGNAL_AT": place},
    )
    assert (done.returncode, done.stdout) == (STOPPED, "")
    assert done.stderr.splitlines() == [SAID]


def test_a_third_signal_kills_a_driver_that_does_not_end(tmp_path: Path) -> None:
    script, ready = tmp_path / "driver.py", tmp_path / "ready"
    script.write_text(
        "import signal, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        f"open({str(ready)!r}, 'a').write('x')\n"
        "time.sleep(60 if len(open({0!r}).read()) == 1 else 0)\n".format(str(ready))
    )
    parent = supervise(script, ENDING=1.0)
    while not ready.exists():
        assert parent.poll() is None
        time.sleep(0.02)
    for pause in (0.2, 0.2, 1.0):
        parent.send_signal(signal.SIGINT)
        time.sleep(pause)
        assert parent.poll() is None, "it waits for a driver that may still end"
    parent.send_signal(signal.SIGINT)
    parent.communicate(timeout=30)
    assert ready.read_text() == "xx", "another one closes what the killed one left"


def test_a_second_driver_of_a_folder_is_refused(tmp_path: Path) -> None:
    with (
        hold_lock(tmp_path),
        pytest.raises(LatentsweepError, match="only one process may drive"),
        hold_lock(tmp_path),
    ):
        pass
    with hold_lock(tmp_path):
        pass


LISTENING = """
import signal, sys, time
from latentsweep.execution import stopping, supervision

said = []

def say(line):
    print(f"the view says: {line}", file=sys.stderr, flush=True)
    said.append(line)

def deaf():
    signal.signal(signal.SIGINT, lambda *_: None)
    with stopping.stop_told_by(say):
        open(READY, "w").close()
        while not said:
            time.sleep(0.01)
    raise KeyboardInterrupt

supervision.run_as_driver(deaf)
"""


def test_a_stop_is_told_within_a_second_by_the_view_though_the_driver_hears_no_signal(tmp_path: Path) -> None:
    script, ready = tmp_path / "driver.py", tmp_path / "ready"
    script.write_text(LISTENING.replace("READY", repr(str(ready))))
    parent = supervise(script)
    while not ready.exists():
        assert parent.poll() is None
        time.sleep(0.02)
    began = time.monotonic()
    parent.send_signal(signal.SIGINT)
    assert parent.stderr
    assert parent.stderr.readline() == "the view says: stopping: what runs ends at its last checkpoint\n"
    assert time.monotonic() - began < 1
    assert parent.wait(30) == 128 + signal.SIGINT


def test_a_stop_before_the_driver_listens_is_told_by_its_parent(tmp_path: Path) -> None:
    script, ready = tmp_path / "driver.py", tmp_path / "ready"
    script.write_text(f"import time; open({str(ready)!r}, 'w').close(); time.sleep(60)")
    parent = supervise(script)
    while not ready.exists():
        assert parent.poll() is None
        time.sleep(0.02)
    parent.send_signal(signal.SIGINT)
    assert "stopping: what runs ends" in parent.communicate(timeout=30)[1]


def test_a_stop_that_was_asked_for_is_no_error_and_one_that_was_not_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, said in ((StoppedError, "it stopped\n"), (UnfinishedError, "error: it stopped\n")):

        def stop(*_: object, kind: type[Exception] = kind) -> None:
            raise kind("it stopped")

        monkeypatch.setattr("latentsweep.commands.options.home_of", stop)
        done = CliRunner().invoke(app, ["store", "show"])
        assert (done.exit_code, done.stderr) == (130, said)
