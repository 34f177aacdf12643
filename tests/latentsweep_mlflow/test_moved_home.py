"""A home that was moved works as before, and a copied one writes into itself: nothing points to where it was."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from mlflow import MlflowClient

from latentsweep_mlflow.database import artifact_root, find_artifacts, tracking_uri
from latentsweep_mlflow.recorder import recorder_for
from latentsweep_mlflow.tracking import connect

MADE = """
import sys
from pathlib import Path
from latentsweep_mlflow.recorder import recorder_for
from latentsweep_mlflow.database import tracking_uri
from latentsweep_mlflow.tracking import connect

home = Path(sys.argv[1])
page = home / "page.txt"
page.write_text("made first")
recorder = recorder_for(home, "demo")
recorder.open_run("sweep", name="a sweep", kind="sweep")
recorder.log_file("sweep", page, "report")
recorder.close_run("sweep", "finished")
client = connect(tracking_uri(home))
run = client.get_run(recorder.run_id("sweep"))
client.create_registered_model("demo")
client.create_model_version("demo", run.info.artifact_uri + "/model", run.info.run_id)
"""


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a run, its file, and a registered model, which nobody may change.

    Another process makes it, as another command does: MLflow remembers for a process where a run's files lie.
    """
    home = tmp_path_factory.mktemp("first") / "a home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", MADE, str(home)], check=True, env=environment)
    return home


@pytest.fixture
def home(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as it lies where it was made."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Path(shutil.copytree(recorded, tmp_path / "copied" / "there"))


def record(home: Path, text: str) -> None:
    """Records a file of that text with the one run of the home."""
    path = home / "page.txt"
    path.write_text(text)
    recorder = recorder_for(home, "demo")
    recorder.open_run("sweep", name="a sweep", kind="sweep")
    recorder.log_file("sweep", path, "report")
    recorder.close_run("sweep", "finished")
    assert recorder.complete


def files(home: Path) -> dict[str, str]:
    """What lies below the artifacts."""
    root = home / "mlflow" / "artifacts"
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def addresses(home: Path) -> list[Path]:
    """Where the record says that files lie."""
    client = MlflowClient(tracking_uri(home))
    experiment = client.get_experiment_by_name("demo")
    [run] = client.search_runs([experiment.experiment_id])
    [version] = client.search_model_versions("name = 'demo'")
    found = experiment.artifact_location, run.info.artifact_uri, version.source
    return [Path(unquote(urlsplit(address).path)) for address in found]


def test_a_copied_home_writes_into_itself(recorded: Path, home: Path) -> None:
    record(home, "made in the copy")
    assert list(files(recorded).values()) == ["made first"]
    assert list(files(home).values()) == ["made in the copy"]
    assert all(path.is_relative_to(home) for path in addresses(home))
    assert all(path.is_relative_to(recorded) for path in addresses(recorded))


def test_a_moved_home_finds_its_files_and_its_models(home: Path, tmp_path: Path) -> None:
    connect(tracking_uri(home))
    moved = Path(shutil.move(home, tmp_path / "elsewhere"))
    client = connect(tracking_uri(moved))
    [run] = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    assert Path(client.download_artifacts(run.info.run_id, "report/page.txt")).read_text() == "made first"
    assert all(path.is_relative_to(moved) for path in addresses(moved))
    assert not home.exists()


def test_opening_a_home_where_it_was_changes_nothing_in_its_record(home: Path) -> None:
    connect(tracking_uri(home))
    before = (home / "mlflow" / "mlflow.db").read_bytes()
    find_artifacts(tracking_uri(home))
    assert (home / "mlflow" / "mlflow.db").read_bytes() == before


def test_the_record_of_a_server_or_of_somebody_else_is_left_alone(
    recorded: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = tracking_uri(home)
    other = shutil.copy(home / "mlflow" / "mlflow.db", home / "team.db")
    find_artifacts(f"sqlite:///{other}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    find_artifacts(uri)
    assert artifact_root(home) is None
    for path in (other, home / "mlflow" / "mlflow.db"):
        (location,) = (
            sqlite3.connect(path).execute("SELECT artifact_location FROM experiments WHERE name = 'demo'").fetchone()
        )
        assert Path(unquote(urlsplit(location).path)).is_relative_to(recorded)
