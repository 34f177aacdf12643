"""A home's own record, read without MLflow, is what MLflow has in it."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from mlflow import MlflowClient

from latentsweep.records.recorder import FORM
from latentsweep_mlflow.database import database, tracking_uri
from latentsweep_mlflow.own_record import OwnRecord, record_for
from latentsweep_mlflow.recorder import MlflowRecorder, recorder_for

TEXT = "[page](kept:latentsweep.report), [best](run:sweep/1), [no run](run:sweep/9), [all](runs:sweep)\n\n\n\nend"
TAGS = {"latentsweep.report": "report/page.html", "latentsweep.from": "http://me:SECRET@host"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a finished, a pruned, a failed, a stopped and a running run, and one of an earlier form."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    recorder = recorder_for(tmp_path / "a home", "demo")
    for key, status in {
        "sweep": "finished",
        "sweep/1": "pruned",
        "sweep/2": "failed",
        "sweep/4": "stopped",
        "sweep/old": "finished",
    }.items():
        recorder.open_run(key, name=key, kind="trial")
        recorder.close_run(key, status)  # type: ignore[arg-type]
    recorder.open_run("sweep/3", name="sweep/3", kind="trial")
    client_of(tmp_path / "a home").set_tag(recorder.run_id("sweep/old"), FORM[0], "1")
    return tmp_path / "a home"


def client_of(home: Path) -> MlflowClient:
    return MlflowClient(tracking_uri(home))


def test_it_tells_what_mlflow_tells(home: Path) -> None:
    own, theirs = record_for(home, "demo"), recorder_for(home, "demo")
    assert isinstance(own, OwnRecord)
    assert own.closed() == theirs.closed() == {"sweep", "sweep/1", "sweep/2"}
    assert own.finished() == theirs.finished() == {"sweep", "sweep/1"}
    for key in ("sweep", "sweep/1", "sweep/2", "sweep/3", "sweep/old", "sweep/9"):
        assert own.run_id(key) == theirs.run_id(key)
    assert record_for(home, "other").run_id("sweep") is None, "it is of another experiment"
    client_of(home).delete_run(own.run_id("sweep/1"))
    assert record_for(home, "demo").run_id("sweep/1") is None


def test_it_adds_what_mlflow_would_add(home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    page = tmp_path / "page.html"
    found = {}
    for record in (recorder_for(home, "demo"), record_for(home, "demo")):
        page.write_text(type(record).__name__)
        record.keep_file("sweep", page, "report")
        record.keep_file("sweep/9", page, "report")
        record.describe("sweep", TEXT, TAGS)
        record.describe("sweep/9", TEXT, TAGS)
        run = client_of(home).get_run(record.run_id("sweep"))
        found[type(record)] = run.data.tags
        kept = Path(unquote(urlsplit(run.info.artifact_uri).path)) / "report" / "page.html"
        assert kept.read_text() == type(record).__name__
        client_of(home).set_tag(run.info.run_id, "mlflow.note.content", "before")
    assert found[MlflowRecorder] == found[OwnRecord]
    assert "SECRET" not in str(found)
    assert f"runs/{run.info.run_id}/artifacts/report/page.html" in found[OwnRecord]["mlflow.note.content"]
    assert not caplog.records
    record_for(home, "demo").keep_file("sweep", tmp_path / "nothing.html")
    assert [each.levelno for each in caplog.records] == [logging.WARNING], "it says so, and the work goes on"


def test_a_home_without_a_record_gets_none_from_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    record = record_for(tmp_path / "runs", "demo")
    assert record.run_id("sweep") is None
    assert record.closed() == set()
    assert list(tmp_path.iterdir()) == []


def test_of_a_server_and_of_a_damaged_file_mlflow_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    database(tmp_path).parent.mkdir()
    database(tmp_path).write_text("no database")
    assert isinstance(record_for(tmp_path, "demo"), MlflowRecorder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert isinstance(record_for(tmp_path, "demo"), MlflowRecorder)


def test_a_record_whose_files_are_elsewhere_is_mlflows(home: Path) -> None:
    with sqlite3.connect(database(home)) as connection:
        connection.execute("UPDATE runs SET artifact_uri = 'mlflow-artifacts:/1/files'")
    connection.close()
    assert isinstance(record_for(home, "demo"), MlflowRecorder)
