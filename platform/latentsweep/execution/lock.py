"""The lock of a job: it refuses a second driver of the same folder, or of the same study in a database."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from latentsweep.execution.supervision import DRIVER, ENDING, is_dead
from latentsweep.search.databases import hold_study_lock
from trainables.errors import LatentsweepError


@contextlib.contextmanager
def hold_lock(folder: Path, database: str = "") -> Iterator[None]:
    """Locks the job of a folder for the length of a ``with``; with a ``database``, its study there, too.

    The lock in the database is for drivers in other homes and on other machines. Raises :class:`LatentsweepError`
    where another driver has the lock. A driver whose parent was killed is about to end: this waits for it.
    """
    lock, note = FileLock(folder / "lock"), folder / "driver"
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not (note.exists() and is_dead(int(note.read_text() or 0))):
                raise
            lock.acquire(timeout=2 * ENDING)
    except Timeout:
        raise LatentsweepError(
            f"only one process may drive {folder.name} and another does; wait for it to end"
        ) from None
    try:
        note.write_text(os.environ.get(DRIVER, str(os.getpid())))
        with hold_study_lock(database, folder.name) if database else contextlib.nullcontext():
            yield
    finally:
        lock.release()
