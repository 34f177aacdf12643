"""Places outside this machine for a store's files: a bucket on S3 or any other file system that pyarrow knows.

The endpoint and the credentials come from the standard AWS variables, never from the address.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from latentsweep.storage.bounds import link_in, refuse_links, remove_below
from latentsweep.storage.home import is_bucket
from trainables.errors import ConfigError, StoreError
from trainables.loop.watchdog import beat

WHOLE = ("s3", "gcs", "abfs")
"""File systems where an object appears only when all of it is written."""

OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EACCES}
"""Errors of a disk: the one with the store's folder, or that of a bucket that is a folder. The store words them."""

CHUNK = 8 * 2**20
MOST = 64 * 2**20
"""Bytes of a JSON file that are read. A longer one is damaged."""
CONNECT_SECONDS, REQUEST_SECONDS, ATTEMPTS = 5, 60, 6


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


def _copy(source: IO[bytes], sink: IO[bytes]) -> None:
    """Copies a file of any length; over a slow line that takes longer than a process may be silent."""
    while chunk := source.read(CHUNK):
        sink.write(chunk)
        beat()


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
