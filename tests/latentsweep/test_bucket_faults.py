"""Flipped bits and nonsense in a bucket's small files: what they say counts as absent, and nothing else is raised."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from latentsweep.storage import housekeeping
from latentsweep.storage.bucket import Bucket
from latentsweep.storage.entries import MANIFEST, StageKey
from latentsweep.storage.home import Home
from latentsweep.storage.mirror import PARTIAL, POINTER, PROGRESS
from latentsweep.storage.store import Store
from trainables.loop.files import CHECKPOINT

KEY = StageKey("denoiser", 1, {"seed": 0}, (StageKey("vae", 1, {}),))
NONSENSE = [
    b"",
    b"null",
    b"3",
    b"[]",
    b"{}",
    b"\xff\xfe",
    b"[" * 100_000,
    b"1" * 10_000,
    b'{"files": []}',
    b'{"files": {"a": null}}',
    b'{"kept": {}}',
    b'{"step": "text"}',
    b'{"step": null}',
    b'{"step": [1]}',
]


def build(folder: Path) -> Mapping[str, Any]:
    (folder / "weights").write_text("numbers")
    return {"good": True}


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    """A bucket with one complete result."""
    folder = tmp_path / "bucket"
    Store(tmp_path / "a", Bucket(f"file://{folder}")).obtain(KEY, build)
    return folder


def flips(written: bytes) -> Iterator[bytes]:
    """The same bytes with a bit flipped, at every position in turn."""
    draw = random.Random(0)
    for position, byte in enumerate(written):
        yield written[:position] + bytes([byte ^ 1 << draw.randrange(8)]) + written[position + 1 :]


@pytest.mark.parametrize("older", [False, True], ids=["with digest", "without digest"])
def test_no_flipped_bit_of_a_manifest_raises_or_goes_unseen(tmp_path: Path, bucket: Path, older: bool) -> None:
    place, path = Bucket(f"file://{bucket}"), bucket / KEY.name / MANIFEST
    whole = json.loads(path.read_text())
    written = json.dumps({name: value for name, value in whole.items() if not older or name != "digest"}).encode()
    for flipped in flips(written):
        path.write_bytes(flipped)
        store = Store(tmp_path / "b", place)
        listed = store.entries()
        assert older or listed == [] or listed[0].manifest == whole, flipped
        assert store.mirror.lacks(KEY.name) == (not listed), flipped
    path.write_bytes(written)
    assert Store(tmp_path / "b", place).find(KEY) is not None


def test_a_result_with_a_flipped_manifest_is_not_fetched_and_is_built_again(tmp_path: Path, bucket: Path) -> None:
    path = bucket / KEY.name / MANIFEST
    written = path.read_bytes()
    for number, flipped in enumerate(list(flips(written))[::13]):
        path.write_bytes(flipped)
        store = Store(tmp_path / f"b{number}", Bucket(f"file://{bucket}"))
        assert store.find(KEY) is None, flipped
        assert store.obtain(KEY, build).summary == {"good": True}
        assert Store(tmp_path / f"c{number}", Bucket(f"file://{bucket}")).find(KEY) is not None


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_nonsense_in_the_place_of_a_file_counts_as_absent(tmp_path: Path, bucket: Path, nonsense: bytes) -> None:
    home = Home(tmp_path / "runs", f"file://{bucket}")
    partial = bucket / (KEY.name + PARTIAL)
    partial.mkdir()
    for path in (bucket / KEY.name / MANIFEST, partial / POINTER, partial / PROGRESS):
        path.write_bytes(nonsense)
    store = Store.of(home)
    assert store.find(KEY) is None
    assert [row["state"] for row in housekeeping.overview(home)] == ["unfinished"]
    assert store.progress(KEY.name) == {}
    store.fetch_checkpoint(KEY)
    (store.workspace(KEY.name) / CHECKPOINT).write_text("a step")
    store.keep_checkpoint(KEY)
    fresh = Store(tmp_path / "b", Bucket(f"file://{bucket}"))
    fresh.fetch_checkpoint(KEY)
    assert (fresh.workspace(KEY.name) / CHECKPOINT).read_text() == "a step"


def test_no_flipped_bit_of_a_pointer_raises_or_gives_another_checkpoint(tmp_path: Path, bucket: Path) -> None:
    store = Store(tmp_path / "b", Bucket(f"file://{bucket}"))
    store.fetch_checkpoint(KEY)
    for step in ("one", "two"):
        (store.workspace(KEY.name) / CHECKPOINT).write_text(step)
        store.keep_checkpoint(KEY)
    path = bucket / (KEY.name + PARTIAL) / POINTER
    for flipped in flips(path.read_bytes()):
        path.write_bytes(flipped)
        store.fetch_checkpoint(KEY)
        found = store.workspace(KEY.name) / CHECKPOINT
        assert not found.exists() or found.read_text() in ("one", "two"), flipped
