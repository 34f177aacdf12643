"""The stage store: every result that cost compute, under a key made of all that it depends on.

A result is a folder ``<store>/<stage>/<key>/``. It is complete when it is there: the work is done in
``<key>.partial/``, the manifest is written last, and then the folder gets its name. Two processes that want
the same key do the work once; the second waits for the first.

With a :class:`~latentsweep.storage.mirror.Bucket` behind it, the folder holds copies: results and checkpoints are
uploaded as they are made and fetched where they are wanted, by any machine. Two machines that build the same key at
the same time both do the work, and either result stands.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from latentsweep.storage.entries import MANIFEST, Entry, StageKey, damage_of, manifest_of
from latentsweep.storage.home import Home, write_json
from latentsweep.storage.mirror import OF_THE_DISK, PARTIAL, Bucket
from trainables.config import fingerprint
from trainables.errors import StoreError
from trainables.loop.checkpoint import previous
from trainables.loop.training import CHECKPOINT

COST = ".cost.json"
PROGRESS = ".progress.json"
CHECKPOINTS = (CHECKPOINT, previous(Path(CHECKPOINT)).name)
CACHE = "LATENTSWEEP_CACHE"
"""The variable that names the folder of a worker's copies of a bucket."""

FULL = 2**20
"""A disk with fewer bytes left is full."""

LOOKS_EVERY = 2.0
"""Seconds between looks at the progress that another machine left in the bucket."""

log = logging.getLogger(__name__)


