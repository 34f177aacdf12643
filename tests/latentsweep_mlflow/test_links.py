"""Links of our pages to MLflow's: to the server that has the runs, and never with what it takes to log in."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentsweep.records.recorder import MemoryRecorder
from latentsweep_mlflow.links import LOCAL, address_of, pages_of


def test_a_run_of_a_home_is_where_ui_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    recorder = MemoryRecorder()
    recorder.open_run("sweep", name="sweep", kind="sweep")
    page_of = pages_of(tmp_path, recorder)
    assert page_of("sweep") == f"{LOCAL}/#/runs/sweep"
    assert page_of("sweep/trial-3") == ""


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("https://mlflow.example:8443/", "https://mlflow.example:8443"),
        ("https://me:SECRET@mlflow.example/team/", "https://mlflow.example/team"),
        ("https://mlflow.example/?token=SECRET", "https://mlflow.example"),
        ("postgresql://me:SECRET@database/mlflow", LOCAL),
    ],
)
def test_a_link_names_the_server_without_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, address: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert address_of(tmp_path) == address
