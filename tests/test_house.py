"""The house itself: who imports whom, the two folders that share a name with a module, documents that can't lag."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {
    "latentsweep": ROOT / "platform" / "latentsweep",
    "latentsweep_mlflow": ROOT / "mlflow" / "latentsweep_mlflow",
    "trainables": ROOT / "trainables",
    "search_spaces": ROOT / "search_spaces",
}
RAY = {"execution", "jobs"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def imported_by(package: str) -> dict[Path, set[str]]:
    return {path: {name.split(".")[0] for name in imports(path)} for path in OURS[package].rglob("*.py")}


def offenders(package: str, forbidden: set[str], allowed: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
    found = imported_by(package).items()
    return [
        f"{path.name}: {bad}"
        for path, names in found
        for bad in names & forbidden
        if path.name not in allowed and path.parent.name not in allowed
    ]


def test_trainables_know_neither_ray_nor_mlflow_nor_the_platform() -> None:
    forbidden = {"ray", "mlflow", "typer", "optuna", "latentsweep", "latentsweep_mlflow", "search_spaces"}
    assert offenders("trainables", forbidden) == []


def test_the_table_of_metrics_lies_below_all_that_read_it() -> None:
    assert set(imports(OURS["latentsweep"] / "metrics.py")) <= {
        "__future__",
        "collections.abc",
        "dataclasses",
        "typing",
    }


def test_search_spaces_import_configuration_types_only() -> None:
    for path in OURS["search_spaces"].glob("*.py"):
        assert set(imports(path)) <= {"trainables.space", "search_spaces.kaggle"}, path.name


def test_only_the_execution_part_imports_ray_and_only_the_mlflow_folder_imports_mlflow() -> None:
    assert offenders("latentsweep", {"ray"}, RAY) == []
    assert offenders("latentsweep", {"mlflow"}) == []
    assert offenders("latentsweep", {"latentsweep_mlflow"}, {"commands"}) == []
    assert offenders("latentsweep_mlflow", {"ray", "optuna", "typer", "torch"}) == []


def test_only_commands_import_typer() -> None:
    assert offenders("latentsweep", {"typer"}, {"cli.py", "commands"}) == []


def test_the_rules_would_catch_an_offender(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("def f():\n    from ray import tune\n    import mlflow.client\n")
    assert {name.split(".")[0] for name in imports(path)} == {"ray", "mlflow"}


def test_platform_and_mlflow_stay_the_modules_of_others_at_the_root() -> None:
    code = "import platform, mlflow; print(platform.python_version(), mlflow.__version__, mlflow.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "site-packages" in done.stdout
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert not (ROOT / "mlflow" / "__init__.py").exists()


def test_help_answers_at_once() -> None:
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        subprocess.run([sys.executable, "cli.py", "--help"], cwd=ROOT, capture_output=True, check=True)
        seconds.append(time.monotonic() - began)
    assert statistics.median(seconds) < 0.6


def commands() -> dict[str, object]:
    import typer

    from latentsweep.cli import app

    found: dict[str, object] = {}

    def walk(command: object, name: str) -> None:
        children = getattr(command, "commands", None)
        if children:
            for child, inner in children.items():
                walk(inner, f"{name} {child}".strip())
        else:
            found[name] = command

    walk(typer.main.get_command(app), "")
    return found


def test_every_command_and_option_says_what_it_does_and_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(commands()) >= 11
    for name, command in commands().items():
        assert getattr(command, "help", None), name
        assert f"cli.py {name}" in readme, f"{name} is not in the README"
        for parameter in command.params:  # type: ignore[attr-defined]
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"


def test_the_readmes_commands_exist_with_their_options() -> None:
    known = commands()
    lines = re.findall(r"^(?:\$ )?python cli\.py ([^\n#|]+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        words = shlex.split(line)
        name = next(" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in known)
        options = {option for parameter in known[name].params for option in parameter.opts}  # type: ignore[attr-defined]
        used = {word.split("=")[0] for word in words if word.startswith("--")}
        assert used <= options, line


def test_every_field_and_lint_is_documented() -> None:
    from latentsweep.documentation import pages
    from latentsweep.lints import LINTS
    from trainables.recipes import Recipe

    for name, text in pages().items():
        assert (ROOT / "docs" / name).read_text() == text, f"{name} lags: run make docs"
    assert all(f"`{code}`" in pages()["lints.md"] for code in LINTS)
    written = pages()["configuration.md"]
    for section in dataclasses.fields(Recipe):
        for field in dataclasses.fields(section.default):  # type: ignore[arg-type]
            assert f"`{section.name}.{field.name}`" in written


def test_the_images_of_the_documents_are_there() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", document.read_text()):
            assert (document.parent / target).is_file(), f"{document.name}: {target}"


def test_the_package_is_installed_from_its_source_roots() -> None:
    for name, folder in OURS.items():
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert Path(next(iter(spec.submodule_search_locations or []))).resolve() == folder.resolve()


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"])
def test_the_front_door_documents_are_there(name: str) -> None:
    assert len((ROOT / name).read_text()) > 500
