"""torchvision's missing operators are defined where its binary cannot load, and nowhere else."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainables.measures import torchvision_operators


def run_fresh(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_torchmetrics_and_cleanfid_import_in_a_fresh_process() -> None:
    done = run_fresh(
        "import trainables.measures.torchvision_operators\n"
        "import torchvision, cleanfid.fid\n"
        "from torchmetrics.image.fid import FrechetInceptionDistance\n"
        "from torchmetrics.functional.image import structural_similarity_index_measure\n"
        "import torchvision.transforms\n"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_importing_it_twice_or_after_torchvision_is_harmless() -> None:
    done = run_fresh(
        "import importlib, trainables.measures.torchvision_operators as operators\n"
        "import torchvision\n"
        "first = operators.LIBRARY\n"
        "again = operators.define_missing_schemas()\n"
        "assert again is None, again\n"
    )
    assert done.returncode == 0, done.stderr


def test_nothing_is_defined_where_the_binary_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(torch.ops, "load_library", lambda path: None)
    monkeypatch.setattr(torch.library, "Library", lambda *_: pytest.fail("a schema was defined"))
    assert torchvision_operators.define_missing_schemas() is None


def test_a_folder_without_the_binary_does_not_load(tmp_path: Path) -> None:
    assert not torchvision_operators.binary_loads(tmp_path)


@pytest.mark.parametrize("name", ["_C.so", "_C_stable.so"])
def test_a_binary_that_is_no_library_does_not_load(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"no library")
    assert not torchvision_operators.binary_loads(tmp_path)


@pytest.mark.parametrize("name", ["_C.so", "_C_stable.so"])
def test_the_binary_is_found_by_its_old_and_its_new_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    monkeypatch.setattr(torch.ops, "load_library", lambda path: loaded.append(Path(path)))
    (tmp_path / name).write_bytes(b"a library")
    assert torchvision_operators.binary_loads(tmp_path)
    assert loaded == [tmp_path / name]


def test_the_installed_torchvision_defines_its_operators_itself_or_they_are_defined_for_it() -> None:
    """By the name that the installed version tries; with both, the process would abort."""
    source = importlib.util.find_spec("torchvision")
    assert source is not None
    assert source.origin is not None
    tried = re.findall(r'_load_library\("(\w+)"\)', (Path(source.origin).parent / "extension.py").read_text())
    assert tried, "torchvision loads its extension by another function now"
    assert set(tried) <= set(torchvision_operators.BINARIES)
