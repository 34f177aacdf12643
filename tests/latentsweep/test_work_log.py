"""The log of a piece of work, and the end of one that hangs."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latentsweep.execution.work_log import TAIL, hang_minutes, last_line, noted, tail
from trainables.errors import ConfigError

HANGING = """
import logging, sys, time
from pathlib import Path
from latentsweep.execution.work_log import noted
from trainables.loop.watchdog import beat
with noted(Path(sys.argv[1])):
    for step in range(4):
        logging.getLogger("latentsweep.execution.worker").info("step %d", step)
        time.sleep(1.2)
        beat()
    def stuck_here():
        time.sleep(600)
    stuck_here()
"""


def test_good_work_leaves_no_log_and_failed_work_its_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "a.log"
    with noted(path):
        logging.getLogger("latentsweep.execution.worker").info("step 1")
        assert "INFO step 1" in tail(path)
    assert not path.exists()
    with pytest.raises(ValueError, match="no such thing"), noted(path):
        failing()
    assert "careful" in tail(path)
    assert "ended by ValueError: no such thing" in tail(path)
    logging.getLogger("latentsweep.execution.worker").info("not any more")
    assert "not any more" not in tail(path)


def failing() -> None:
    logging.getLogger("trainables.loop.checkpoint").warning("careful")
    raise ValueError("no such thing")


def test_the_tail_is_whole_lines_and_bounded(tmp_path: Path) -> None:
    path = tmp_path / "long.log"
    path.write_text("".join(f"line {number}\n" for number in range(10_000)))
    assert len(tail(path)) <= TAIL
    assert tail(path).startswith("line ")
    assert tail(path).endswith("line 9999\n")
    assert tail(tmp_path / "none.log") == ""


@pytest.mark.slow
def test_a_process_that_beats_lives_and_one_that_hangs_is_ended_with_its_stack(tmp_path: Path) -> None:
    path, began = tmp_path / "hang.log", time.monotonic()
    environment = {"LATENTSWEEP_HANG_MINUTES": "0.04"}
    done = subprocess.run([sys.executable, "-c", HANGING, str(path)], env={**os.environ, **environment}, timeout=300)
    assert done.returncode == 1
    assert 4 * 1.2 < time.monotonic() - began < 30
    assert "step 3" in tail(path), "2.4 s are allowed, and each step took 1.2"
    assert "stuck_here" in tail(path)


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf"])
def test_a_limit_that_is_no_number_of_minutes_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("LATENTSWEEP_HANG_MINUTES", text)
    with pytest.raises(ConfigError, match="must be a number of minutes"):
        hang_minutes()


def test_the_reason_of_a_lost_worker_is_the_last_line_of_its_traceback() -> None:
    assert (
        last_line("Traceback:\n  File x\ntrainables.errors.StoreError: full\n\n")
        == "trainables.errors.StoreError: full"
    )
    assert last_line("") == ""
