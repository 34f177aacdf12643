"""What the store keeps: complete results, each with its key and with a manifest of its files."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latentsweep import __version__
from latentsweep.storage.bounds import Form, admit, fits, link_in
from latentsweep.storage.home import read_each, sha256_of, xxh3_of
from trainables.config import fingerprint

MANIFEST = "manifest.json"
FIELDS = {
    **dict.fromkeys(("name", "stage", "code", "created"), str),
    "version": int,
    **dict.fromkeys(("inputs", "cost", "summary", "files"), dict),
    "upstream": list,
}
"""The fields of a manifest, and their types. Beside them stands the digest, which older manifests lack."""
HEX = re.compile(r"(?:[0-9a-f]{32}){1,2}")


@dataclass(frozen=True)
class StageKey:
    """All that a result depends on: its stage, the stage's version, its inputs, and the keys that it is made from."""

    stage: str
    version: int
    inputs: Mapping[str, Any]
    upstream: tuple[StageKey, ...] = ()

    @property
    def content(self) -> dict[str, Any]:
        """All of it, with the upstream keys' names, as JSON has it."""
        return {
            "stage": self.stage,
            "version": self.version,
            "inputs": dict(self.inputs),
            "upstream": [key.name for key in self.upstream],
        }

    @property
    def digest(self) -> str:
        """The key: 16 hexadecimal digits."""
        return fingerprint(self.content)

    @property
    def name(self) -> str:
        """``stage/digest``: the result's folder in the store."""
        return f"{self.stage}/{self.digest}"

    def lineage(self) -> Iterator[StageKey]:
        """This key and all keys that it depends on, downstream first, each once."""
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
        """What the stage returned about its result: small JSON."""
        return dict(self.manifest["summary"])

    @property
    def seconds(self) -> float:
        """Wall time that it cost, with earlier attempts, but without those that were killed."""
        return float(self.manifest["cost"]["seconds"])

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(int(file["bytes"]) for file in self.manifest["files"].values())

    def file(self, name: str) -> Path:
        """The path of a file of the result; raises :class:`StoreError` for a name that leads out of it."""
        return self.folder / admit(Form.FILE, name)

    def json(self, name: str) -> Any:
        """The content of a JSON file of the result."""
        return json.loads((self.folder / name).read_text())


def manifest_of(
    key: StageKey, folder: Path, summary: Mapping[str, Any], cost: Mapping[str, float], left_out: Container[str]
) -> dict[str, Any]:
    """The manifest of a finished result, as JSON has it: the key, the summary, every file's size and checksums.

    The SHA-256 identifies the content. The XXH3 finds damage: it is fast enough to be computed before each use.
    """
    manifest = {
        "name": key.name,
        **key.content,
        "code": __version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cost": dict(cost),
        "summary": dict(summary),
        "files": {
            str(path.relative_to(folder)): {
                "bytes": path.stat().st_size,
                "sha256": sha256_of(path),
                "xxh3": xxh3_of(path),
            }
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in left_out
        },
    }
    manifest = json.loads(json.dumps(manifest))
    return {**manifest, "digest": digest_of(manifest)}


def fault_of(manifest: Any, name: str) -> str | None:
    """What is wrong with a manifest itself; None for one of the result ``name`` that is as it was written."""
    try:
        content = {field: value for field, value in manifest.items() if field != "digest"}
        sound = (
            content.keys() == FIELDS.keys()
            and all(isinstance(content[field], kind) for field, kind in FIELDS.items())
            and all(fits(Form.RESULT, upstream) for upstream in content["upstream"])
            and isinstance(content["cost"]["seconds"], (int, float))
            and all(fits(Form.FILE, file) and _is_file(said) for file, said in content["files"].items())
        )
    except (AttributeError, KeyError, TypeError):
        sound = False
    if not sound:
        return f"{MANIFEST} is no manifest"
    if manifest.get("digest", digest_of(manifest)) != digest_of(manifest):
        return f"{MANIFEST} has changed since it was written"
    return None if manifest["name"] == name else f"{MANIFEST} is that of another result"


def _is_file(said: Any) -> bool:
    """Whether it is what a manifest says of a file. Older manifests have no XXH3."""
    sums = [said["sha256"], *([said["xxh3"]] if "xxh3" in said else [])]
    return isinstance(said["bytes"], int) and all(isinstance(each, str) and HEX.fullmatch(each) for each in sums)


def damage_of(name: str, folder: Path, manifest: Any) -> str | None:
    """What is wrong with a result's manifest or with one of its files; None where all is as it was written."""
    fault = fault_of(manifest, name)
    if fault:
        return fault
    found = read_each(lambda file: _damage_of_file(folder, *file), list(manifest["files"].items()))
    return next(filter(None, found), None)


def _damage_of_file(folder: Path, name: str, expected: Mapping[str, Any]) -> str | None:
    path = folder / name
    if link_in(folder, path):
        return f"{name} is a link"
    if not path.is_file():
        return f"{name} is missing"
    if path.stat().st_size != expected["bytes"]:
        return f"{name} has {path.stat().st_size} bytes instead of {expected['bytes']}"
    if xxh3_of(path) != expected["xxh3"] if "xxh3" in expected else sha256_of(path) != expected["sha256"]:
        return f"{name} has changed since it was written"
    return None


def digest_of(manifest: Mapping[str, Any]) -> str:
    """The hash of all other fields of a manifest."""
    content = {name: value for name, value in manifest.items() if name != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
