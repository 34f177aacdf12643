"""The version is printed by itself, and stands the same wherever it is stated."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from latentsweep import __version__
from latentsweep.commands.app import app

ROOT = Path(__file__).parents[2]


def test_the_version_is_printed_without_a_command() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "cli.py"), "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"latentsweep {__version__}\n", "")


@pytest.mark.parametrize("words", [["--debug", "--version"], ["--version", "lint"]])
def test_the_version_is_printed_beside_other_words_and_nothing_else_is_done(words: list[str]) -> None:
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.output) == (0, f"latentsweep {__version__}\n")


def test_project_and_citation_state_the_same_version_licence_and_authors() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert project["version"] == citation["version"] == __version__
    assert project["license"] == citation["license"] == "Apache-2.0"
    assert project["authors"] == citation["authors"] == [{"name": "latentsweep developers"}]
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "message"} <= citation.keys()
    assert citation["keywords"] == project["keywords"]


def test_the_licence_is_the_apache_licence() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [name] = project["license-files"]
    lines = [line.strip() for line in (ROOT / name).read_text().splitlines()]
    assert lines[1:3] == ["Apache License", "Version 2.0, January 2004"]
    assert "END OF TERMS AND CONDITIONS" in lines
