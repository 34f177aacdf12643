"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hidden_cards import hide

ROOT = Path(__file__).parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module imports torch."""
    hide(config.args, config.invocation_params.dir, os.environ)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real scans that ``LATENTSWEEP_TEST_DATA`` names; tests that need it skip without it."""
    folder = Path(os.environ.get("LATENTSWEEP_TEST_DATA", ROOT / ".." / "shared" / "data")).resolve()
    if not (folder / "SOURCES.md").is_file():
        pytest.skip("no real scans here: set LATENTSWEEP_TEST_DATA to the folder that holds SOURCES.md")
    return folder
