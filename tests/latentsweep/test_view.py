"""Where the output is no terminal, lines say what began and how far it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from small_dataset import plant

from latentsweep.api.progress import show_progress
from latentsweep.configuration import Configuration
from latentsweep.execution import half_minutes
from latentsweep.execution.view import View
from latentsweep.jobs.train import Retraining
from latentsweep.storage.home import Home
from trainables.measures.weights import InceptionWeights
from trainables.recipes import SMOKE

WEIGHTS = InceptionWeights(Path("none"), "a" * 64)


def test_a_sweep_that_was_given_hours_shows_what_is_left_of_them() -> None:
    view = View(Console(quiet=True), "a sweep", target=8, seconds_left=lambda: 125.0)
    assert view.how_far() == "0 of 8 trials ended; about 2:05 left"
    view.seconds_left = lambda: -3.0
    assert view.left() == "about 0:00 left"


@contextmanager
def hearing(view: View, text: StringIO, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A view whose half minutes are short, left after two of its lines at least."""
    monkeypatch.setattr(half_minutes, "SECONDS", 0.05)
    with view:
        yield
        wait_for(lambda: text.getvalue().count("; 0 of 4") >= 2)


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_job_says_that_it_begins_and_every_half_minute_what_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    text = StringIO()
    view = View(Console(file=text), "demo-smoke-1234", target=4, steps=600)
    with hearing(view, text, monkeypatch):
        view.stage("real features", "computing", going=True)
        view.stage("autoencoder", "training, step 10", going=True)
        view.stage("autoencoder", "training, step 20", going=True)
        view.stage("real features", "done in 3 s")
        view.started(1, {})
        view.heard(1, 300, 54.3)
    said = [line.partition("] ")[2] for line in text.getvalue().splitlines()]
    assert said[:4] == [
        "demo-smoke-1234 begins",
        "real features: computing",
        "autoencoder: training, step 10",
        "real features: done in 3 s",
    ]
    assert "autoencoder: training, step 20" not in said, "that is for the half minute"
    assert said[-1] == (
        "autoencoder: training, step 20; trial 1: training, step 300 of 600, 54.3; 0 of 4 trials ended"
    )
    assert half_minutes.SECONDS < 1


def test_a_job_of_which_nothing_is_known_yet_still_says_that_it_goes_on() -> None:
    assert View(Console(file=StringIO()), "study").how_far() == "study goes on"


def test_of_two_stages_in_turn_only_the_one_that_goes_on_is_told(tmp_path: Path) -> None:
    home = Home(tmp_path)
    text, job = StringIO(), Retraining(home, Configuration("tiny", 0, SMOKE), plant(home), WEIGHTS)
    view, keys = View(Console(file=text), job.name), job.keys[job.last]

    def build(folder: Path) -> dict[str, float]:
        job.store.note_progress(key, {"step": 3.0})
        job.show(view, {"vae": 3, "denoiser": 6})
        told.append(view.how_far())
        return {}

    told: list[str] = []
    for key in (keys.vae, keys.denoiser):
        job.store.obtain(key, build)
        job.show(view, {"vae": 3, "denoiser": 6})
    assert told == ["vae: step 3 of 3", "denoiser: step 3 of 6"]
    assert view.how_far() == f"{job.name} goes on"
    assert view.stages == {"vae": "done", "denoiser": "done"}
    assert text.getvalue().count("vae: done") == 1


def test_a_line_comes_every_half_minute() -> None:
    assert half_minutes.SECONDS == 30


def test_scans_that_are_read_are_counted_every_half_minute_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(half_minutes, "SECONDS", 0.05)
    said = ""

    def heard(line: str) -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return line in said

    with show_progress("preparing mine") as progress:
        assert heard("preparing mine begins\n")
        wait_for(lambda: heard("preparing mine: looking for scans\n"))
        progress(2, 7)
        wait_for(lambda: heard("preparing mine: 2 of 7 scans\n"))
        progress(7, 7)
    assert heard("preparing mine: 7 of 7 scans\n")
