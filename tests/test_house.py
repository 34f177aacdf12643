"""The house itself: who imports whom, the two folders that share a name with a module, documents that can't lag."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import spent

ROOT = Path(__file__).parents[1]
OURS = {
    "latentsweep": ROOT / "platform" / "latentsweep",
    "latentsweep_mlflow": ROOT / "mlflow" / "latentsweep_mlflow",
    "trainables": ROOT / "trainables",
    "search_spaces": ROOT / "search_spaces",
}
ROOMS = {
    "trainables": [
        ["errors"],
        ["config"],
        ["plugins", "data"],
        ["loop"],
        ["measures"],
        ["denoiser", "autoencoder"],
        ["figures"],
        ["recipes"],
        ["space", "resources"],
    ],
    "latentsweep": [
        ["program", "metrics"],
        ["configuration", "storage"],
        ["datasets"],
        ["stages"],
        ["search", "bundle"],
        ["lints"],
        ["pages"],
        ["ablation"],
        ["report"],
        ["records"],
        ["execution"],
        ["jobs"],
        ["api"],
        ["commands"],
        ["manual", "__main__"],
    ],
}
"""The rooms of a package, floor by floor: the modules and folders right below it. A room may import lower floors."""
MOST_ROOMS = {"trainables": 12, "latentsweep": 17}
ENTRIES = {"__main__", "bundle"}
"""Not counted, since others come in by them: Python, and models that are registered."""
ONLY_THERE = {
    "ray": {"execution", "jobs"},
    "mlflow": set(),
    "typer": {"commands"},
    "latentsweep_mlflow": {"api", "commands"},
}
"""What only these rooms of ``latentsweep`` may import."""


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages_of(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def room_of(name: str) -> str:
    """The room of a module, or of a name in it, in its package; "" for the package itself."""
    package, _, rest = name.partition(".")
    room = rest.split(".")[0]
    folder = OURS[package] / room
    return room if room and (folder.is_dir() or folder.with_suffix(".py").is_file()) else ""


def rooms_in(package: str) -> dict[str, list[Path]]:
    """The files of each room."""
    found: dict[str, list[Path]] = {}
    for path in OURS[package].rglob("*.py"):
        found.setdefault(path.relative_to(OURS[package]).with_suffix("").parts[0], []).append(path)
    return {room: paths for room, paths in found.items() if room != "__init__"}


def upward(package: str, floors: list[list[str]]) -> list[str]:
    """Imports of a room that does not stand on a lower floor, as "room -> room (file)"."""
    floor = {room: number for number, rooms in enumerate(floors) for room in rooms}
    return [
        f"{room} -> {other} ({path.name})"
        for room, paths in rooms_in(package).items()
        for path in paths
        for other in {room_of(name) for name in imports(path) if name.split(".")[0] == package} - {room, ""}
        if floor[other] >= floor[room]
    ]


@pytest.mark.parametrize("package", ROOMS)
def test_every_room_has_its_floor_and_imports_only_lower_ones(package: str) -> None:
    assert sorted(rooms_in(package)) == sorted(room for rooms in ROOMS[package] for room in rooms)
    assert upward(package, ROOMS[package]) == []
    assert len(rooms_in(package).keys() - ENTRIES) <= MOST_ROOMS[package]


def test_an_import_of_a_higher_floor_is_found() -> None:
    assert "stages -> storage (pipeline.py)" in upward("latentsweep", list(reversed(ROOMS["latentsweep"])))


@pytest.mark.parametrize("package", ROOMS)
def test_every_room_says_what_it_is_for(package: str) -> None:
    for room, paths in rooms_in(package).items():
        front = next((path for path in paths if path.stem == "__init__"), paths[0])
        assert ast.get_docstring(ast.parse(front.read_text())), f"{package}/{room}"


def test_trainables_know_neither_ray_nor_mlflow_nor_the_platform() -> None:
    forbidden = {"ray", "mlflow", "typer", "optuna", "latentsweep", "latentsweep_mlflow", "search_spaces"}
    assert [path for path in OURS["trainables"].rglob("*.py") if packages_of(path) & forbidden] == []


def test_the_table_of_metrics_imports_the_standard_library_only() -> None:
    assert packages_of(OURS["latentsweep"] / "metrics.py") <= sys.stdlib_module_names


def test_search_spaces_import_configuration_types_only() -> None:
    for path in OURS["search_spaces"].glob("*.py"):
        allowed = ("trainables.space.", "search_spaces.kaggle.")
        assert all(name.startswith(allowed) for name in imports(path)), path.name


@pytest.mark.slow
@pytest.mark.parametrize("library", ONLY_THERE)
def test_a_library_is_imported_only_in_the_rooms_that_are_for_it(library: str) -> None:
    rooms = {room for room, paths in rooms_in("latentsweep").items() if any(library in packages_of(p) for p in paths)}
    assert rooms == ONLY_THERE[library]


def test_the_mlflow_folder_knows_nothing_that_runs() -> None:
    forbidden = {"ray", "optuna", "typer", "torch"}
    assert [path for path in OURS["latentsweep_mlflow"].rglob("*.py") if packages_of(path) & forbidden] == []


def test_the_rules_would_catch_an_offender(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("def f():\n    from ray import tune\n    import mlflow.client\n")
    assert packages_of(path) == {"ray", "mlflow"}


@pytest.mark.slow
def test_platform_and_mlflow_stay_the_modules_of_others_at_the_root() -> None:
    code = "import platform, mlflow; print(platform.python_version(), mlflow.__version__, mlflow.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "site-packages" in done.stdout
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert not (ROOT / "mlflow" / "__init__.py").exists()


def test_help_answers_at_once() -> None:
    seconds = []
    for _ in range(3):
        began = spent()
        subprocess.run([sys.executable, "cli.py", "--help"], cwd=ROOT, capture_output=True, check=True)
        seconds.append(spent() - began)
    assert statistics.median(seconds) < 0.6


def test_who_opens_prepared_slices_imports_no_reader_of_scans() -> None:
    code = "import sys, latentsweep.datasets.slices; print({'nibabel', 'pydicom'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_every_field_and_lint_is_documented() -> None:
    from latentsweep.lints import LINTS
    from latentsweep.manual.documentation import pages
    from trainables.recipes import Recipe

    for name, text in pages().items():
        assert (ROOT / "docs" / name).read_text() == text, f"{name} lags: run make docs"
    assert all(f"`{code}`" in pages()["lints.md"] for code in LINTS)
    written = pages()["configuration.md"]
    for section in dataclasses.fields(Recipe):
        for field in dataclasses.fields(section.default):  # type: ignore[arg-type]
            assert f"`{section.name}.{field.name}`" in written


def test_the_package_is_installed_from_its_source_roots() -> None:
    for name, folder in OURS.items():
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert Path(next(iter(spec.submodule_search_locations or []))).resolve() == folder.resolve()


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"])
def test_the_front_door_documents_are_there(name: str) -> None:
    assert len((ROOT / name).read_text()) > 500
