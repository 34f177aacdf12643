"""The stage store: every result that cost compute, under a key made of all that it depends on.

A result is a folder ``<store>/<stage>/<key>/``, which appears only when the result is complete: the work is done in
``<key>.partial/``, the manifest is written last, and then the folder is renamed. Two processes that want the same
key do the work once; the second waits for the first.

Where the store is a bucket, the folder holds this machine's copies: each machine uploads what it makes and downloads
what it wants. Two machines that build the same key at the same time both do the work, and either result stands.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from latentsweep.storage.bounds import Form, admit, fits, link_in, refuse_links, remove_below, remove_links
from latentsweep.storage.bucket import NOWHERE, OF_THE_DISK, Place, place_at
from latentsweep.storage.costs import COST, PROGRESS, numbers_of, read_numbers, stopwatch
from latentsweep.storage.entries import MANIFEST, Entry, StageKey, damage_of, manifest_of
from latentsweep.storage.home import Home, is_bucket, write_json
from latentsweep.storage.mirror import DAMAGED, PARTIAL, Mirror
from latentsweep.storage.refusals import DENIED, reason, remedy
from trainables.config import fingerprint
from trainables.errors import StoreError, store_error, system_number
from trainables.loop.files import CHECKPOINT, previous
from trainables.loop.watchdog import waiting

CHECKPOINTS = (CHECKPOINT, previous(Path(CHECKPOINT)).name)
FULL = 2**20
"""A disk with fewer bytes left is full."""

log = logging.getLogger(__name__)


class Store:
    """Results by key, below one folder. The mirror is what it shares with machines that don't see this folder."""

    def __init__(self, root: Path, place: Place = NOWHERE) -> None:
        self.root, self.mirror = root, Mirror(place)
        self._verified: set[str] = set()

    @classmethod
    def of(cls, home: Home) -> Store:
        """The store of a home, as its driver opens it."""
        return cls(home.store, place_at(home.location))

    @classmethod
    def at(cls, address: str) -> Store:
        """The store at ``Home.store_address``, as a worker opens it on any machine."""
        return cls(cache_folder(address) if is_bucket(address) else Path(address), place_at(address))

    @property
    def address(self) -> str:
        """Where the store is, as its user named it."""
        return self.mirror.place.address or str(self.root)

    def folder(self, name: str) -> Path:
        """The folder of a result, there or not; raises :class:`StoreError` for a name of another form."""
        return self.root / admit(Form.RESULT, name)

    def workspace(self, name: str) -> Path:
        """The folder of an unfinished result, with its checkpoint, whether it is there or not."""
        return self.root / (admit(Form.RESULT, name) + PARTIAL)

    def find(self, key: StageKey | str) -> Entry | None:
        """The complete result, checked against its manifest the first time; None where there is none.

        A damaged result counts as absent, with a line in the log; :meth:`obtain` builds it again. Raises
        :class:`StoreError` where the store can't be read.
        """
        name = key if isinstance(key, str) else key.name
        entry = self._read(name)
        if entry and self.mirror.lacks(name):
            self.mirror.push(name, entry.folder, entry.manifest)
        return entry or self._fetch(name)

    def _read(self, name: str) -> Entry | None:
        """The result in this store's folder; None where it is absent or damaged."""
        folder = self.folder(name)
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            linked = link_in(self.root, folder / MANIFEST)
            damage = None if name in self._verified else damage_of(name, folder, manifest)
            damage = f"{linked} is a link" if linked else damage
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, RecursionError):
            manifest, damage = {}, f"{MANIFEST} is not JSON"
        except OSError as error:
            raise StoreError(f"the store at {self.root} must be readable ({error.strerror})") from error
        if damage:
            log.warning(DAMAGED, name, "the store", damage)
            return None
        return self._accept(name, manifest)

    def _fetch(self, name: str) -> Entry | None:
        """Downloads a result that only the mirror has; checks it before it gets its name. None if it is damaged."""
        manifest = self.mirror.manifest(name)
        if manifest is None:
            return None
        with self.writing(), self._alone(f"fetch-{name}"):
            entry = self._read(name)
            if entry:
                return entry
            draft = self.root / "fetching" / name.replace("/", "-")
            self._discard(draft)
            self._make(draft)
            self.mirror.pull(name, manifest, draft)
            damage = damage_of(name, draft, manifest)
            if damage:
                log.warning(DAMAGED, name, self.address, damage)
                self._discard(draft)
                return None
            write_json(draft / MANIFEST, manifest)
            self._discard(self.folder(name))
            self._make(self.folder(name).parent)
            os.replace(draft, self.folder(name))
            return self._accept(name, manifest)

    def _accept(self, name: str, manifest: Mapping[str, Any]) -> Entry:
        self._verified.add(name)
        return Entry(name, self.folder(name), manifest)

    def obtain(self, key: StageKey, build: Callable[[Path], Mapping[str, Any]]) -> Entry:
        """The result of ``key``, built by ``build(workspace)`` where it isn't there yet.

        ``build`` writes files into the workspace, where it may find what an interrupted build left, and
        returns the summary. Raises :class:`StoreError` where the store can't be written, and what ``build`` raises.
        """
        found = self.find(key)
        if found:
            return found
        workspace = self.workspace(key.name)
        with self.writing(workspace), self._alone(key.name):
            found = self.find(key)
            if found:
                return found
            self._discard(self.folder(key.name))
            remove_links(workspace)
            self.fetch_checkpoint(key)
            (workspace / MANIFEST).unlink(missing_ok=True)
            with stopwatch(workspace) as cost:
                summary = build(workspace)
            entry = self._commit(key, workspace, summary, cost)
            self.mirror.push(key.name, entry.folder, entry.manifest)
            return entry

    def fetch_checkpoint(self, key: StageKey) -> None:
        """Makes the workspace. With a bucket, its checkpoint is the bucket's: all machines go on from the same.

        What a killed worker wrote and did not upload is lost then; no other process knew of it.
        """
        self.mirror.pull_checkpoint(key.name, self._make(self.workspace(key.name)) / CHECKPOINT)

    def keep_checkpoint(self, key: StageKey) -> None:
        """Uploads the checkpoint that a build has just written, before any other process knows of it."""
        path = self.workspace(key.name) / CHECKPOINT
        if path.exists():
            self.mirror.push_checkpoint(key.name, path)

    def log_of(self, key: StageKey) -> Path:
        """The log file of the work on ``key``."""
        return self.root / "logs" / (key.name.replace("/", "-") + ".log")

    def _commit(self, key: StageKey, workspace: Path, summary: Mapping[str, Any], cost: Mapping[str, float]) -> Entry:
        refuse_links(self.root, workspace)
        remove_links(workspace)
        for leftover in (*workspace.glob(".*"), *workspace.glob("*.tmp")):
            leftover.unlink(missing_ok=True)
        manifest = manifest_of(key, workspace, summary, cost, left_out=CHECKPOINTS)
        write_json(workspace / MANIFEST, manifest)
        os.replace(workspace, self.folder(key.name))
        for checkpoint in CHECKPOINTS:
            (self.folder(key.name) / checkpoint).unlink(missing_ok=True)
        return self._accept(key.name, manifest)

    def _lock(self, name: str) -> FileLock:
        folder = self._make(self.root / "locks")
        return FileLock(folder / (name.replace("/", "-") + ".lock"))

    def _discard(self, folder: Path) -> None:
        """Deletes what lies at ``folder``, which is in the store; a link alone, not what it leads to."""
        remove_below(self.root, folder.relative_to(self.root).as_posix())

    @contextlib.contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Holds the lock of a result. The wait for another process that has it may be as long as its work."""
        lock = self._lock(name)
        with waiting():
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _make(self, folder: Path) -> Path:
        with self.writing():
            refuse_links(self.root, folder)
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextlib.contextmanager
    def writing(self, workspace: Path | None = None) -> Iterator[None]:
        """Raises a ``DiskError`` of one line for a full or read-only disk, a ``StoreError`` for one that vanished."""
        try:
            yield
        except (OSError, SafetensorError) as error:
            number, path = self._fault(error, workspace), getattr(error, "filename", None)
            if number is None:
                raise
            vanished = number == errno.ENOENT
            said = "its folder has vanished" if vanished else reason(number, Path(path) if path else workspace)
            raise store_error(
                f"the store at {self.root} must be writable ({said}); nothing is lost: {remedy(number)}, or choose "
                "another with --store or --home, and run the same command again",
                number,
            ) from error

    def _fault(self, error: Exception, workspace: Path | None) -> int | None:
        """The system's number of what is wrong with the store's disk; None where the error is about something else.

        Some libraries raise errors without a number: their text, the free space and the workspace tell then.
        """
        name = getattr(error, "filename", None)
        if name and not str(name).startswith(str(self.root)):
            return None
        number = system_number(error)
        if number in OF_THE_DISK | DENIED | {errno.ENOTDIR, errno.EEXIST}:
            return number
        with contextlib.suppress(OSError):
            if shutil.disk_usage(self.root).free < FULL:
                return errno.ENOSPC
        return errno.ENOENT if workspace and not workspace.exists() else None

    def entries(self) -> list[Entry]:
        """All complete results, by name. Downloads none of those that only the bucket has."""
        names = (path.parent.relative_to(self.root).as_posix() for path in self.root.glob(f"*/*/{MANIFEST}"))
        local = (self._read(name) for name in names if fits(Form.RESULT, name))
        shared = (Entry(name, self.folder(name), manifest) for name, manifest in self.mirror.manifests().items())
        found = {entry.name: entry for entry in (*shared, *local) if entry}
        return [found[name] for name in sorted(found)]

    def begun(self) -> dict[str, int]:
        """The bytes of each result that was begun and not finished, by its name."""
        found = self.mirror.begun()
        for path in self.root.glob(f"*/*{PARTIAL}"):
            name = path.relative_to(self.root).as_posix().removesuffix(PARTIAL)
            if fits(Form.RESULT, name) and not link_in(self.root, path):
                found[name] = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return found

    def note_progress(self, key: StageKey, record: Mapping[str, float]) -> None:
        """Leaves what a build in progress says of itself where :meth:`progress` finds it."""
        workspace = self.workspace(key.name)
        if workspace.exists():
            write_json(workspace / PROGRESS, record)
            self.mirror.push_progress(key.name, record)

    def progress(self, name: str) -> Mapping[str, Any]:
        """What a build in progress last said of itself; empty where it said nothing."""
        there = self.mirror.progress(name)
        return read_numbers(self.workspace(name) / PROGRESS) if there is None else numbers_of(there)

    def spent(self, name: str) -> float | None:
        """Seconds of work on a result that was begun and not finished; None where nothing is left of it."""
        return read_numbers(self.workspace(name) / COST).get("seconds")

    def discard_begun(self, name: str) -> bool:
        """Deletes what an unfinished result has; False where another process on this machine is at work on it."""
        try:
            with self._lock(name).acquire(timeout=0):
                self.mirror.discard_begun(name)
                self._discard(self.workspace(name))
        except Timeout:
            return False
        return True

    def remove(self, name: str) -> bool:
        """Deletes a result, finished or not; False where another process on this machine is at work on it."""
        try:
            with self._lock(name).acquire(timeout=0):
                self._verified.discard(name)
                self.mirror.remove(name)
                for folder in (self.folder(name), self.workspace(name)):
                    self._discard(folder)
        except Timeout:
            return False
        return True


def cache_folder(address: str) -> Path:
    """Where a worker keeps its copies of a bucket: in ``LATENTSWEEP_CACHE``, or in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("LATENTSWEEP_CACHE") or Path(home) / "latentsweep") / fingerprint(address)
