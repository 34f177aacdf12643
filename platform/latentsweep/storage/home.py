"""The home: one folder with everything that a user makes. And how its files are read, written and checked."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import xxhash

from latentsweep.storage.refusals import why
from trainables.errors import StoreError
from trainables.loop.files import replace_whole

Item = TypeVar("Item")
Result = TypeVar("Result")

READERS = 2
"""Threads that read files at once. More gain nothing where the files are in memory."""


@dataclass(frozen=True)
class Home:
    """Where a user's things are. No folder is made before it is needed."""

    root: Path
    location: str = ""
    """The address of the stage store, if it isn't in the home: a folder, or a bucket (:func:`is_bucket`)."""
    study: str = field(default="", repr=False)
    """The database of Optuna's studies, if not a file in each sweep's folder; it may hold a password."""

    @property
    def datasets(self) -> Path:
        """Prepared datasets, a folder each."""
        return self.root / "datasets"

    @property
    def store(self) -> Path:
        """The folder of the stage store; where that is a bucket, the folder of this home's copies."""
        elsewhere = self.location and not is_bucket(self.location)
        return Path(self.location).expanduser() if elsewhere else self.root / "store"

    @property
    def store_address(self) -> str:
        """Where every worker finds the store: an absolute path, or the bucket's address."""
        return self.location if is_bucket(self.location) else str(self.store.resolve())

    @property
    def sweeps(self) -> Path:
        """Sweeps, a folder each: the Optuna study, the settings, the log."""
        return self.root / "sweeps"

    @property
    def ablations(self) -> Path:
        """Ablation studies, a folder each: the plan, what failed, the tables."""
        return self.root / "ablations"

    @property
    def trained(self) -> Path:
        """Retrained configurations, a folder each."""
        return self.root / "trained"

    def writable(self, folder: Path, option: str = "--home") -> Path:
        """Makes ``folder`` where it is missing and returns it.

        Raises :class:`StoreError` where it isn't writable, which names the ``option`` that chooses another.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"the folder {folder} must be writable: {why(error)}, or choose another with {option}"
            ) from error
        return folder


def is_bucket(address: str) -> bool:
    """Whether a store's address is that of a bucket, ``scheme://bucket/prefix``, and not a folder."""
    return "://" in address


def is_read_only(folder: Path) -> bool:
    """Whether this process may write neither into a folder nor, where it is missing, make it."""
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    return not os.access(there, os.W_OK)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON whole or not at all; a link at ``path`` is replaced, and what it leads to stays."""
    replace_whole(path, json.dumps(value, indent=1))


def read_json(path: Path, otherwise: Any) -> Any:
    """The content of a JSON file, or ``otherwise`` where there is none; raises :class:`StoreError` for damage."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return otherwise
    except (ValueError, RecursionError) as error:
        raise StoreError(
            f"{path} must be JSON and is damaged; put back a copy of it, or move it away and run the command that "
            "wrote it again"
        ) from error


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def xxh3_of(path: Path) -> str:
    """The 128-bit XXH3 of a file, hexadecimal: finds damage, ten times faster than SHA-256."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def read_each(read: Callable[[Item], Result], items: Sequence[Item], threads: int = READERS) -> list[Result]:
    """Calls ``read`` for each item, in threads where there are several; returns the results in order."""
    if len(items) < 2:
        return [read(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(read, items))
