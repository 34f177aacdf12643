"""The mirror of a store: a bucket through which machines without a common folder share results and checkpoints.

A bucket is on S3 or any other file system that pyarrow knows. ``<stage>/<key>/manifest.json`` is written last and
says that the result is complete; the files that it names are in ``<stage>/<key>/<version>/``. The version is a hash
of their hashes, so that the files of two writers of one key never mix. ``<stage>/<key>.partial/checkpoint.json``
names the checkpoint from which an unfinished training goes on. The endpoint and the credentials come from the
standard AWS variables, never from the address.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from latentsweep.storage.bounds import Form, fits, link_in, refuse_links, remove_below
from latentsweep.storage.entries import MANIFEST, fault_of
from latentsweep.storage.home import is_bucket, read_each, sha256_of
from trainables.config import fingerprint
from trainables.errors import ConfigError, StoreError
from trainables.loop.checkpoint import previous
from trainables.loop.watchdog import beat

PARTIAL = ".partial"
POINTER = "checkpoint.json"
PROGRESS = "progress.json"
WHOLE = ("s3", "gcs", "abfs")
"""File systems where an object appears only when all of it is written."""

OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EACCES}
"""Errors of a disk: the one with the store's folder, or that of a bucket that is a folder. The store words them."""

AT_ONCE = 8
CHUNK = 8 * 2**20
MOST = 64 * 2**20
"""Bytes of a JSON file that are read. A longer one is damaged."""
CONNECT_SECONDS, REQUEST_SECONDS, ATTEMPTS = 5, 60, 6
LOOKS_EVERY = 2.0
"""Seconds between looks at the progress that another machine left in the bucket."""

DAMAGED = "%s in %s is damaged (%s); it counts as absent and is built again"

log = logging.getLogger(__name__)


class Place:
    """A place outside this machine for a store's files.

    This class stands for "no such place" and does nothing; :class:`Bucket` is a real one. There, every method raises
    :class:`StoreError` where the place doesn't answer or refuses.
    """

    address = ""

    def sizes(self) -> dict[str, int]:
        """The bytes of every file, by its path below the address."""
        return {}

    def read(self, target: str) -> dict[str, Any] | None:
        """The content of a small JSON file; empty where it is missing or damaged, None where there is no place."""
        return None

    def write(self, target: str, value: Mapping[str, Any]) -> None:
        """Writes a small JSON file. Readers see the old or the new, never a part."""

    def upload(self, path: Path, target: str) -> None:
        """Copies the file ``path`` to ``target``."""

    def download(self, target: str, path: Path) -> None:
        """Copies ``target`` to the file ``path``; raises :class:`FileNotFoundError` where it is missing."""

    def remove(self, target: str) -> None:
        """Deletes a file, or a folder with all below it, where it is there."""


NOWHERE = Place()


def place_at(address: str) -> Place:
    """The place behind a store's address: the bucket, or none for a folder, which all machines see themselves."""
    return Bucket(address) if is_bucket(address) else NOWHERE


