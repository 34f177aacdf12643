"""A line that a message hints at begins as the user's own line did."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_dataset import plant

from latentsweep.program import invocation
from latentsweep.storage.home import Home

ROOT = Path(__file__).parents[2]


def test_the_script_of_the_checkout_is_hinted_as_it_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert invocation.called_by("cli.py", ["python", "cli.py", "sweep"]) == "python cli.py"
    elsewhere = str(ROOT / "cli.py")
    assert invocation.called_by(elsewhere, [".venv/bin/python", elsewhere]) == f".venv/bin/python {elsewhere}"


def test_another_script_of_that_name_is_not_ours(tmp_path: Path) -> None:
    assert invocation.called_by(str(tmp_path / "cli.py"), ["python"]) == "python cli.py"


def test_the_module_is_hinted_as_a_module() -> None:
    script = str(ROOT / "platform" / "latentsweep" / "__main__.py")
    assert invocation.called_by(script, ["python3", "-m", "latentsweep"]) == "python3 -m latentsweep"


@pytest.mark.parametrize(("on_path", "said"), [(True, "latentsweep"), (False, "{folder}/latentsweep")])
def test_the_installed_command_is_hinted_by_its_name_where_a_shell_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_path: bool, said: str
) -> None:
    script = tmp_path / "latentsweep"
    script.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path) if on_path else "/nowhere")
    assert invocation.called_by(str(script), ["python", str(script)]) == said.format(folder=tmp_path)


def test_without_the_checkout_the_installed_command_is_documented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invocation.documented("report") == "python cli.py report"
    monkeypatch.setattr(invocation, "_CHECKOUT", tmp_path)
    assert invocation.documented("report") == "latentsweep report"
    assert invocation.called_by("notebook.py", ["python"]) == "latentsweep"


def test_processes_that_work_for_a_command_hint_as_it_was_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(invocation.CALLED, "latentsweep")
    assert invocation.hint("report demo") == "latentsweep report demo"


@pytest.mark.slow
@pytest.mark.parametrize("called", [["-m", "latentsweep"], ["cli.py"]])
def test_a_message_hints_as_the_command_was_called(tmp_path: Path, called: list[str]) -> None:
    plant(Home(tmp_path))
    command = [sys.executable, *called, "export", "--to", str(tmp_path / "best.yaml"), "--home", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != invocation.CALLED}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 2
    assert f"run: {' '.join([sys.executable, *called])} sweep --dataset demo" in done.stderr
