"""A bucket: complete results and checkpoints as whole objects, on S3 or any other file system that pyarrow knows.

``<stage>/<key>/manifest.json`` is written last and says what is complete; the files that it names lie in
``<stage>/<key>/<version>/``, the version being a hash of their hashes, so that two writers of one key never mix.
``<stage>/<key>.partial/checkpoint.json`` points to the checkpoint that an unfinished training goes on from.
Where it is and who may use it comes from the standard AWS variables, never from the address.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from latentsweep.storage.entries import MANIFEST
from latentsweep.storage.home import sha256_of
from trainables.config import fingerprint
from trainables.errors import ConfigError, StoreError

PARTIAL = ".partial"
POINTER = "checkpoint.json"
PROGRESS = "progress.json"
WHOLE = ("s3", "gcs", "abfs")
"""File systems whose objects appear when they are whole."""

OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EACCES}
"""Faults of the folder beside the bucket, or of a bucket that is a folder: the store words them."""

AT_ONCE = 8
CHUNK = 8 * 2**20
CONNECT_SECONDS, REQUEST_SECONDS, ATTEMPTS = 5, 60, 6


class Bucket:
    """Results and checkpoints below one address, such as ``s3://bucket/prefix``. It pickles as its address.

    Every method raises :class:`StoreError` where the bucket doesn't answer or refuses.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._system, root = _opened(address)
        self._root = root.rstrip("/")

    def __reduce__(self) -> tuple[object, ...]:
        return Bucket, (self.address,)

    def manifest(self, name: str) -> Mapping[str, Any] | None:
        """The manifest of a complete result; None where there is none, or one that is damaged."""
        found = self._json(f"{name}/{MANIFEST}")
        return found if found and found.get("name") == name and _stays_inside(found) else None

    def manifests(self) -> list[Mapping[str, Any]]:
        """The manifests of all complete results."""
        names = [path.removesuffix(f"/{MANIFEST}") for path in self._paths() if path.endswith(f"/{MANIFEST}")]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return [found for found in pool.map(self.manifest, names) if found]

    def unfinished(self) -> dict[str, int]:
        """Names of results that were begun and not finished, and their bytes."""
        sizes: dict[str, int] = {}
        for path, size in self._paths().items():
            stage, _, rest = path.partition("/")
            key, partial, _ = rest.partition(PARTIAL + "/")
            if partial:
                sizes[f"{stage}/{key}"] = sizes.get(f"{stage}/{key}", 0) + size
        return sizes

    def push(self, name: str, folder: Path, manifest: Mapping[str, Any]) -> None:
        """Uploads a complete result: its files, then its manifest; what was kept of its beginnings goes."""
        place = f"{name}/{_version(manifest)}"
        with self._answering("written"), ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda file: self._upload(folder / file, f"{place}/{file}"), manifest["files"]))
            self._put(f"{name}/{MANIFEST}", manifest)
        self._delete(name + PARTIAL)

    def pull(self, name: str, manifest: Mapping[str, Any], folder: Path) -> None:
        """Downloads the files of a complete result into ``folder``; a file that is gone is left out."""
        place = f"{name}/{_version(manifest)}"

        def download(file: str) -> None:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                self._download(f"{place}/{file}", folder / file)

        with self._answering("read"), ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(download, manifest["files"]))

    def push_checkpoint(self, name: str, path: Path) -> None:
        """Keeps the checkpoint at ``path`` for whoever goes on, and the one before, in case this one is damaged."""
        place, file = name + PARTIAL, f"{uuid.uuid4().hex}{path.suffix}"
        kept = self._kept(place)
        with self._answering("written"):
            self._upload(path, f"{place}/{file}")
            self._put(f"{place}/{POINTER}", {"kept": [{"file": file, "sha256": sha256_of(path)}, *kept[:1]]})
            for older in kept[1:]:
                self._remove(f"{place}/{older['file']}")

    def pull_checkpoint(self, name: str, path: Path) -> str | None:
        """Makes ``path`` the checkpoint that the bucket holds, or removes it where it holds none.

        Returns what is wrong with the last one, if anything; the one before it is taken then.
        """
        place, damage = name + PARTIAL, None
        draft = path.with_name(f".{path.name}.fetched")
        for kept in self._kept(place):
            if path.exists() and sha256_of(path) == kept["sha256"]:
                return damage
            try:
                with self._answering("read"):
                    self._download(f"{place}/{kept['file']}", draft)
                if sha256_of(draft) == kept["sha256"]:
                    os.replace(draft, path)
                    return damage
                damage = "it has changed since it was written"
            except FileNotFoundError:
                damage = "it is gone"
        for useless in (draft, path):
            useless.unlink(missing_ok=True)
        return damage

    def _kept(self, place: str) -> list[dict[str, str]]:
        """File and SHA-256 of the checkpoints that the pointer names, the last one first."""
        found = self._json(f"{place}/{POINTER}") or {}
        kept: list[dict[str, str]] = found.get("kept", [])
        return kept

    def push_progress(self, name: str, record: Mapping[str, float]) -> None:
        """Leaves what a training last said of itself."""
        with self._answering("written"):
            self._put(f"{name}{PARTIAL}/{PROGRESS}", record)

    def progress(self, name: str) -> Mapping[str, float]:
        """What :meth:`push_progress` left; empty where it left nothing."""
        return self._json(f"{name}{PARTIAL}/{PROGRESS}") or {}

    def remove(self, name: str) -> None:
        """Frees a result, finished or not; the manifest goes first."""
        with self._answering("written"):
            self._remove(f"{name}/{MANIFEST}")
        self._delete(name)
        self._delete(name + PARTIAL)

    def _paths(self) -> dict[str, int]:
        """Every object below the address, and its bytes."""
        with self._answering("read"):
            selector = pafs.FileSelector(self._root, recursive=True, allow_not_found=True)
            found = self._system.get_file_info(selector)
        start = len(self._root) + 1
        return {info.path[start:]: info.size or 0 for info in found if info.type == pafs.FileType.File}

    def _json(self, target: str) -> dict[str, Any] | None:
        try:
            with self._answering("read"), self._system.open_input_stream(self._path(target)) as stream:
                found = json.loads(stream.read())
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _put(self, target: str, value: Any) -> None:
        """Small JSON: readers see the old or the new, never a part."""
        whole = self._system.type_name in WHOLE
        draft = target if whole else f"{target}.{uuid.uuid4().hex}.tmp"
        with self._sink(draft) as stream:
            stream.write(json.dumps(value, indent=1).encode())
        if not whole:
            self._system.move(self._path(draft), self._path(target))

    def _upload(self, path: Path, target: str) -> None:
        with path.open("rb") as source, self._sink(target) as sink:
            shutil.copyfileobj(source, sink, CHUNK)

    def _download(self, target: str, path: Path) -> None:
        with self._system.open_input_stream(self._path(target)) as source, path.open("wb") as sink:
            shutil.copyfileobj(source, sink, CHUNK)

    def _sink(self, target: str) -> IO[bytes]:
        path = self._path(target)
        if self._system.type_name not in WHOLE:
            self._system.create_dir(str(PurePosixPath(path).parent), recursive=True)
        stream: IO[bytes] = self._system.open_output_stream(path)
        return stream

    def _remove(self, target: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._system.delete_file(self._path(target))

    def _delete(self, target: str) -> None:
        with self._answering("written"), contextlib.suppress(FileNotFoundError):
            self._system.delete_dir(self._path(target))

    def _path(self, target: str) -> str:
        return f"{self._root}/{target}"

    @contextlib.contextmanager
    def _answering(self, done: str) -> Iterator[None]:
        """One line in place of pyarrow's paragraphs, which also keeps what they may quote out of logs."""
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, OSError) and error.errno in OF_THE_DISK:
                raise
            reason = reason_of(error)
            raise StoreError(
                f"the store at {self.address} must be there and be {done} ({reason}); see AWS_ENDPOINT_URL, the "
                "AWS_* credentials and the bucket's name, and run the same command again"
            ) from None


