"""Addresses of MLflow's pages, for pages of ours that lead there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from latentsweep.records.recorder import Recorder
from latentsweep_mlflow.tracking import tracking_uri

LOCAL = "http://127.0.0.1:5000"
"""Where ``ui`` shows a home's own record, unless it is told another port."""


def address_of(home: Path) -> str:
    """Where MLflow's pages of a home's record are: at its server, without a name or password, or where ``ui`` is."""
    uri = tracking_uri(home)
    if not uri.startswith(("http://", "https://")):
        return LOCAL
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def pages_of(home: Path, recorder: Recorder) -> Callable[[str], str]:
    """A function that gives the address of the page of a key's run; empty where MLflow has none, or is away."""
    address = address_of(home)

    def page_of(key: str) -> str:
        run_id = recorder.run_id(key)
        return f"{address}/#/runs/{run_id}" if run_id else ""

    return page_of
