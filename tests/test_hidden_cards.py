"""The tests run as on a machine without a card, but for those that need one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hidden_cards import ON_CARDS, VISIBLE, hide

ROOT = Path(__file__).parents[1]


def visible(*words: str, here: Path = ROOT) -> bool:
    environment: dict[str, str] = {}
    hide(words, here, environment)
    return VISIBLE not in environment


def test_only_the_tests_that_need_a_card_see_one_and_only_where_they_run_alone() -> None:
    assert ON_CARDS.is_file()
    assert visible("tests/trainables/test_gpu.py")
    assert visible("test_gpu.py::test_one", "test_gpu.py::test_two[a::b]", here=ON_CARDS.parent)
    assert not visible("tests")
    assert not visible("tests/trainables")
    assert not visible("tests/trainables/test_gpu.py", "tests/trainables/test_memory.py")
    assert not visible()


SEEN = f"import os, torch; print([os.environ[{VISIBLE!r}]], torch.cuda.is_available(), torch.cuda.device_count())"


@pytest.mark.slow
def test_no_card_is_seen_here_nor_by_what_is_started_here() -> None:
    assert (os.environ[VISIBLE], torch.cuda.is_available(), torch.cuda.device_count()) == ("", False, 0)
    done = subprocess.run([sys.executable, "-c", SEEN], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[''] False 0"
