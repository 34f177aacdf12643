"""The wheel alone is the program: what it holds, and a job from it in a folder that is no checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import ROOT, THIN, TINY

SOURCES = {
    "latentsweep": ROOT / "platform",
    "latentsweep_mlflow": ROOT / "mlflow",
    "trainables": ROOT,
    "search_spaces": ROOT,
}
"""The packages, and the roots that they lie in."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as an image builds it: by the build backend that is installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    words = ["pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([sys.executable, "-m", *words, "--wheel-dir", str(folder), str(ROOT)], check=True)
    [path] = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment with the wheel.

    What the wheel depends on is read from the environment of the tests, since it takes gigabytes: without what that
    has of this checkout, because Python reads no ``.pth`` files of a folder that a ``.pth`` file names.
    """
    folder = tmp_path_factory.mktemp("elsewhere") / "venv"
    venv.create(folder)
    places = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    Path(places["purelib"], "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    words = ["pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    where = ["--prefix", str(folder), "--ignore-installed", str(wheel)]
    subprocess.run([sys.executable, "-m", *words, *where], check=True)
    return Path(places["scripts"])


@pytest.fixture
def anywhere(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a command in an empty folder, without the checkout in the path of Python."""
    children = str(Path(__file__).parent / "child_processes")  # lets it measure with the thin network
    yield {**os.environ, "PYTHONPATH": children, "PWD": str(tmp_path)}
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_it_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    ours = {
        path.relative_to(root).as_posix()
        for package, root in SOURCES.items()
        for path in (root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == ours
    assert any(name.endswith(".html.j2") for name in held)


def test_it_says_its_command_and_its_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        said = {name.split(".dist-info/")[1]: name for name in archive.namelist() if ".dist-info/" in name}
        assert "licenses/LICENSE" in said
        assert archive.read(said["entry_points.txt"]).decode().split() == [
            *("[console_scripts]", "latentsweep", "=", "latentsweep.__main__:main")
        ]


def test_its_modules_are_its_own(installed: Path, anywhere: dict[str, str], tmp_path: Path) -> None:
    names = (*SOURCES, "mlflow", "platform")
    code = f"from importlib.util import find_spec\nfor name in {names}: print(find_spec(name).origin)"
    done = subprocess.run(
        [installed / "python", "-c", code], cwd=tmp_path, env=anywhere, capture_output=True, text=True, check=True
    )
    *ours, mlflow, platform = map(Path, done.stdout.splitlines())
    assert all(path.is_relative_to(installed.parent) for path in ours)
    assert not mlflow.is_relative_to(ROOT / "mlflow")
    assert platform.name == "platform.py"


@pytest.mark.slow
@pytest.mark.ray
def test_it_sweeps_reports_trains_and_loads_where_no_checkout_is(
    installed: Path, anywhere: dict[str, str], tmp_path: Path
) -> None:
    def run(*words: str) -> str:
        done = subprocess.run(words, cwd=tmp_path, env=anywhere, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    command = str(installed / "latentsweep")
    run(command, "sweep", "--dataset", "demo", "--recipe", "smoke", "--trials", "2", "--no-mlflow", *TINY, *THIN)
    [sweep] = (tmp_path / "runs" / "sweeps").iterdir()
    run(command, "report", sweep.name)
    assert "<svg" in next(sweep.rglob("*.html")).read_text()
    run(command, "export", "--to", "best.yaml")
    run(command, "train", "--config", "best.yaml", "--no-mlflow", "--despite-guards", *THIN)
    [model] = (path for path in (tmp_path / "runs" / "trained").iterdir() if not path.name.startswith("."))
    assert {"README.md", "config.json", "sampler.py", "vae.safetensors"} <= {path.name for path in model.iterdir()}
    run(str(installed / "python"), str(model / "sampler.py"), "--count", "2", "--to", "drawn")
    assert len(list((tmp_path / "drawn").iterdir())) == 2
    code = "import sys, latentsweep; print(latentsweep.load(sys.argv[1]).sample(2).shape)"
    assert run(str(installed / "python"), "-c", code, str(model)) == "(2, 32, 32)\n"