def reason_of(error: Exception) -> str:
    """Why a file system refused, in a word or two."""
    if isinstance(error, OSError) and error.strerror and "AWS" not in error.strerror:
        return error.strerror
    code = re.search(r"AWS Error (\w+)|HTTP status (\d+)", str(error))
    return code.group().removeprefix("AWS Error ").lower().replace("_", " ") if code else type(error).__name__


def _version(manifest: Mapping[str, Any]) -> str:
    return fingerprint({name: file["sha256"] for name, file in manifest["files"].items()})


def _stays_inside(manifest: Mapping[str, Any]) -> bool:
    paths = [PurePosixPath(name) for name in manifest.get("files", {})]
    return not any(path.is_absolute() or ".." in path.parts for path in paths)


def _opened(address: str) -> tuple[pafs.FileSystem, str]:
    parts = urlsplit(address)
    if "@" in parts.netloc or parts.query:
        raise ConfigError(
            "the address of a store is scheme://bucket/prefix and nothing else; endpoint and credentials belong in "
            "AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if parts.scheme == "s3":
        if not parts.netloc:
            raise ConfigError(f"the address of a store names its bucket, as in s3://bucket/prefix; got {address}")
        return _s3(), parts.netloc + parts.path
    try:
        system, root = pafs.FileSystem.from_uri(address)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(
            f"--store takes a folder or an address that pyarrow knows, such as s3://bucket/prefix; got {address} "
            f"({type(error).__name__})"
        ) from None
    return system, root


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
