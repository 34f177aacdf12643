"""What earlier versions of the stages measured is shown, ranked with its like alone, sampled, and not thrown away."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from latentsweep.commands.app import app
from latentsweep.datasets.slices import PreparedDataset
from latentsweep.execution.packing import Packing
from latentsweep.jobs.job import Runtime
from latentsweep.jobs.sweep import Sweep
from latentsweep.jobs.trained import evaluated_run, trained_model
from latentsweep.records.recorder import MemoryRecorder
from latentsweep.report import write_report
from latentsweep.search import leaderboard
from latentsweep.search.sweeps import open_search
from latentsweep.search.trials import family_of
from latentsweep.stages.table import VERSIONS, VERSIONS_OF
from latentsweep.storage import housekeeping
from latentsweep.storage.entries import StageKey
from latentsweep.storage.home import read_json
from trainables.errors import DataError
from trainables.measures.weights import InceptionWeights, find_weights

from .conftest import Made

Make = Callable[..., Made]
RUNTIME = Runtime(Packing(1, 1, 0.0, 0.0), Console(quiet=True))


def note(made: Made, number: int, name: str, value: Any) -> None:
    """Puts an attribute of a finished trial into the study's file, which Optuna itself refuses."""
    with contextlib.closing(sqlite3.connect(made.home.sweeps / made.name / "study.db")) as study, study:
        (trial,) = study.execute("SELECT trial_id FROM trials WHERE number = ?", (number,)).fetchone()
        study.execute("DELETE FROM trial_user_attributes WHERE trial_id = ? AND key = ?", (trial, name))
        row = (trial, name, json.dumps(value))
        study.execute("INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?)", row)


def runs(made: Made) -> list[int]:
    """The numbers of the trials that a denoiser was trained for."""
    return [trial.number for trial in made.search.run_trials()]


def age(
    made: Made, numbers: Iterable[int], versions: dict[str, int] | None = None, *, stored: bool = True
) -> list[str]:
    """Makes it so that earlier versions of all stages measured these trials; returns the names of their results."""
    aged = []
    for number in numbers:
        trial = made.search.trial(number)
        keys = [StageKey(key.stage, key.version - 1, key.inputs) for key in made.plan.keys(trial.params).values()]
        for key in keys if stored else ():
            made.store.obtain(key, lambda folder: {})
        names = [key.name for key in keys]
        note(made, number, "keys", names)
        note(made, number, VERSIONS_OF, versions)
        aged += names
    return aged


@pytest.mark.slow
def test_trials_of_other_versions_are_told_and_stand_in_no_ranking(make_sweep: Make) -> None:
    made = make_sweep()
    best = family_of(made.search.measured()[0])
    age(made, [best])
    search = open_search(made.home.sweeps / made.name)
    assert search.apart == {best}
    assert best not in {row["pass"] for row in leaderboard.rows(search)}
    assert len(leaderboard.rows(search)) == 10
    assert all(family_of(trial) != best for trial in (*search.best(), *search.feasible(), search.leader()))
    score = f"{search.trial(best).values[0]:.4g}"
    said = leaderboard.apart(search)
    assert said.startswith("not ranked, since other versions of the stages measured them")
    assert f"configuration {best} ({score})" in said
    page = next(path for path in write_report(made.home, made.name) if path.suffix == ".md")
    assert "Not ranked, since other versions" in page.read_text()


def test_a_sweep_that_one_earlier_version_measured_is_ranked_as_it_was(make_sweep: Make) -> None:
    made = make_sweep()
    before = leaderboard.rows(made.search)
    age(made, runs(made))
    search = open_search(made.home.sweeps / made.name)
    assert (search.apart, leaderboard.apart(search)) == (frozenset(), "")
    assert leaderboard.rows(search) == before


