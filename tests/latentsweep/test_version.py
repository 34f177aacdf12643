"""The version is printed by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from latentsweep import __version__
from latentsweep.cli import app

ROOT = Path(__file__).parents[2]


def test_the_version_is_printed_without_a_command() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "cli.py"), "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"latentsweep {__version__}\n", "")


@pytest.mark.parametrize("words", [["--debug", "--version"], ["--version", "lint"]])
def test_the_version_is_printed_beside_other_words_and_nothing_else_is_done(words: list[str]) -> None:
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.output) == (0, f"latentsweep {__version__}\n")
