"""Studies in PostgreSQL: asked and told as in SQLite, one driver a study, and a password that nobody ever says."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from command_line import cli
from postgres import Postgres, postgres
from small_dataset import plant

from latentsweep.execution.lock import hold_lock
from latentsweep.search.choice import SearchConfig
from latentsweep.search.databases import check, hold_study_lock
from latentsweep.search.study import Search
from latentsweep.search.trials import Point
from latentsweep.storage.home import Home
from trainables.errors import ConfigError, LatentsweepError, StoreError
from trainables.space import SearchSpace

SPACE = SearchSpace.from_plain({"dimensions": {"diffusion.cutmix_probability": [0.0, 0.25, 0.5]}})
CONFIG = SearchConfig(sampler="random", pruner="none")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as started:
        yield started


def test_a_study_in_a_database_goes_on_from_another_folder(server: Postgres, tmp_path: Path) -> None:
    address = server.database("going_on")
    first = Search(tmp_path / "here" / "sweep", SPACE, CONFIG, 0, address)
    asked = first.ask()
    assert asked is not None
    first.tell(asked[0], [Point(asked[1], {"gen/kid": 1.0})], {"keys": []})
    assert first.ask() is not None

    again = Search(tmp_path / "there" / "sweep", SPACE, CONFIG, 0, address)
    assert again.requeue() == 1
    assert [trial.state.name for trial in again.run_trials()] == ["COMPLETE", "WAITING"]
    assert not list(tmp_path.rglob("study.db"))
    assert Search(tmp_path / "there" / "another", SPACE, CONFIG, 0, address).run_trials() == []


def open_study(address: str, folder: Path) -> None:
    Search(folder, SPACE, CONFIG, 0, address)


@pytest.mark.slow
def test_processes_that_first_touch_a_database_at_once_do_not_crash_each_other(
    server: Postgres, tmp_path: Path
) -> None:
    address = server.database("at_once")
    context = multiprocessing.get_context("spawn")
    starting = [context.Process(target=open_study, args=(address, tmp_path / f"sweep{n}")) for n in range(3)]
    for process in starting:
        process.start()
    for process in starting:
        process.join()
    assert [process.exitcode for process in starting] == [0, 0, 0]


def drive(folder: Path, address: str, said: Connection) -> None:
    folder.mkdir(parents=True)
    with hold_lock(folder, address):
        said.send("driving")
        signal.pause()


@pytest.mark.slow
def test_drivers_in_two_homes_shut_each_other_out_and_a_killed_one_lets_go(server: Postgres, tmp_path: Path) -> None:
    address = server.database("exclusive")
    context = multiprocessing.get_context("spawn")
    heard, said = context.Pipe(duplex=False)
    first = context.Process(target=drive, args=(tmp_path / "one" / "sweep", address, said))
    first.start()
    assert heard.recv() == "driving"
    with pytest.raises(LatentsweepError, match="only one process may drive sweep"), hold_study_lock(address, "sweep"):
        pass
    with hold_study_lock(address, "another sweep"):
        pass
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    with hold_study_lock(address, "sweep"):
        pass
    first.join()


@pytest.mark.slow
def test_a_database_that_is_away_is_one_line_and_exit_code_2_without_its_password(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = f"postgresql+psycopg2://team:{server.password}@127.0.0.1:1/study"
    wrong = f"postgresql+psycopg2://team:not-{server.password}@127.0.0.1:{server.port}/postgres"
    for address in (away, wrong):
        with pytest.raises(
            StoreError, match=r"the study's database on 127.0.0.1 must answer \(OperationalError\)"
        ) as told:
            Search(tmp_path / "sweep", SPACE, CONFIG, 0, address)
        assert "\n" not in str(told.value)
        assert server.password not in str(told.value)
    monkeypatch.setenv("LATENTSWEEP_STUDY", away)
    plant(Home(tmp_path / "runs"))
    words = ("sweep", "--dataset", "tiny", "--recipe", "smoke", "--trials", "1")
    done = cli(tmp_path / "runs", *words, code=2, alone=True)
    assert done.stderr.splitlines()[-1].startswith("error: the study's database on 127.0.0.1 must answer")
    assert server.password not in done.stdout + done.stderr


def test_a_database_that_goes_away_in_the_middle_is_one_line_too(server: Postgres, tmp_path: Path) -> None:
    address, folder = server.database("middle"), tmp_path / "sweep"
    folder.mkdir()
    search = Search(folder, SPACE, CONFIG, 0, address)

    def lose_the_database() -> None:
        with hold_lock(folder, address):
            server.stop()
            search.ask()

    try:
        with pytest.raises(StoreError, match="must answer"):
            lose_the_database()
    finally:
        server.start()
    with hold_lock(folder, address):
        assert search.ask() is not None, "the same process goes on when it is back"


def test_only_postgresql_is_taken_and_the_refusal_says_no_password(
    server: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert check("") == ""
    assert check("postgresql://h/n") == "postgresql://h/n"
    with pytest.raises(ConfigError, match="--study-storage takes a PostgreSQL database") as told:
        check(f"mysql://team:{server.password}@h/n")
    assert server.password not in str(told.value) + caplog.text
