"""Who has hold of a prepared dataset: any number of jobs that use it, or one preparation that replaces it.

Each holds a lock of the operating system on one file, shared or alone, which ends with its process.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from trainables.errors import DataError


@contextlib.contextmanager
def use(datasets: Path, name: str) -> Iterator[None]:
    """Keeps the dataset ``name`` from being replaced for the length of a ``with``.

    Raises :class:`DataError` where it is being replaced.
    """
    with _held(datasets, name, fcntl.LOCK_SH) as held:
        if not held:
            raise DataError(
                f"a dataset must not be used while it is prepared anew, and {name} is; wait for that to end"
            )
        yield


@contextlib.contextmanager
def replace(datasets: Path, name: str) -> Iterator[None]:
    """Keeps jobs from the dataset ``name`` for the length of a ``with``.

    Raises :class:`DataError` where one uses it.
    """
    with _held(datasets, name, fcntl.LOCK_EX) as held:
        if not held:
            raise DataError(
                f"a dataset must not be replaced while a sweep, study or training uses it, and one uses {name}; wait "
                "for that to end, or choose another name"
            )
        yield


@contextlib.contextmanager
def _held(datasets: Path, name: str, how: int) -> Iterator[bool]:
    """Whether the lock was free; it is held until the ``with`` ends."""
    with (datasets / f".{name}.users.lock").open("a") as file:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
