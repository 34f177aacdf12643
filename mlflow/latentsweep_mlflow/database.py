"""Where the record lies: the home's own SQLite file, or the server that MLFLOW_TRACKING_URI names.

This and :mod:`latentsweep_mlflow.own_record` read that file without MLflow, whose import takes two seconds.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from filelock import FileLock

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

LOCK_SECONDS = 30.0
"""Seconds to wait for another process that writes to the file."""


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
        with contextlib.closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as connection, connection:
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
