"""The stage store: every result that cost compute, under a key made of all that it depends on.

A result is a folder ``<store>/<stage>/<key>/``. It is complete when it is there: the work is done in
``<key>.partial/``, the manifest is written last, and then the folder gets its name. Two processes that want
the same key do the work once; the second waits for the first.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from latentsweep import __version__
from latentsweep.home import sha256_of, write_json
from trainables.checkpoint import previous
from trainables.config import fingerprint
from trainables.errors import StoreError
from trainables.training import CHECKPOINT

MANIFEST = "manifest.json"
PARTIAL = ".partial"
COST = ".cost.json"
PROGRESS = ".progress.json"
CHECKPOINTS = (CHECKPOINT, previous(Path(CHECKPOINT)).name)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageKey:
    """What a result depends on: stage, its version, identity fields, upstream keys, dataset fingerprint, seed."""

    stage: str
    version: int
    inputs: Mapping[str, Any]
    upstream: tuple[StageKey, ...] = ()

    @property
    def digest(self) -> str:
        """The key: 16 hexadecimal digits."""
        return fingerprint(
            {
                "stage": self.stage,
                "version": self.version,
                "inputs": dict(self.inputs),
                "upstream": [key.name for key in self.upstream],
            }
        )

    @property
    def name(self) -> str:
        """``stage/digest``: where it lies in the store."""
        return f"{self.stage}/{self.digest}"

    def lineage(self) -> Iterator[StageKey]:
        """This key and all that it stands on, downstream first, each once."""
        seen: dict[str, StageKey] = {}
        waiting = [self]
        while waiting:
            key = waiting.pop(0)
            if key.name not in seen:
                seen[key.name] = key
                waiting += key.upstream
        yield from seen.values()


@dataclass(frozen=True)
class Entry:
    """A complete result."""

    name: str
    folder: Path
    manifest: Mapping[str, Any] = field(repr=False)

    @property
    def summary(self) -> Mapping[str, Any]:
        """What the stage said of its result: small, JSON."""
        value: Mapping[str, Any] = self.manifest["summary"]
        return value

    @property
    def seconds(self) -> float:
        """Wall time it cost, over all its interruptions but for kills."""
        return float(self.manifest["cost"]["seconds"])

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(int(file["bytes"]) for file in self.manifest["files"].values())

    def file(self, name: str) -> Path:
        """A file of the result."""
        return self.folder / name

    def json(self, name: str) -> Any:
        """A JSON file of the result."""
        return json.loads((self.folder / name).read_text())


class Store:
    """Results by key, below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: set[str] = set()

    def folder(self, name: str) -> Path:
        """Where the result of that name lies, or would."""
        return self.root / name

    def workspace(self, name: str) -> Path:
        """Where an unfinished result lies, with its checkpoint."""
        return self.root / (name + PARTIAL)

    def find(self, key: StageKey | str) -> Entry | None:
        """The complete result, checked against its manifest the first time; None where there is none.

        A damaged result is said in the log and treated as absent; :meth:`obtain` builds it again.
        """
        name = key if isinstance(key, str) else key.name
        folder = self.folder(name)
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            damage = None if name in self._verified else damage_of(folder, manifest)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (json.JSONDecodeError, UnicodeDecodeError):
            manifest, damage = {}, f"{MANIFEST} is not JSON"
        except OSError as error:
            raise StoreError(f"the store at {self.root} must be readable ({error.strerror})") from error
        if damage:
            log.warning("%s in the store is damaged (%s); it counts as absent and is built again", name, damage)
            return None
        self._verified.add(name)
        return Entry(name, folder, manifest)

    def obtain(self, key: StageKey, build: Callable[[Path], Mapping[str, Any]]) -> Entry:
        """The result of ``key``, built by ``build(workspace)`` where it isn't there yet.

        ``build`` writes files into the workspace, where it may find what an interrupted build left, and
        returns the summary. Raises :class:`StoreError` where the store can't be written.
        """
        found = self.find(key)
        if found:
            return found
        workspace = self.workspace(key.name)
        with self._lock(key.name):
            found = self.find(key)
            if found:
                return found
            shutil.rmtree(self.folder(key.name), ignore_errors=True)
            self._make(workspace)
            (workspace / MANIFEST).unlink(missing_ok=True)
            with stopwatch(workspace) as cost:
                summary = build(workspace)
            return self._commit(key, workspace, summary, cost)

    def log_of(self, key: StageKey) -> Path:
        """Where the work on ``key`` notes what it does, while it does it and when it failed."""
        return self.root / "logs" / (key.name.replace("/", "-") + ".log")

    def _commit(self, key: StageKey, workspace: Path, summary: Mapping[str, Any], cost: Mapping[str, float]) -> Entry:
        for leftover in (*workspace.glob(".*"), *workspace.glob("*.tmp")):
            leftover.unlink(missing_ok=True)
        manifest = {
            "name": key.name,
            "stage": key.stage,
            "version": key.version,
            "inputs": dict(key.inputs),
            "upstream": [upstream.name for upstream in key.upstream],
            "code": __version__,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "cost": dict(cost),
            "summary": dict(summary),
            "files": {
                str(path.relative_to(workspace)): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
                for path in sorted(workspace.rglob("*"))
                if path.is_file() and path.name not in CHECKPOINTS
            },
        }
        write_json(workspace / MANIFEST, manifest)
        os.replace(workspace, self.folder(key.name))
        for checkpoint in CHECKPOINTS:
            (self.folder(key.name) / checkpoint).unlink(missing_ok=True)
        self._verified.add(key.name)
        return Entry(key.name, self.folder(key.name), manifest)

    def _lock(self, name: str) -> FileLock:
        folder = self._make(self.root / "locks")
        return FileLock(folder / (name.replace("/", "-") + ".lock"))

    def _make(self, folder: Path) -> Path:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the store at {self.root} must be writable ({error.strerror}); choose another with --home"
            ) from error
        return folder

    def entries(self) -> list[Entry]:
        """All complete results, by name."""
        folders = (path.parent for path in self.root.glob(f"*/*/{MANIFEST}") if path.parent.suffix != PARTIAL)
        found = (self.find(f"{folder.parent.name}/{folder.name}") for folder in folders)
        return sorted((entry for entry in found if entry), key=lambda entry: entry.name)

    def unfinished(self) -> list[str]:
        """Names of results that were begun and not finished."""
        return sorted(
            f"{path.parent.name}/{path.name.removesuffix(PARTIAL)}" for path in self.root.glob(f"*/*{PARTIAL}")
        )

    def progress(self, name: str) -> Mapping[str, Any]:
        """What a build in progress last said of itself; empty where it said nothing."""
        try:
            value: Mapping[str, Any] = json.loads((self.workspace(name) / PROGRESS).read_text())
        except FileNotFoundError:
            return {}
        return value

    def remove(self, name: str) -> bool:
        """Frees a result, finished or not; False where somebody is at work on it."""
        try:
            with self._lock(name).acquire(timeout=0):
                self._verified.discard(name)
                for folder in (self.folder(name), self.workspace(name)):
                    shutil.rmtree(folder, ignore_errors=True)
        except Timeout:
            return False
        return True


@contextlib.contextmanager
def stopwatch(workspace: Path) -> Iterator[dict[str, float]]:
    """Wall and CPU seconds of the body, added to what earlier attempts in this workspace took."""
    path = workspace / COST
    before = json.loads(path.read_text()) if path.exists() else {"seconds": 0.0, "cpu_seconds": 0.0}
    wall, cpu = time.monotonic(), _cpu_seconds()
    cost = dict(before)
    try:
        yield cost
    finally:
        cost["seconds"] = round(before["seconds"] + time.monotonic() - wall, 3)
        cost["cpu_seconds"] = round(before["cpu_seconds"] + _cpu_seconds() - cpu, 3)
        if workspace.exists():
            write_json(path, cost)


def damage_of(folder: Path, manifest: Mapping[str, Any]) -> str | None:
    """What is wrong with the files of a result, if anything."""
    for name, expected in manifest.get("files", {}).items():
        path = folder / name
        if not path.exists():
            return f"{name} is missing"
        if path.stat().st_size != expected["bytes"]:
            return f"{name} has {path.stat().st_size} bytes instead of {expected['bytes']}"
        if sha256_of(path) != expected["sha256"]:
            return f"{name} has changed since it was written"
    return None


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
