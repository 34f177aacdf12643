"""The mirror of a store: a place through which machines without a common folder share results and checkpoints.

``<stage>/<key>/manifest.json`` is written last and says that the result is complete; the files that it names are in
``<stage>/<key>/<version>/``. The version is a hash of their hashes, so that the files of two writers of one key never
mix. ``<stage>/<key>.partial/checkpoint.json`` names the checkpoint from which an unfinished training goes on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latentsweep.storage.bounds import Form, fits
from latentsweep.storage.bucket import Place
from latentsweep.storage.entries import MANIFEST, fault_of
from latentsweep.storage.home import read_each, sha256_of
from trainables.config import fingerprint
from trainables.loop.files import previous

PARTIAL = ".partial"
POINTER = "checkpoint.json"
PROGRESS = "progress.json"
AT_ONCE = 8
LOOKS_EVERY = 2.0
"""Seconds between looks at the progress that another machine left in the bucket."""

DAMAGED = "%s in %s is damaged (%s); it counts as absent and is built again"

log = logging.getLogger(__name__)


class Mirror:
    """What a store shares through a place: complete results, and checkpoints and progress of unfinished ones."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._held: set[str] = set()
        self._heard: dict[str, tuple[float, Mapping[str, Any] | None]] = {}

    def lacks(self, name: str) -> bool:
        """Whether a complete result must be uploaded. Asks the place no more after the first no."""
        if name not in self._held:
            found = self.place.read(f"{name}/{MANIFEST}")
            if found is None or not fault_of(found, name):
                self._held.add(name)
        return name not in self._held

    def manifest(self, name: str) -> Mapping[str, Any] | None:
        """The manifest of a complete result; None where there is none, or one that is damaged."""
        found = self.place.read(f"{name}/{MANIFEST}")
        fault = fault_of(found, name) if found else None
        if fault:
            log.warning(DAMAGED, name, self.place.address, fault)
        return None if fault else found or None

    def manifests(self) -> dict[str, Mapping[str, Any]]:
        """The manifests of all complete results, by the results' names."""
        names = [path.removesuffix(f"/{MANIFEST}") for path in self.place.sizes() if path.endswith(f"/{MANIFEST}")]
        names = [name for name in names if fits(Form.RESULT, name)]
        found = read_each(self.manifest, names, AT_ONCE)
        return {name: manifest for name, manifest in zip(names, found, strict=True) if manifest}

    def begun(self) -> dict[str, int]:
        """The bytes of each result that was begun and not finished, by its name."""
        sizes: dict[str, int] = {}
        for path, size in self.place.sizes().items():
            name, partial, _ = path.partition(PARTIAL + "/")
            if partial and fits(Form.RESULT, name):
                sizes[name] = sizes.get(name, 0) + size
        return sizes

    def push(self, name: str, folder: Path, manifest: Mapping[str, Any]) -> None:
        """Uploads a complete result: its files, then its manifest. Removes its checkpoints and its progress."""
        version = f"{name}/{_version(manifest)}"

        def upload(file: str) -> None:
            self.place.upload(folder / file, f"{version}/{file}")

        read_each(upload, list(manifest["files"]), AT_ONCE)
        self.place.write(f"{name}/{MANIFEST}", manifest)
        self.place.remove(name + PARTIAL)
        self._held.add(name)

    def pull(self, name: str, manifest: Mapping[str, Any], folder: Path) -> None:
        """Downloads the files of a complete result into ``folder``. Leaves out a file that is gone."""
        version = f"{name}/{_version(manifest)}"

        def download(file: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                self.place.download(f"{version}/{file}", folder / file)

        read_each(download, list(manifest["files"]), AT_ONCE)

    def push_checkpoint(self, name: str, path: Path) -> None:
        """Uploads the checkpoint at ``path``. Keeps the one before it, in case this one is damaged."""
        partial, file = name + PARTIAL, f"{uuid.uuid4().hex}{path.suffix}"
        pointer = self.place.read(f"{partial}/{POINTER}")
        if pointer is None:
            return
        kept = _kept(pointer)
        self.place.upload(path, f"{partial}/{file}")
        self.place.write(f"{partial}/{POINTER}", {"kept": [{"file": file, "sha256": sha256_of(path)}, *kept[:1]]})
        for older in kept[1:]:
            self.place.remove(f"{partial}/{older['file']}")

    def pull_checkpoint(self, name: str, path: Path) -> None:
        """Makes ``path`` the last whole checkpoint of the place, or removes it where the place has none.

        Without a place, the checkpoint stays as it is.
        """
        partial, draft, damage = name + PARTIAL, path.with_name(f".{path.name}.fetched"), None
        pointer = self.place.read(f"{partial}/{POINTER}")
        if pointer is None:
            return
        for kept in _kept(pointer):
            if path.exists() and sha256_of(path) == kept["sha256"]:
                break
            try:
                self.place.download(f"{partial}/{kept['file']}", draft)
            except FileNotFoundError:
                damage = "it is gone"
                continue
            if sha256_of(draft) == kept["sha256"]:
                os.replace(draft, path)
                break
            damage = "it has changed since it was written"
        else:
            path.unlink(missing_ok=True)
        draft.unlink(missing_ok=True)
        previous(path).unlink(missing_ok=True)
        if damage:
            log.warning("the last checkpoint of %s cannot be used (%s); it goes on from an earlier one", name, damage)

    def push_progress(self, name: str, record: Mapping[str, float]) -> None:
        """Uploads what a build in progress says of itself."""
        self.place.write(f"{name}{PARTIAL}/{PROGRESS}", record)

    def progress(self, name: str) -> Mapping[str, Any] | None:
        """What :meth:`push_progress` uploaded last, empty where nothing; None where there is no place."""
        looked, value = self._heard.get(name, (-LOOKS_EVERY, {}))
        if time.monotonic() - looked >= LOOKS_EVERY:
            value = self.place.read(f"{name}{PARTIAL}/{PROGRESS}")
            self._heard[name] = time.monotonic(), value
        return value

    def discard_begun(self, name: str) -> None:
        """Deletes what an unfinished result has so far."""
        self.place.remove(name + PARTIAL)

    def remove(self, name: str) -> None:
        """Deletes a result, finished or not; its manifest first."""
        self._held.discard(name)
        for target in (f"{name}/{MANIFEST}", name, name + PARTIAL):
            self.place.remove(target)


def _version(manifest: Mapping[str, Any]) -> str:
    return fingerprint({name: file["sha256"] for name, file in manifest["files"].items()})


def _kept(pointer: Mapping[str, Any]) -> list[dict[str, str]]:
    """The checkpoints that a pointer names, the last one first; without what has another form."""
    kept = pointer.get("kept")
    return [
        each
        for each in (kept if isinstance(kept, list) else [])
        if isinstance(each, dict) and fits(Form.CHECKPOINT, each.get("file")) and isinstance(each.get("sha256"), str)
    ]
