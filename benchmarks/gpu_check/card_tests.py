"""The product's own tests that need a card, run by pytest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpu_check.card import Card
from gpu_check.notes import Notes

TESTS = Path(__file__).parents[2] / "tests" / "trainables" / "test_gpu.py"


class Tally:
    """A pytest plugin that notes the outcome of each test as soon as it is known."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}

    def pytest_collectreport(self, report: Any) -> None:
        """A file that couldn't be collected."""
        if report.failed:
            self.notes.fail(f"not collected: {report.nodeid}: {str(report.longrepr).splitlines()[-1]}")

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A test's set-up, call or end; a test counts once, by its call or by what kept it from it."""
        if report.when != "call" and report.outcome == "passed":
            return
        self.counts[report.outcome] += 1
        for outcome, count in self.counts.items():
            self.notes.measure(f"tests.{outcome}", count)
        if report.outcome == "failed":
            self.notes.fail(f"{report.nodeid.rpartition('::')[2]}: {report.longreprtext.splitlines()[-1]}")
        elif report.outcome == "skipped":
            self.notes.leave_out(f"{report.nodeid.rpartition('::')[2]} was skipped")


def run_tests(notes: Notes, card: Card) -> None:
    """Part 2: all tests pass, and none is skipped."""
    import pytest

    import latentsweep.execution.packing  # noqa: F401 - what the tests import; says which package is missing
    import trainables.autoencoder.training  # noqa: F401

    tally = Tally(notes)
    code = pytest.main(["-q", "-p", "no:cacheprovider", str(TESTS)], plugins=[tally])
    notes.check("there are tests, and all passed", code == pytest.ExitCode.OK and tally.counts["passed"] > 0)