class Store:
    """Results by key, below one folder; with a bucket, that folder holds this machine's copies."""

    def __init__(self, root: Path, bucket: Bucket | None = None) -> None:
        self.root, self.bucket = root, bucket
        self._verified: set[str] = set()
        self._shared: set[str] = set()
        self._heard: dict[str, tuple[float, Mapping[str, Any]]] = {}

    @classmethod
    def of(cls, home: Home) -> Store:
        """The store of a home, as its driver opens it."""
        return cls(home.store, Bucket(home.location) if home.in_bucket else None)

    @classmethod
    def at(cls, address: str) -> Store:
        """The store at a folder or a bucket's address, as a worker opens it, wherever it runs."""
        return cls(cache_folder(address), Bucket(address)) if "://" in address else cls(Path(address))

    @property
    def address(self) -> str:
        """Where it is, as its user named it."""
        return self.bucket.address if self.bucket else str(self.root)

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
        entry = self._local(name)
        if self.bucket is None or (name in self._shared and entry):
            return entry
        there = self.bucket.manifest(name)
        if entry and there is None:
            self.bucket.push(name, entry.folder, entry.manifest)
        elif entry is None and there is not None:
            with self.writing(), self._lock(f"fetch-{name}"):
                entry = self._local(name) or self._fetched(self.bucket, name, there)
        if entry:
            self._shared.add(name)
        return entry

    def _local(self, name: str) -> Entry | None:
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

    def _fetched(self, bucket: Bucket, name: str, manifest: Mapping[str, Any]) -> Entry | None:
        """A result that only the bucket has; checked before it gets its name, so that no part of one ever has it."""
        draft = self.root / "fetching" / name.replace("/", "-")
        shutil.rmtree(draft, ignore_errors=True)
        self._make(draft)
        bucket.pull(name, manifest, draft)
        damage = damage_of(draft, manifest)
        if damage:
            log.warning(
                "%s in %s is damaged (%s); it counts as absent and is built again", name, bucket.address, damage
            )
            shutil.rmtree(draft, ignore_errors=True)
            return None
        write_json(draft / MANIFEST, manifest)
        shutil.rmtree(self.folder(name), ignore_errors=True)
        self._make(self.folder(name).parent)
        os.replace(draft, self.folder(name))
        self._verified.add(name)
        return Entry(name, self.folder(name), manifest)

    def obtain(self, key: StageKey, build: Callable[[Path], Mapping[str, Any]]) -> Entry:
        """The result of ``key``, built by ``build(workspace)`` where it isn't there yet.

        ``build`` writes files into the workspace, where it may find what an interrupted build left, and
        returns the summary. Raises :class:`StoreError` where the store can't be written.
        """
        found = self.find(key)
        if found:
            return found
        workspace = self.workspace(key.name)
        with self.writing(workspace), self._lock(key.name):
            found = self.find(key)
            if found:
                return found
            shutil.rmtree(self.folder(key.name), ignore_errors=True)
            self.fetch_checkpoint(key)
            (workspace / MANIFEST).unlink(missing_ok=True)
            with stopwatch(workspace) as cost:
                summary = build(workspace)
            entry = self._commit(key, workspace, summary, cost)
            if self.bucket:
                self.bucket.push(key.name, entry.folder, entry.manifest)
                self._shared.add(key.name)
            return entry

    def fetch_checkpoint(self, key: StageKey) -> None:
        """Makes the workspace, and its checkpoint the one that the bucket holds: all machines go on from the same.

        What a killed worker had written and not uploaded is lost with that; nobody had heard of it.
        """
        path = self._make(self.workspace(key.name)) / CHECKPOINT
        if self.bucket:
            damage = self.bucket.pull_checkpoint(key.name, path)
            previous(path).unlink(missing_ok=True)
            if damage:
                log.warning(
                    "the last checkpoint of %s cannot be used (%s); it goes on from an earlier one", key.name, damage
                )

    def keep_checkpoint(self, key: StageKey) -> None:
        """Uploads the checkpoint that a build has just written, before anybody hears of it."""
        path = self.workspace(key.name) / CHECKPOINT
        if self.bucket and path.exists():
            self.bucket.push_checkpoint(key.name, path)

    def log_of(self, key: StageKey) -> Path:
        """Where the work on ``key`` notes what it does, while it does it and when it failed."""
        return self.root / "logs" / (key.name.replace("/", "-") + ".log")

    def _commit(self, key: StageKey, workspace: Path, summary: Mapping[str, Any], cost: Mapping[str, float]) -> Entry:
        for leftover in (*workspace.glob(".*"), *workspace.glob("*.tmp")):
            leftover.unlink(missing_ok=True)
        manifest = manifest_of(key, workspace, summary, cost, left_out=CHECKPOINTS)
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
        with self.writing():
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextlib.contextmanager
    def writing(self, workspace: Path | None = None) -> Iterator[None]:
        """A full, read-only or vanished disk as a :class:`StoreError` of one line; other errors as they are."""
        try:
            yield
        except (OSError, SafetensorError) as error:
            reason = self._fault(error, workspace)
            if reason is None:
                raise
            raise StoreError(
                f"the store at {self.root} must be writable ({reason}); nothing is lost: make room, or choose "
                "another with --store or --home, and run the same command again"
            ) from error

    def _fault(self, error: Exception, workspace: Path | None) -> str | None:
        """What the disk says, where it is the store's; some libraries raise errors without a number."""
        name = getattr(error, "filename", None)
        if name and not str(name).startswith(str(self.root)):
            return None
        said = re.search(r"\(os error (\d+)\)", str(error))
        number = error.errno if isinstance(error, OSError) else int(said.group(1)) if said else None
        if number in OF_THE_DISK | {errno.ENOTDIR, errno.EEXIST}:
            return os.strerror(number)
        with contextlib.suppress(OSError):
            if shutil.disk_usage(self.root).free < FULL:
                return os.strerror(errno.ENOSPC)
        return "its folder has vanished" if workspace and not workspace.exists() else None

    def entries(self) -> list[Entry]:
        """All complete results, by name; those that only the bucket has are not fetched for it."""
        folders = (path.parent for path in self.root.glob(f"*/*/{MANIFEST}") if path.parent.suffix != PARTIAL)
        local = (self._local(f"{folder.parent.name}/{folder.name}") for folder in folders)
        found = {entry.name: entry for entry in local if entry}
        for manifest in self.bucket.manifests() if self.bucket else []:
            name = str(manifest["name"])
            found.setdefault(name, Entry(name, self.folder(name), manifest))
        return [found[name] for name in sorted(found)]

    def unfinished(self) -> list[str]:
        """Names of results that were begun and not finished."""
        return sorted(self.begun())

    def begun(self) -> dict[str, int]:
        """The bytes of each result that was begun and not finished, by its name."""
        found = self.bucket.unfinished() if self.bucket else {}
        for path in self.root.glob(f"*/*{PARTIAL}"):
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            found[f"{path.parent.name}/{path.name.removesuffix(PARTIAL)}"] = size
        return found

    def note_progress(self, key: StageKey, record: Mapping[str, float]) -> None:
        """Leaves what a build in progress says of itself where :meth:`progress` finds it."""
        workspace = self.workspace(key.name)
        if workspace.exists():
            write_json(workspace / PROGRESS, record)
            if self.bucket:
                self.bucket.push_progress(key.name, record)

    def progress(self, name: str) -> Mapping[str, Any]:
        """What a build in progress last said of itself; empty where it said nothing."""
        value: Mapping[str, Any]
        if self.bucket:
            looked, value = self._heard.get(name, (-LOOKS_EVERY, {}))
            if time.monotonic() - looked >= LOOKS_EVERY:
                value = self.bucket.progress(name)
                self._heard[name] = time.monotonic(), value
            return value
        value = _small(self.workspace(name) / PROGRESS)
        return value

    def spent(self, name: str) -> float | None:
        """Seconds that went into a result that was begun and not finished; None where nothing is left of it."""
        return _small(self.workspace(name) / COST).get("seconds")

    def remove(self, name: str) -> bool:
        """Frees a result, finished or not; False where somebody on this machine is at work on it."""
        try:
            with self._lock(name).acquire(timeout=0):
                self._verified.discard(name)
                self._shared.discard(name)
                if self.bucket:
                    self.bucket.remove(name)
                for folder in (self.folder(name), self.workspace(name)):
                    shutil.rmtree(folder, ignore_errors=True)
        except Timeout:
            return False
        return True


def cache_folder(address: str) -> Path:
    """Where this machine keeps its copies of a bucket: ``LATENTSWEEP_CACHE``, or the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(CACHE) or Path(home) / "latentsweep") / fingerprint(address)


@contextlib.contextmanager
def stopwatch(workspace: Path) -> Iterator[dict[str, float]]:
    """Wall and CPU seconds of the body, added to what earlier attempts in this workspace took."""
    path = workspace / COST
    before = {"seconds": 0.0, "cpu_seconds": 0.0} | _small(path)
    wall, cpu = time.monotonic(), _cpu_seconds()
    cost = dict(before)
    try:
        yield cost
    finally:
        cost["seconds"] = round(before["seconds"] + time.monotonic() - wall, 3)
        cost["cpu_seconds"] = round(before["cpu_seconds"] + _cpu_seconds() - cpu, 3)
        if workspace.exists():
            write_json(path, cost)


def _small(path: Path) -> dict[str, float]:
    """The numbers of a JSON file beside a build in progress; none where it is missing or damaged."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    numbers = isinstance(found, dict) and all(isinstance(value, (int, float)) for value in found.values())
    return found if numbers else {}


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
