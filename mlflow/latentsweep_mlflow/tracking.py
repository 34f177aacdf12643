"""Where the record lies: the home's own SQLite file, or the server that MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
import sqlite3
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

ORIGIN = {"mlflow.user": "latentsweep", "mlflow.source.name": "latentsweep", "mlflow.source.type": "LOCAL"}
"""Tags of every run, in place of what MLflow takes from the machine: the account, the script and its folder."""

DATABASE = ("mlflow", "mlflow.db")
"""The folder and the file of a home's own record."""

_FOLDER = "/mlflow/artifacts"
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""The tables and columns in which MLflow keeps where files lie."""

_LOCK_SECONDS = 30.0
_HTTP_LIMITS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
_PROBE_SECONDS = 3.0
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def tracking_uri(home: Path) -> str:
    """MLFLOW_TRACKING_URI where it is set, otherwise the database in ``<home>/mlflow``."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database(home)}"


def database(home: Path) -> Path:
    """The SQLite file of a home, absolute; it may not exist yet."""
    return home.resolve().joinpath(*DATABASE)


def artifact_root(home: Path) -> str | None:
    """Where a home's own record keeps files, as a URI; ``None`` where a server decides that."""
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    return _artifacts_of(database(home))


def _artifacts_of(path: Path) -> str:
    """The URI of the folder with the files of a home's database."""
    return (path.parent / "artifacts").as_uri()


def find_artifacts(uri: str) -> None:
    """Makes the record of a home that was moved or copied point to the home's own files.

    MLflow keeps where files lie as whole addresses, so that a copy would write into what it was copied from. Only a
    home's own database is changed, and none that is read-only. Raises :class:`OSError` where it is locked for long.
    """
    path = Path(uri.removeprefix("sqlite:///"))
    own = uri.startswith("sqlite:///") and (path.parent.name, path.name) == DATABASE
    if not own or os.environ.get("MLFLOW_TRACKING_URI") or not path.is_file() or not os.access(path, os.W_OK):
        return
    root = _artifacts_of(path)
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=_LOCK_SECONDS)) as connection, connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "experiments" not in tables:
                return
            found = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
            others = [there for (there,) in found if there and there.endswith(_FOLDER) and there != root]
            for there, (table, column) in itertools.product(others, _ADDRESSES):
                if table in tables:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? "
                        f"OR substr({column}, 1, ?) = ?",
                        (root, len(there) + 1, there, len(there) + 1, f"{there}/"),
                    )
    except sqlite3.Error as error:
        raise OSError(f"the record in {path} can't be opened ({error})") from error


def connect(uri: str) -> MlflowClient:
    """A client of ``uri`` whose store answers; raises MLflow's own errors, or :class:`OSError`.

    Tables are created by one process at a time: several that first touch a SQLite file crash each other.
    Requests give up after ten seconds and aren't repeated, unless MLflow's variables say otherwise, since the
    callers have their own way to try again.
    """
    for name, value in _HTTP_LIMITS.items():
        os.environ.setdefault(name, value)
    # What MLflow would print, with a traceback and the address, reaches the user as our one line.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    _probe(uri)
    with initialisation(uri):
        find_artifacts(uri)
        client = MlflowClient(tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or uri)
        client.search_experiments(max_results=1)
    return client


def initialisation(uri: str) -> AbstractContextManager[object]:
    """Held while the tables of a SQLite file may be created; nothing for other stores, and for a read-only file."""
    if not uri.startswith("sqlite:///"):
        return nullcontext()
    path = Path(uri.removeprefix("sqlite:///"))
    if path.is_file() and not os.access(path.parent, os.W_OK):
        return nullcontext()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock: AbstractContextManager[object] = FileLock(path.with_suffix(".lock"), timeout=120)
    return lock


def experiment_id(client: MlflowClient, name: str, root: str | None = None) -> str:
    """The experiment called ``name``: found, brought back from MLflow's bin, or created."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=root)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)  # another process was faster
    assert found is not None
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _probe(uri: str) -> None:
    """Fail fast on a database server that is away: MLflow itself would retry for more than three minutes."""
    address = urlsplit(uri)
    port = _DATABASE_PORTS.get(address.scheme.partition("+")[0])
    if port is not None and address.hostname:
        socket.create_connection((address.hostname, address.port or port), timeout=_PROBE_SECONDS).close()
