"""The home's own record, read and added to without MLflow, whose import takes two seconds.

For commands that only look: a reader needs what runs are called, and keeps a page with one of them. All else goes by
:class:`~latentsweep_mlflow.recorder.MlflowRecorder`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from latentsweep.records.recorder import FORM, NOTHING, Record, check_key
from latentsweep.records.redaction import redact_lines
from latentsweep_mlflow.database import LOCK_SECONDS, database, find_artifacts, tracking_uri
from latentsweep_mlflow.links import DESCRIPTION, TAG_LENGTH, resolve

_RUNS = """
SELECT keys.value, runs.run_uuid, runs.status, runs.artifact_uri, runs.experiment_id, forms.value
FROM experiments JOIN runs USING (experiment_id)
JOIN tags AS keys ON keys.run_uuid = runs.run_uuid AND keys.key = 'latentsweep.key'
LEFT JOIN tags AS forms ON forms.run_uuid = runs.run_uuid AND forms.key = ?
WHERE experiments.name = ? AND experiments.lifecycle_stage = 'active' AND runs.lifecycle_stage = 'active'
ORDER BY runs.start_time, runs.run_uuid
"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Run:
    id: str
    status: str
    files: str
    """The URI of its folder of files."""
    experiment: str
    form: str | None


class OwnRecord:
    """A :class:`latentsweep.records.recorder.Record` of the runs of an experiment in a home's SQLite file.

    Raises :class:`sqlite3.Error` where the file isn't as MLflow makes it, and :class:`OSError` where it is locked for
    long, or a run's files aren't on this machine.
    """

    def __init__(self, path: Path, experiment: str) -> None:
        self._path = path
        self._runs: dict[str, _Run] = {}
        if not path.is_file():
            return
        find_artifacts(f"sqlite:///{path}")
        with self._open() as connection:
            for key, *run in connection.execute(_RUNS, (FORM[0], experiment)):
                self._runs.setdefault(key, _Run(*run))
        if elsewhere := [run.files for run in self._runs.values() if urlsplit(run.files).scheme not in ("", "file")]:
            raise OSError(f"files of runs are at {elsewhere[0]}")

    def run_id(self, key: str) -> str | None:
        run = self._runs.get(check_key(key))
        return run.id if run else None

    def closed(self) -> set[str]:
        going = ("RUNNING", "KILLED")
        return {key for key, run in self._runs.items() if run.form == FORM[1] and run.status not in going}

    def finished(self) -> set[str]:
        return {key for key in self.closed() if self._runs[key].status == "FINISHED"}

    def keep_file(self, key: str, path: Path, folder: str = "") -> None:
        run = self._runs.get(check_key(key))
        if run is None:
            return
        to = Path(unquote(urlsplit(run.files).path)) / folder
        try:
            to.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to / path.name)
        except OSError as error:
            _log.warning("left out of the record: the file %s of %s, %s", path.name, key, error.strerror)

    def describe(self, key: str, text: str, tags: Mapping[str, str] = NOTHING) -> None:
        run = self._runs.get(check_key(key))
        if run is None:
            return
        known = {name: redact_lines(value) for name, value in tags.items()}
        try:
            with self._open() as connection:
                there = dict(connection.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (run.id,)))
                told = resolve(redact_lines(text), run.experiment, run.id, there | known, self.run_id)
                connection.executemany(
                    "INSERT OR REPLACE INTO tags (key, value, run_uuid) VALUES (?, ?, ?)",
                    [(name, value[:TAG_LENGTH], run.id) for name, value in {**known, DESCRIPTION: told}.items()],
                )
        except sqlite3.Error as error:
            _log.warning("left out of the record: the description of %s, %s", key, error)

    def flush(self) -> None:
        """Nothing ever waits here."""

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection, whose changes count when the ``with`` ends well."""
        with contextlib.closing(sqlite3.connect(self._path, timeout=LOCK_SECONDS)) as connection, connection:
            yield connection


def record_for(home: Path, experiment: str) -> Record:
    """What a reader sees of a home's record: its own file, or the server that MLFLOW_TRACKING_URI names."""
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        with contextlib.suppress(sqlite3.Error, OSError):  # MLflow says what is wrong with it
            return OwnRecord(database(home), experiment)
    from latentsweep_mlflow.recorder import MlflowRecorder

    return MlflowRecorder(tracking_uri(home), experiment)
