"""What ``.ci/run`` makes of its parts, which are stand-ins here: programs that say their name and end with a code."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = """#!/bin/sh
echo "$@"
case "$*" in $FAILING) exit "$CODE";; esac
"""


def run(folder: Path, failing: str = "nothing", code: int = 1) -> subprocess.CompletedProcess[str]:
    """Runs a copy of it in ``folder``, where the part whose words match ``failing`` ends with ``code``."""
    for path in ("bin/make", "bin/apt-get", ".venv/bin/python"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(PROGRAM)
        (folder / path).chmod(0o755)
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    environment = os.environ | {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "FAILING": failing,
        "CODE": str(code),
    }
    return subprocess.run([folder / ".ci" / "run"], env=environment, capture_output=True, text=True)


def test_the_checks_of_a_change_are_lint_audit_rehearsal_and_all_tests(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    said = done.stdout.split("venv\n")[1].splitlines()
    assert said == ["lint", "audit", "-m rehearsal", "test-all"], "each is printed as a whole"


@pytest.mark.parametrize("part", ["lint", "audit", "test-all", "*rehearsal*"])
def test_a_part_that_fails_fails_the_checks(tmp_path: Path, part: str) -> None:
    assert run(tmp_path, part).returncode == 1


def test_a_rehearsal_that_is_skipped_fails_nothing_and_an_audit_with_its_code_does(tmp_path: Path) -> None:
    assert run(tmp_path / "rehearsal", "*rehearsal*", 77).returncode == 0
    assert run(tmp_path / "audit", "audit", 77).returncode != 0
