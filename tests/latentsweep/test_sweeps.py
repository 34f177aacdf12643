"""Which sweep of a home is meant where none is named, and how it is opened to be read."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from small_dataset import plant
from typer.testing import CliRunner

from latentsweep.commands.app import app
from latentsweep.commands.options import home_of
from latentsweep.lints.targets import lint_target
from latentsweep.search.choice import SearchConfig
from latentsweep.search.labels import labels
from latentsweep.search.plan import SweepPlan
from latentsweep.search.study import Search
from latentsweep.search.sweeps import TURN, chosen_sweep, next_turn, open_search, sweeps
from latentsweep.search.trials import Point
from latentsweep.storage.home import Home, read_json, write_json
from trainables.errors import ConfigError, StoreError
from trainables.recipes import SMOKE
from trainables.space import Choice, SearchSpace

SPACE = SearchSpace({"diffusion.frequency_weight": Choice((0.0, 0.1, 0.3))})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "runs")


def run(home: Home, seed: int, *, trials: int = 0, turn: bool = True) -> Path:
    """The folder of a sweep that was run, or run on, until it had so many more trials."""
    plan = SweepPlan("tiny", "of tiny", "smoke", SMOKE, SPACE, SearchConfig(), seed, "a" * 64)
    folder = home.writable(home.sweeps / plan.name)
    noted = {TURN: next_turn(home)} if turn else {}
    write_json(folder / "sweep.json", {**plan.to_plain(), "threads": 1, **noted})
    search = Search(folder, plan.space, plan.search, plan.seed)
    for _ in range(trials):
        asked = search.ask()
        assert asked
        search.tell(asked[0], [Point(asked[1], {"gen/kid": 5.0 + asked[0]})], {})
    return folder


def test_the_sweep_that_was_run_last_is_meant_whatever_the_dates_of_files_say(home: Home) -> None:
    first, second = run(home, 0, trials=1), run(home, 1, trials=1)
    for path in (*first.iterdir(), *second.iterdir()):
        os.utime(path, (1, 1) if path.parent == second else None)
    assert sweeps(home) == [first, second]
    assert chosen_sweep(home, "tiny", None) == second
    run(home, 0)
    assert sweeps(home) == [second, first], "it was run again"


def test_sweeps_of_older_versions_come_first_in_the_order_of_their_trials(home: Home) -> None:
    older, newer = run(home, 5, trials=1, turn=False), run(home, 3, trials=1, turn=False)
    os.utime(older / "study.db")
    noted = run(home, 4, trials=1)
    assert sweeps(home) == [older, newer, noted]


@pytest.mark.slow
def test_a_sweep_without_a_result_hides_no_other(home: Home, tmp_path: Path) -> None:
    good, begun = run(home, 0, trials=1), run(home, 1)
    assert sweeps(home) == [good, begun]
    assert chosen_sweep(home, None, None) == good
    assert chosen_sweep(home, None, begun.name) == begun, "who names it gets it"
    words = ["export", "--dataset", "tiny", "--to", str(tmp_path / "best.yaml"), "--home", str(home.root), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert good.name in done.stdout
    (begun / "study.db").write_text("no database")
    assert chosen_sweep(home, None, None) == good, "nor does a damaged one"
    shutil.rmtree(good)
    assert chosen_sweep(home, None, None) == begun, "where none has a result, the last run is meant"


@pytest.mark.slow
@pytest.mark.parametrize("text", ["{", "[]", "null", "\xff", '{"turn": "x"}'])
def test_a_damaged_sweep_hides_no_other_and_keeps_none_from_running(
    home: Home, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    damaged, good = run(home, 0, trials=1), run(home, 1, trials=1)
    (damaged / "sweep.json").write_text(text, encoding="latin-1")
    assert next_turn(home) == 3
    assert len(caplog.records) <= 1, "one warning"
    assert sweeps(home) == [damaged, good]
    assert sweeps(home, "tiny") == [good]
    assert chosen_sweep(home, "tiny", None) == good
    found = labels(home)
    assert found
    assert all(set(label.trials) == {good.name} for label in found.values())


def test_a_sweep_whose_study_is_damaged_is_told_once_and_only_where_one_is_chosen(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    good, damaged = run(home, 0, trials=1, turn=False), run(home, 1, trials=1)
    plain = read_json(damaged / "sweep.json", {})
    write_json(damaged / "sweep.json", {name: value for name, value in plain.items() if name != TURN})
    (damaged / "study.db").write_text("no database")
    assert len(sweeps(home)) == 2
    assert not caplog.records
    write_json(damaged / "sweep.json", plain)
    assert chosen_sweep(home, None, None) == good
    assert [record.message.partition(":")[0] for record in caplog.records] == [f"{damaged.name} is passed over"]


@pytest.mark.parametrize("damaged", ["sweep.json", "study.db", "manifest.json"])
def test_lint_of_a_whole_home_names_what_is_damaged_and_goes_on(
    home: Home, caplog: pytest.LogCaptureFixture, damaged: str
) -> None:
    plant(home)
    good, bad = run(home, 0), run(home, 1)
    [path] = (home.datasets if damaged == "manifest.json" else bad).rglob(damaged)
    path.write_text("{")
    found = lint_target(home, None)
    assert any(subject.startswith(good.name) for subject in found)
    said = [record.message for record in caplog.records if " is not looked at: " in record.message]
    assert [text.split(" is ")[0] for text in said] == [
        "the dataset tiny" if damaged == "manifest.json" else f"the sweep {bad.name}"
    ]


def test_reading_a_study_changes_no_file_and_makes_none(home: Home) -> None:
    folder = run(home, 0, trials=1)
    before = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    assert len(open_search(folder).measured()) == 1
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()} == before
    (folder / "study.db").unlink()
    with pytest.raises(StoreError, match="put back a copy of it"):
        open_search(folder)
    assert [path.name for path in folder.iterdir()] == ["sweep.json"]


def test_a_folder_under_another_name_does_not_pass_for_the_sweep(home: Home) -> None:
    folder = run(home, 0, trials=1)
    copy = shutil.copytree(folder, folder.with_name("tiny-smoke-00000000"))
    with pytest.raises(StoreError, match="that of tiny-smoke-00000000 isn't there; say where with --study-storage"):
        open_search(copy)


@pytest.mark.parametrize("name", ["a b#c&d=e", "é;+@:,!'~"])
def test_a_home_may_have_any_name_that_the_command_line_takes(tmp_path: Path, name: str) -> None:
    for refused in ("100%20 done", "a?b"):
        with pytest.raises(ConfigError, match=r"without \? and %"):
            home_of(tmp_path / refused)
    folder = run(home_of(tmp_path / name), 0, trials=1)
    assert (folder / "study.db").is_file()
    assert len(open_search(folder).measured()) == 1
    assert read_json(folder / "sweep.json", {})[TURN] == 1