class Bucket(Place):
    """Files below an address, such as ``s3://bucket/prefix``; raises :class:`ConfigError` for one of another form."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._files = _open(address)
        self._whole = self._files.base_fs.type_name in WHOLE
        self._folder = Path(self._files.base_path) if self._files.base_fs.type_name == "local" else None

    def __reduce__(self) -> tuple[object, ...]:
        # A pickle holds the address alone. Credentials don't travel: the reader's own environment has them.
        return Bucket, (self.address,)

    def sizes(self) -> dict[str, int]:
        with self._translate_errors("read"):
            found = self._files.get_file_info(pafs.FileSelector("", recursive=True, allow_not_found=True))
        sizes = {info.path: info.size or 0 for info in found if info.type == pafs.FileType.File}
        folder = self._folder
        return {path: sizes[path] for path in sizes if not link_in(folder, folder / path)} if folder else sizes

    def read(self, target: str) -> dict[str, Any]:
        try:
            with self._translate_errors("read", target), self._files.open_input_stream(target) as stream:
                found = json.loads(stream.read(MOST))
        except (FileNotFoundError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, target: str, value: Mapping[str, Any]) -> None:
        draft = target if self._whole else f"{target}.{uuid.uuid4().hex}.tmp"
        with self._translate_errors("written", target):
            with self._sink(draft) as stream:
                stream.write(json.dumps(value, indent=1).encode())
            if not self._whole:
                self._files.move(draft, target)

    def upload(self, path: Path, target: str) -> None:
        with self._translate_errors("written", target), path.open("rb") as source, self._sink(target) as sink:
            _copy(source, sink)

    def download(self, target: str, path: Path) -> None:
        with self._translate_errors("read", target), self._files.open_input_stream(target) as source:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as sink:
                _copy(source, sink)

    def remove(self, target: str) -> None:
        if self._folder:
            remove_below(self._folder, target)
            return
        with self._translate_errors("written"), contextlib.suppress(FileNotFoundError):
            is_folder = self._files.get_file_info(target).type == pafs.FileType.Directory
            delete = self._files.delete_dir if is_folder else self._files.delete_file
            delete(target)

    def _sink(self, target: str) -> IO[bytes]:
        if not self._whole:
            self._files.create_dir(str(PurePosixPath(target).parent), recursive=True)
        stream: IO[bytes] = self._files.open_output_stream(target)
        return stream

    @contextlib.contextmanager
    def _translate_errors(self, done: str, target: str = "") -> Iterator[None]:
        """Raises one line in place of pyarrow's paragraphs, which may quote what must not be in a log.

        Raises one too where ``target`` is in a folder and a link lies on the way to it.
        """
        if self._folder:
            refuse_links(self._folder, self._folder / target)
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, OSError) and (error.errno in OF_THE_DISK or isinstance(error, FileNotFoundError)):
                raise
            raise StoreError(
                f"the store at {self.address} must be there and be {done} ({_reason_of(error)}); see "
                "AWS_ENDPOINT_URL, the AWS_* credentials and the bucket's name, and run the same command again"
            ) from None


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


def _copy(source: IO[bytes], sink: IO[bytes]) -> None:
    """Copies a file of any length; over a slow line that takes longer than a process may be silent."""
    while chunk := source.read(CHUNK):
        sink.write(chunk)
        beat()


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


def _reason_of(error: Exception) -> str:
    """Why a file system refused, in a word or two."""
    if isinstance(error, OSError) and error.strerror and "AWS" not in error.strerror:
        return error.strerror
    code = re.search(r"AWS Error (\w+)|HTTP status (\d+)", str(error))
    return code.group().removeprefix("AWS Error ").lower().replace("_", " ") if code else type(error).__name__


def _open(address: str) -> pafs.SubTreeFileSystem:
    """The files below a bucket's address; raises :class:`ConfigError` for an address of another form."""
    parts = urlsplit(address)
    if "@" in parts.netloc or parts.query:
        raise ConfigError(
            "the address of a store is scheme://bucket/prefix and nothing else; endpoint and credentials belong in "
            "AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if parts.scheme == "s3":
        if not parts.netloc:
            raise ConfigError(f"the address of a store names its bucket, as in s3://bucket/prefix; got {address}")
        return pafs.SubTreeFileSystem(parts.netloc + parts.path, _s3())
    try:
        system, root = pafs.FileSystem.from_uri(address)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(
            f"--store takes a folder or an address that pyarrow knows, such as s3://bucket/prefix; got {address} "
            f"({type(error).__name__})"
        ) from None
    return pafs.SubTreeFileSystem(root, system)


def _s3() -> pafs.FileSystem:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return pafs.S3FileSystem(
        endpoint_override=endpoint,
        region=region or ("us-east-1" if endpoint else None),
        connect_timeout=CONNECT_SECONDS,
        request_timeout=REQUEST_SECONDS,
        allow_delayed_open=True,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    )
