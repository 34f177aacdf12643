"""Short options, and what a shell completes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from latentsweep.commands import completion
from latentsweep.commands.app import app, is_job

TYPE = "from latentsweep.commands.app import app; app(prog_name='latentsweep')"


def every_command(command: Any, name: str = "") -> dict[str, Any]:
    """All commands and groups by what is typed for them."""
    found = {name: command}
    for child, inner in getattr(command, "commands", {}).items():
        found |= every_command(inner, f"{name} {child}".strip())
    return found


COMMANDS = every_command(typer.main.get_command(app))


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_group_answers_to_the_short_option_for_help(name: str) -> None:
    short, long = (CliRunner().invoke(app, [*name.split(), option]) for option in ("-h", "--help"))
    assert (short.exit_code, short.output) == (0, long.output)
    assert "Usage" in short.output


def test_an_option_for_the_output_or_the_dataset_has_its_short_form() -> None:
    short = {"--to": "-o", "--dataset": "-d"}
    found = []
    for name, command in COMMANDS.items():
        for parameter in command.params:
            for option in set(parameter.opts) & set(short):
                assert short[option] in parameter.opts, name
                found.append(option)
    assert found.count("--to") >= 3
    assert found.count("--dataset") >= 4


@pytest.mark.parametrize("option", ["-h", "--help", "--dry-run"])
def test_what_only_explains_a_job_starts_no_driver(option: str) -> None:
    assert is_job(["sweep", "-d", "demo"])
    assert not is_job(["sweep", "-d", "demo", option])


def test_the_recipes_that_are_completed_are_those_that_there_are() -> None:
    from trainables.recipes import RECIPES

    assert set(completion.RECIPES) == set(RECIPES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("sweep --home {home} -d ", ["demo", "mine"]),
        ("sweep -d m", ["mine"]),
        ("export --sweep ", ["mine-smoke-1a2b3c4d"]),
        ("report mine", ["mine-smoke-1a2b3c4d"]),
        ("lint mine", ["mine", "mine-smoke-1a2b3c4d"]),
        ("ablate --recipe i", ["improved"]),
        ("data prepare k", ["kaggle"]),
        ("data show m", ["mine"]),
        ("report other", []),
    ],
)
def test_a_shell_completes_names_from_the_home_without_torch(tmp_path: Path, line: str, names: list[str]) -> None:
    for file in ("datasets/mine/manifest.json", "datasets/begun/part.json", "sweeps/mine-smoke-1a2b3c4d/sweep.json"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    words = f"latentsweep {line.format(home=tmp_path)}"
    asked = {
        "_LATENTSWEEP_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
        "LATENTSWEEP_HOME": str(tmp_path),
    }
    code = f"import atexit, sys; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); {TYPE}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **asked})
    assert done.stdout.split() == names
    assert done.stderr == "False\n"