@pytest.mark.slow
def test_two_earlier_versions_are_kept_apart_by_what_was_noted(make_sweep: Make) -> None:
    made = make_sweep()
    age(made, runs(made)[:4], versions=dict.fromkeys(VERSIONS, 1))
    age(made, runs(made)[4:], versions=dict.fromkeys(VERSIONS, 2))
    assert open_search(made.home.sweeps / made.name).apart == set(runs(made)[:4])


@pytest.mark.slow
def test_a_pareto_front_is_of_trials_that_were_measured_in_one_way(make_sweep: Make) -> None:
    made = make_sweep(objectives=("kid", "steps"))
    whole = made.search.best()
    first = family_of(min(whole, key=lambda trial: trial.values))
    age(made, [first])
    front = open_search(made.home.sweeps / made.name).best()
    assert front
    assert all(family_of(trial) != first for trial in front)
    age(made, set(runs(made)) - {first})
    assert {trial.number for trial in open_search(made.home.sweeps / made.name).best()} == {t.number for t in whole}


def test_what_a_sweep_referred_to_stays_when_it_is_run_again_by_a_later_version(
    make_sweep: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_sweep(stored=False)
    names = age(made, runs(made), stored=False)
    monkeypatch.setattr("latentsweep.jobs.sweep.targets.lint_plan", lambda *_: [])
    folder = made.home.sweeps / made.name
    housekeeping.note_uses(made.home, folder, names)
    Sweep(made.home, made.plan, InceptionWeights(Path("none"), "a" * 64), MemoryRecorder()).run(6, RUNTIME)
    assert set(names) <= set(read_json(folder / "uses.json", []))


def test_the_record_of_a_sweep_is_closed_though_its_leaderboard_could_not_be_written(
    make_sweep: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no room")

    made, recorder = make_sweep(stored=False), MemoryRecorder()
    monkeypatch.setattr("latentsweep.jobs.sweep.targets.lint_plan", lambda *_: [])
    monkeypatch.setattr("latentsweep.jobs.sweep.write_texts", refuse)
    with pytest.raises(OSError, match="no room"):
        Sweep(made.home, made.plan, InceptionWeights(Path("none"), "a" * 64), recorder).run(6, RUNTIME)
    assert {run.status for run in recorder.runs.values()} == {"finished"}


def test_store_free_says_what_only_an_earlier_version_could_compute(make_sweep: Make) -> None:
    made = make_sweep(trials=1)
    today = made.plan.keys(made.search.trial(0).params).names()
    housekeeping.note_uses(made.home, made.home.sweeps / made.name, today)
    names = age(made, [0])
    words = ["store", "free", "--dry-run", "--home", str(made.home.root)]
    assert CliRunner().invoke(app, words).stdout == (
        f"would free {len(names)} results, 0.0 MB; {len(names)} of them by an earlier version of a stage, which "
        "today's code can't compute again in the same way\n"
    )
    rows = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert {row["name"] for row in rows if row["earlier"]} == set(names)


def test_a_trial_of_an_earlier_version_is_sampled_as_it_was_trained_and_not_measured_by_today(
    make_sweep: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = make_sweep(trials=1)
    names = age(made, [0])
    for key in made.plan.keys(made.search.trial(0).params).values():
        made.store.remove(key.name)
    taken: list[Any] = []
    monkeypatch.setattr("latentsweep.jobs.trained.from_store", lambda store, keys, recipe: taken.append(keys) or keys)
    monkeypatch.setattr("latentsweep.jobs.trained.last_copies", lambda denoiser: "")
    trained_model(made.home, f"{made.name}/0", lambda name: pytest.fail("the slices aren't needed"))
    assert sorted(taken[0].values()) == sorted(names)
    prepared = PreparedDataset("scans", tmp_path, {"fingerprint": made.plan.fingerprint, "shards": []})
    with pytest.raises(DataError, match="was trained by earlier ones: draw from it with sample"):
        evaluated_run(made.home, f"{made.name}/0", lambda name: prepared, find_weights(), "validation")
