"""A search space is found because its file is there."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

import search_spaces
from latentsweep.search.spaces import own_space, search_space
from search_spaces.kaggle import SPACE as KAGGLE
from trainables.errors import ConfigError

IXI = """
from trainables.space import Choice, SearchSpace

SPACE = SearchSpace({"diffusion.steps": Choice((10, 20))}, recipe="smoke")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files count as files of ``search_spaces``."""
    monkeypatch.setattr(search_spaces, "__path__", [*search_spaces.__path__, str(tmp_path)])
    for name in ("ixi", "empty"):
        monkeypatch.delitem(sys.modules, f"search_spaces.{name}", raising=False)
    return tmp_path


def lay(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    importlib.invalidate_caches()


def test_a_file_that_bears_the_datasets_name_is_its_space(folder: Path) -> None:
    assert search_space("ixi", None) == KAGGLE
    lay(folder, "ixi.py", IXI)
    assert list(search_space("ixi", None).dimensions) == ["diffusion.steps"]
    assert own_space("ixi").recipe == "smoke"


@pytest.mark.parametrize("dataset", ["mine", "my-scans", "a.b", "__init__", "kaggle", "brats_flair", "brats_t1ce"])
def test_a_dataset_without_a_file_has_the_papers_questions(dataset: str) -> None:
    assert own_space(dataset) is KAGGLE


def test_a_file_without_a_space_is_refused(folder: Path) -> None:
    lay(folder, "empty.py", "SPACE = {}\n")
    with pytest.raises(ConfigError, match=r"search_spaces/empty.py must define SPACE"):
        own_space("empty")
