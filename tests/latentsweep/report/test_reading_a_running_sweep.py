"""Whoever reads a sweep that runs leaves it running: in the study, and in the record."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from optuna.trial import TrialState

from latentsweep.jobs.reports import report_files
from latentsweep.records.recorder import MemoryRecorder
from latentsweep.search.sweeps import open_search

from .conftest import Made


@pytest.mark.slow
@pytest.mark.parametrize("status", ["running", "finished", "failed"])
def test_a_report_leaves_the_runs_of_a_sweep_as_they_are(make_sweep: Callable[..., Made], status: str) -> None:
    made, recorder = make_sweep(stored=False), MemoryRecorder()
    recorder.open_run(made.name, name=made.name, kind="sweep")
    recorder.open_run(f"{made.name}/trial-6", name="trial 6", kind="trial", parent=made.name)
    for run in recorder.runs.values():
        run.status = status  # type: ignore[assignment]
    study = hashlib.sha256((made.home.sweeps / made.name / "study.db").read_bytes()).hexdigest()
    report_files(made.home, made.name, lambda _: recorder, recorded=True)
    assert {run.status for run in recorder.runs.values()} == {status}
    assert "report/report.html" in recorder.runs[made.name].files
    assert hashlib.sha256((made.home.sweeps / made.name / "study.db").read_bytes()).hexdigest() == study


@pytest.mark.slow
def test_a_trial_that_runs_while_a_report_is_written_runs_on(make_sweep: Callable[..., Made]) -> None:
    made = make_sweep(trials=4, stored=False)
    number, _ = made.search.ask() or (None, None)
    assert number is not None
    report_files(made.home, made.name, lambda _: MemoryRecorder(), recorded=True)
    assert open_search(made.home.sweeps / made.name).trial(number).state == TrialState.RUNNING


@pytest.mark.slow
def test_a_report_of_a_sweep_that_was_never_recorded_makes_no_run(make_sweep: Callable[..., Made]) -> None:
    made, recorder = make_sweep(stored=False), MemoryRecorder()
    assert report_files(made.home, made.name, lambda _: recorder, recorded=True)
    assert recorder.runs == {}
