"""What all tests of the platform share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _pieces_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run times what the store hasn't timed, which takes seconds; ``test_stage_times`` tests what it does."""
    monkeypatch.setattr("latentsweep.jobs.timing.piece_seconds", lambda *_: 0.01)
