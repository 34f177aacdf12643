"""What all tests of the platform share."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def real_pieces() -> None:
    """For a test in which a dry run times what the store hasn't timed."""


@pytest.fixture(autouse=True)
def _pieces_take_no_time(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In all others it says a time at once: to take it needs seconds."""

    def seconds(piece: str, recipe: Any, weights: Any, execution: Any, slices: int, at_least: float) -> float:
        return 0.01

    if "real_pieces" not in request.fixturenames:
        monkeypatch.setattr("latentsweep.jobs.timing.piece_seconds", seconds)
