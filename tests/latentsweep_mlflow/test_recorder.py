"""What reaches MLflow, once, and what happens when it does not."""

import errno
import getpass
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

from latentsweep.records.recorder import FORM, NOT_FINITE, StepRecord
from latentsweep.records.redaction import redact
from latentsweep_mlflow.database import tracking_uri
from latentsweep_mlflow.recorder import MlflowRecorder, recorder_for
from latentsweep_mlflow.tracking import connect

RECORDS = [StepRecord(step, 1000 + step, {"train/loss": 1 / (1 + step), "val/loss": 2.0}) for step in range(5)]


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose tables exist: MLflow takes seconds to create them, so they are created once."""
    home = tmp_path_factory.mktemp("empty")
    connect(tracking_uri(home))
    return home


@pytest.fixture
def home(empty_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(empty_home, tmp_path / "home")
    return tmp_path / "home"


def runs_of(home: Path, experiment: str = "demo") -> dict[str, Run]:
    client = MlflowClient(tracking_uri(home))
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return {run.data.tags["latentsweep.key"]: run for run in client.search_runs([found.experiment_id])}


def tell_all(recorder: MlflowRecorder, picture: Path) -> None:
    recorder.open_run("sweep", name="a sweep", kind="sweep", params={"objective": "kid"})
    recorder.open_run("trial/1", name="trial 1", kind="trial", parent="sweep", params={"rate": 0.1}, tags={"a": "b"})
    recorder.log("trial/1", RECORDS)
    recorder.log_file("trial/1", picture, "images")
    recorder.close_run("trial/1", "pruned", ended=1_700_000_000_000)
    recorder.close_run("sweep", "finished")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "grid.png"
    path.write_bytes(b"not really a picture")
    return path


def test_the_whole_record_sent_again_by_another_process_changes_nothing(home: Path, picture: Path) -> None:
    tell_all(recorder_for(home, "demo"), picture)
    before = runs_of(home)
    again = recorder_for(home, "demo")
    tell_all(again, picture)
    assert again.complete
    after = runs_of(home)
    assert {key: run.info.run_id for key, run in after.items()} == {k: run.info.run_id for k, run in before.items()}
    trial = after["trial/1"]
    assert trial.data.to_dictionary() == before["trial/1"].data.to_dictionary()
    assert (trial.info.status, trial.info.end_time) == ("FINISHED", 1_700_000_000_000)
    client = MlflowClient(tracking_uri(home))
    points = client.get_metric_history(trial.info.run_id, "train/loss")
    assert [(p.step, p.timestamp, p.value) for p in points] == [(s, 1000 + s, 1 / (1 + s)) for s in range(5)]
    assert [file.path for file in client.list_artifacts(trial.info.run_id, "images")] == ["images/grid.png"]


def test_records_that_overlap_those_sent_before_add_only_the_new_points(home: Path) -> None:
    recorder = recorder_for(home, "demo")
    recorder.open_run("t", name="t", kind="training")
    recorder.log("t", RECORDS[:3])
    recorder.log("t", RECORDS[1:])
    history = MlflowClient(tracking_uri(home)).get_metric_history(str(recorder.run_id("t")), "train/loss")
    assert sorted(point.step for point in history) == [0, 1, 2, 3, 4]


def test_trials_nest_under_their_sweep_with_their_names_kinds_and_parameters(home: Path, picture: Path) -> None:
    tell_all(recorder_for(home, "demo"), picture)
    runs = runs_of(home)
    trial = runs["trial/1"]
    assert trial.data.tags["mlflow.parentRunId"] == runs["sweep"].info.run_id
    assert trial.info.run_name == "trial 1"
    assert trial.data.tags["latentsweep.kind"] == "trial"
    assert trial.data.params == {"rate": "0.1"}


def test_nothing_about_the_machine_or_its_user_is_in_the_runs(home: Path, picture: Path) -> None:
    tell_all(recorder_for(home, "demo"), picture)
    for run in runs_of(home).values():
        assert run.info.user_id == run.data.tags["mlflow.user"] == "latentsweep"
        words = [run.info.run_name, *run.data.tags, *run.data.tags.values(), *run.data.params.values()]
        assert not [word for word in words if str(home) in word or socket.gethostname() in word or word == __file__]
        assert getpass.getuser() not in run.data.tags.values()


def test_nan_and_infinity_are_left_out_and_every_metric_that_had_one_is_named(home: Path) -> None:
    first = recorder_for(home, "demo")
    first.open_run("t", name="t", kind="training")
    first.log("t", [StepRecord(0, 0, {"loss": float("nan"), "fine": 1.0})])
    second = recorder_for(home, "demo")
    second.open_run("t", name="t", kind="training")
    second.log("t", [StepRecord(1, 1, {"kid": float("inf")})])
    data = runs_of(home)["t"].data
    assert data.metrics == {"fine": 1.0}
    assert data.tags[NOT_FINITE] == "kid, loss"


def test_a_parameter_that_changed_keeps_its_first_value_and_the_new_one_is_a_tag(home: Path) -> None:
    for trials in (20, 40):
        recorder = recorder_for(home, "demo")
        recorder.open_run("sweep", name="s", kind="sweep", params={"trials": trials})
    assert recorder.complete
    data = runs_of(home)["sweep"].data
    assert data.params == {"trials": "20"}
    assert data.tags["latentsweep.param.trials"] == "40"


def test_what_a_crash_left_running_is_closed_as_stopped_and_no_other(home: Path) -> None:
    crashed = recorder_for(home, "demo")
    crashed.open_run("sweep", name="s", kind="sweep")
    for number in (1, 2):
        crashed.open_run(f"trial/{number}", name=str(number), kind="trial", parent="sweep")
    crashed.close_run("trial/2", "failed")
    crashed.open_run("other", name="another command's", kind="training")
    recorder = recorder_for(home, "demo")
    recorder.open_run("sweep", name="s", kind="sweep")
    recorder.close_stale("sweep")
    statuses = {key: run.info.status for key, run in runs_of(home).items()}
    assert statuses == {"sweep": "RUNNING", "trial/1": "KILLED", "trial/2": "FAILED", "other": "RUNNING"}
    assert recorder.closed() == {"trial/2"}, "what was left half written is written again"
    assert recorder.finished() == set()
    recorder.close_run("sweep", "finished")
    assert recorder.finished() == {"sweep"}


def test_what_is_said_of_a_run_at_its_end_is_there_also_when_a_part_is_refused(home: Path) -> None:
    recorder = recorder_for(home, "demo")
    recorder.open_run("sweep", name="s", kind="sweep")
    for number, metric in ((1, "kid"), (2, "what?!")):
        key = f"sweep/trial-{number}"
        recorder.open_run(key, name=key, kind="point", parent="sweep", params={"rate": number}, brief=True)
        records, text = [StepRecord(3, 4, {metric: 0.5, "fid": float("nan")})], "Of [this](run:sweep)."
        recorder.close_run(key, "finished", records=records, text=text, tags={"a": "b"}, ended=1_700_000_000_000)
    runs = runs_of(home)
    good, refused = runs["sweep/trial-1"], runs["sweep/trial-2"]
    assert (good.data.metrics, refused.data.metrics) == ({"kid": 0.5}, {})
    assert not recorder.complete
    for number, run in enumerate((good, refused), start=1):
        assert (run.data.tags["a"], run.data.tags[NOT_FINITE]) == ("b", "fid")
        assert f"runs/{runs['sweep'].info.run_id}" in run.data.tags["mlflow.note.content"]
        assert (run.info.status, run.info.end_time) == ("FINISHED", 1_700_000_000_000)
        assert run.data.params == {"rate": str(number)}


@pytest.mark.parametrize("brief", [False, True])
def test_a_parameter_that_is_refused_takes_nothing_else_with_it(home: Path, brief: bool) -> None:
    recorder = recorder_for(home, "demo")
    recorder.open_run("t", name="t", kind="training", params={"bad?!": 2}, tags={"a": "b"}, brief=brief)
    recorder.log("t", RECORDS)
    recorder.close_run("t", "finished", text="All of it.")
    run = runs_of(home)["t"]
    assert (run.info.status, run.data.metrics["val/loss"], run.data.params) == ("FINISHED", 2.0, {})
    assert (run.data.tags["a"], run.data.tags["mlflow.note.content"]) == ("b", "All of it.")
    assert not recorder.complete


def test_a_run_that_was_to_be_closed_at_once_and_was_not_is_whole_when_it_is_sent_again(home: Path) -> None:
    recorder_for(home, "demo").open_run("t", name="t", kind="point", params={"rate": 1}, brief=True)
    again = recorder_for(home, "demo")
    again.open_run("t", name="t", kind="point", params={"rate": 1}, brief=True)
    again.close_run("t", "finished", records=RECORDS)
    run = runs_of(home)["t"]
    assert (run.data.params, run.data.metrics["val/loss"], run.info.status) == ({"rate": "1"}, 2.0, "FINISHED")


def test_a_run_under_a_new_one_is_not_searched_for_and_one_of_before_is(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches: list[str] = []

    def record(driver: MlflowRecorder) -> None:
        driver.open_run("sweep", name="s", kind="sweep")
        for number in range(3):
            driver.open_run(f"sweep/{number}", name="t", kind="trial", parent="sweep")
            driver.close_run(f"sweep/{number}", "finished", records=RECORDS, text="All of it.")

    def search(client: MlflowClient, experiments: list[str], query: str = "", **more: Any) -> Any:
        searches.append(query)
        return found(client, experiments, query, **more)

    found = MlflowClient.search_runs
    monkeypatch.setattr(MlflowClient, "search_runs", search)
    record(recorder_for(home, "demo"))
    assert len(searches) == 2, "for the sweep itself, and for what is under it"
    before = {key: run.info.run_id for key, run in runs_of(home).items()}
    searches.clear()
    record(recorder_for(home, "demo"))
    assert len(searches) == 2 + 3
    assert {key: run.info.run_id for key, run in runs_of(home).items()} == before


def test_a_run_whose_making_was_answered_too_late_is_made_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = recorder_for(home, "demo")
    recorder.open_run("sweep", name="s", kind="sweep")

    def lose(*given: Any, **more: Any) -> None:
        created(*given, **more)
        raise ConnectionError("the answer was lost")

    created = MlflowClient.create_run
    with monkeypatch.context() as slow:
        slow.setattr(MlflowClient, "create_run", lose)
        recorder.open_run("sweep/1", name="t", kind="trial", parent="sweep")
    recorder.flush()
    assert recorder.complete
    client = MlflowClient(tracking_uri(home))
    experiment = client.get_experiment_by_name("demo")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_a_run_or_experiment_that_somebody_deleted_is_recorded_again(home: Path) -> None:
    recorder_for(home, "demo").open_run("t", name="t", kind="training")
    client = MlflowClient(tracking_uri(home))
    experiment = client.get_experiment_by_name("demo")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    recorder = recorder_for(home, "demo")
    recorder.open_run("t", name="t", kind="training")
    recorder.log("t", RECORDS)
    assert recorder.complete
    assert runs_of(home)["t"].data.metrics["val/loss"] == 2.0


def test_a_refused_call_is_told_once_and_the_rest_of_the_record_arrives(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = recorder_for(home, "demo")
    recorder.open_run("t", name="t", kind="training")
    recorder.log_file("t", home / "missing.png")
    recorder.log("t", [StepRecord(0, 0, {"what?!": 1.0})])
    recorder.log("t", RECORDS)
    recorder.close_run("t", "finished")
    assert runs_of(home)["t"].info.status == "FINISHED"
    assert runs_of(home)["t"].data.metrics["val/loss"] == 2.0
    assert not recorder.complete
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert warnings == ["left out of the record: the file missing.png of t, there is no such file"]


@pytest.mark.parametrize("content", [b"", b"not really a picture", b"cut off"])
def test_a_damaged_picture_is_left_out_and_all_after_it_arrives(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    path = tmp_path / "damaged.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:900] if content == b"cut off" else content)
    recorder = recorder_for(home, "demo")
    recorder.open_run("t", name="t", kind="training")
    recorder.log_picture("t", path, "generated", step=1, time=1)
    recorder.log("t", RECORDS)
    assert runs_of(home)["t"].data.metrics["val/loss"] == 2.0
    [warning] = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert warning.startswith("left out of the record: the picture damaged.png of t, it can't be read as a picture (")
    assert str(tmp_path) not in warning


def test_a_file_that_cannot_be_read_is_left_out_and_all_after_it_arrives(
    home: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *given: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    recorder = recorder_for(home, "demo")
    recorder.open_run("t", name="t", kind="training")
    with monkeypatch.context() as unreadable:
        unreadable.setattr(type(picture), "open", refuse)
        recorder.log_file("t", picture)
        recorder.keep_file("t", picture)
    recorder.log("t", RECORDS)
    assert runs_of(home)["t"].data.metrics["val/loss"] == 2.0


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("scheme", ["http", "postgresql+psycopg2", "mysql+pymysql"])
def test_a_server_that_is_away_costs_one_warning_no_exception_and_little_time(
    scheme: str, picture: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    recorder = MlflowRecorder(f"{scheme}://jane:s3cret@127.0.0.1:{unused_port()}/x", "demo")
    start = time.monotonic()
    tell_all(recorder, picture)
    assert recorder.closed() == set()
    assert recorder.run_id("sweep") is None
    recorder.flush()
    assert time.monotonic() - start < 3
    assert not recorder.complete
    assert [r.levelno for r in caplog.records if r.levelno >= logging.WARNING] == [logging.WARNING]
    printed = caplog.text + "".join(capfd.readouterr())
    assert "127.0.0.1" in printed
    assert "s3cret" not in printed
    assert "jane" not in printed


def test_a_server_that_never_answers_blocks_for_one_short_wait(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        recorder = MlflowRecorder(f"http://127.0.0.1:{silent.getsockname()[1]}", "demo")
        start = time.monotonic()
        tell_all(recorder, picture)
        assert time.monotonic() - start < 4
    assert not recorder.complete


def test_what_waited_while_mlflow_was_away_is_sent_in_order_when_it_is_back(
    home: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = recorder_for(home, "demo")
    recorder.open_run("early", name="early", kind="training")
    recorder.close_run("early", "finished")
    with monkeypatch.context() as away:
        away.setattr(MlflowClient, "search_runs", lambda *a, **k: (_ for _ in ()).throw(ConnectionError("gone")))
        tell_all(recorder, picture)
        assert not recorder.complete
        assert recorder.closed() == set()
    recorder.flush()
    assert recorder.complete
    assert recorder.closed() == {"early", "sweep", "trial/1"}
    assert runs_of(home)["trial/1"].info.status == "FINISHED"


def test_a_database_that_somebody_else_writes_to_is_waited_for(home: Path) -> None:
    recorder = recorder_for(home, "demo")
    recorder.open_run("t", name="t", kind="training")
    lock = sqlite3.connect(home / "mlflow" / "mlflow.db", isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN IMMEDIATE")
    threading.Timer(0.5, lock.execute, ["ROLLBACK"]).start()
    recorder.log("t", RECORDS)
    assert recorder.complete


def test_a_tracking_server_in_the_environment_is_honoured(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking_uri(home) == f"sqlite:///{home}/mlflow/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example")
    assert tracking_uri(home) == "http://tracking.example"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("postgresql://u:p@h/db", "postgresql://***@h/db"),
        ("at https://u:p/4@5@h:1/x\nand http://h", "at https://***@h:1/x and http://h"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
    ],
)
def test_no_password_is_left_in_what_is_told(text: str, clean: str) -> None:
    assert redact(text) == clean


def test_a_caller_that_uses_a_run_before_opening_it_is_told_at_once(home: Path) -> None:
    recorder = recorder_for(home, "demo")
    with pytest.raises(KeyError, match="not open"):
        recorder.log("t", RECORDS)
    with pytest.raises(KeyError, match="not open"):
        recorder.open_run("t", name="t", kind="trial", parent="sweep")


def open_one(home: Path, number: int) -> None:
    recorder = recorder_for(home, "demo")
    recorder.open_run(f"t{number}", name=str(number), kind="training")
    assert recorder.complete


@pytest.mark.slow
def test_processes_that_first_touch_a_fresh_home_together_all_get_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=open_one, args=(tmp_path, number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert set(runs_of(tmp_path)) == {"t0", "t1", "t2"}


@contextmanager
def tracking_server(folder: Path, port: int) -> Iterator[str]:
    """A server like a team's: runs in a database, files through the server."""
    environment = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/server.db",
        "MLFLOW_ARTIFACTS_DESTINATION": (folder / "files").as_uri(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


@pytest.mark.slow
def test_a_server_that_goes_away_and_comes_back_has_everything_in_the_end(tmp_path: Path, picture: Path) -> None:
    port = unused_port()
    with tracking_server(tmp_path, port) as uri:
        recorder = MlflowRecorder(uri, "demo")
        recorder.open_run("before", name="before", kind="training")
        recorder.log("before", RECORDS[:2])
        assert recorder.complete
    recorder.log("before", RECORDS)
    tell_all(recorder, picture)
    assert not recorder.complete
    with tracking_server(tmp_path, port) as uri:
        recorder.flush()
        assert recorder.complete
        assert recorder.closed() == {"sweep", "trial/1"}
        client = MlflowClient(uri)
        history = client.get_metric_history(str(recorder.run_id("before")), "train/loss")
        assert sorted(point.step for point in history) == [0, 1, 2, 3, 4]
        files = client.list_artifacts(str(recorder.run_id("trial/1")), "images")
        assert [(file.path, file.file_size) for file in files] == [("images/grid.png", picture.stat().st_size)]


def test_a_reader_keeps_a_file_with_a_run_and_neither_ends_nor_makes_one(home: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("a page")
    driver, reader = recorder_for(home, "demo"), recorder_for(home, "demo")
    driver.open_run("sweep", name="a sweep", kind="sweep")
    driver.open_run("trial/1", name="trial 1", kind="trial", parent="sweep")
    reader.keep_file("sweep", page, "report")
    reader.keep_file("another", page, "report")
    runs = runs_of(home)
    assert {key: run.info.status for key, run in runs.items()} == {"sweep": "RUNNING", "trial/1": "RUNNING"}
    assert (home / "mlflow" / "artifacts" / runs["sweep"].info.run_id / "artifacts" / "report" / page.name).is_file()
    driver.close_run("sweep", "finished", ended=1_700_000_000_000)
    reader.keep_file("sweep", page, "report")
    info = runs_of(home)["sweep"].info
    assert (info.status, info.end_time) == ("FINISHED", 1_700_000_000_000)


def test_what_an_earlier_version_recorded_is_sent_again_under_todays_name_and_in_the_same_run(home: Path) -> None:
    first = recorder_for(home, "demo")
    first.open_run("t", name="trial 1", kind="trial")
    first.close_run("t", "stopped")
    client = MlflowClient(tracking_uri(home))
    client.delete_tag(str(first.run_id("t")), FORM[0])  # as runs were before there was the tag
    again = recorder_for(home, "demo")
    assert again.closed() == again.finished() == set()
    again.open_run("t", name="sweep #1", kind="trial")
    again.close_run("t", "pruned")
    assert again.closed() == again.finished() == {"t"}
    run = runs_of(home)["t"]
    assert (run.info.run_id, run.info.run_name, run.info.status) == (first.run_id("t"), "sweep #1", "FINISHED")
    client.update_run(run.info.run_id, name="mine")
    again.open_run("t", name="sweep #1", kind="trial")
    assert runs_of(home)["t"].info.run_name == "mine", "a name that a user gave is kept"
