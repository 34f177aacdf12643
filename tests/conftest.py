"""Fixtures that all tests share, and what keeps a run of pytest to itself."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shared_driver
from command_line import UNSPARED, cli, let_children_measure_thinly
from hidden_cards import hide
from made_once import made_once

ROOT = Path(__file__).parents[1]
APART = {"test_faults.py"}
"""Modules whose tests may go to several processes: what they share is made once for all of these."""
BY_PYTEST = "by pytest"


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module imports torch or Ray: no cards, and no Ray of somebody else's."""
    hide(config.args, config.invocation_params.dir, os.environ)
    for name in set(os.environ) - set(shared_driver.without_ray(os.environ)):
        del os.environ[name]
    # A call that a mock has missed is an error, and starts no Ray.
    os.environ |= {"RAY_ENABLE_AUTO_CONNECT": "0", "TUNE_DISABLE_AUTO_INIT": "1"}
    let_children_measure_thinly(os.environ)
    if not hasattr(config, "workerinput"):
        if getattr(config.option, "numprocesses", None):
            os.environ.setdefault(UNSPARED, BY_PYTEST)  # so that its own processes paint figures
    elif os.environ.get(UNSPARED) == BY_PYTEST:
        del os.environ[UNSPARED]
    shared_driver.environment.update(os.environ)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """For ``--dist loadscope``: the tests of a module share its fixtures, and go to one process together."""
    from xdist.scheduler import LoadScopeScheduling

    class ByModule(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            return nodeid if Path(module).name in APART else module

    config.option.loadscopereorder = False  # the order of pytest_collection_modifyitems, not by the number of tests
    return ByModule(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules come by their share of slow tests, so that several processes end at about the same time.

    Of the same share, a module that one process runs as a whole comes before those whose tests are shared out.
    """
    tests, slow = (Counter(item.path for item in each) for each in (items, filter(_is_slow, items)))
    items.sort(key=lambda item: (-slow[item.path] / tests[item.path], item.path.name in APART))


def _is_slow(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None


def pytest_unconfigure() -> None:
    """The shared driver ends with the process that started it."""
    shared_driver.end()


@pytest.fixture(scope="session", autouse=True)
def _one_thread_each() -> None:
    """One thread for PyTorch in each of several processes: more would wait for each other."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        import torch

        torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def _given_back() -> Iterator[None]:
    """What the tests of a module took goes back to the system: the shared driver, whose idle Ray takes 6 % of a core,
    and memory, of which glibc keeps most, more with each module.

    What is left then are modules and what they keep: no later collection looks at them again.
    """
    yield
    shared_driver.end()
    gc.collect()
    gc.freeze()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real scans that ``LATENTSWEEP_TEST_DATA`` names; tests that need it skip without it."""
    folder = Path(os.environ.get("LATENTSWEEP_TEST_DATA", ROOT / ".." / "shared" / "data")).resolve()
    if not (folder / "SOURCES.md").is_file():
        pytest.skip("no real scans here: set LATENTSWEEP_TEST_DATA to the folder that holds SOURCES.md")
    return folder


@pytest.fixture(scope="session")
def prepared_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the built-in dataset and nothing else, to copy."""
    return (
        made_once(tmp_path_factory, "demo", lambda folder: cli(folder / "runs", "data", "prepare", "demo")) / "runs"
    )


@pytest.fixture(scope="session")
def measured_demo(prepared_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the features of its real slices by the thin network, to copy."""

    def make(folder: Path) -> None:
        home = shutil.copytree(prepared_demo, folder / "runs")
        subprocess.run([sys.executable, str(Path(__file__).with_name("measured.py")), str(home)], check=True)

    return made_once(tmp_path_factory, "measured", make) / "runs"
