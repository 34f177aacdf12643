"""Fixtures that all tests share, and what keeps a run of pytest to itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import shared_driver
from command_line import cli
from hidden_cards import hide
from made_once import made_once

ROOT = Path(__file__).parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module imports torch or Ray: no cards, and no Ray of somebody else's."""
    hide(config.args, config.invocation_params.dir, os.environ)
    for name in set(os.environ) - set(shared_driver.without_ray(os.environ)):
        del os.environ[name]


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of a module go to one of several processes together, unless they are marked as apart."""
    for item in items:
        if not item.get_closest_marker("apart"):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def pytest_unconfigure() -> None:
    """The shared driver ends with the process that started it."""
    shared_driver.end()


@pytest.fixture(scope="session", autouse=True)
def _one_thread_each() -> None:
    """One thread for PyTorch in each of several processes: more would wait for each other."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        import torch

        torch.set_num_threads(1)


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
