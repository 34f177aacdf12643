"""A dataset that others put into the store: of another form, or a bomb, it is refused before memory is taken."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_dataset import plant

from latentsweep.datasets import allowance
from latentsweep.datasets.shards import SCHEMA, claims_otherwise, shard_name
from latentsweep.stages.dataset import DESCRIPTION, key_of, open_published, publish
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.errors import DataError, StoreError


def planted(folder: Path, change: Callable[[Path, dict[str, Any]], Any]) -> Store:
    """A store in which somebody put another dataset under the key of one that was prepared, with a whole manifest."""
    home = Home(folder / "runs")
    dataset = plant(home)
    whole = publish(Store(folder / "whole"), home.datasets, "tiny", dataset.fingerprint)
    store = Store(folder / "theirs")

    def theirs(place: Path) -> Mapping[str, Any]:
        for name in whole.manifest["files"]:
            (place / name).write_bytes(whole.file(name).read_bytes())
        described = whole.json(DESCRIPTION)
        found = change(place, described)
        (place / DESCRIPTION).write_text(found if isinstance(found, str) else json.dumps(described))
        return {}

    store.obtain(key_of(dataset.fingerprint), theirs)
    return Store(folder / "theirs")


def bomb(place: Path, described: dict[str, Any]) -> None:
    """A shard of a few kilobytes that stands for a quarter of a gigabyte."""
    write_shard(place, b"\0" * 2**22)
    assert (place / shard_name(0)).stat().st_size < 2**20
    described["shards"][0]["rows"] = 64


CHANGES: dict[str, Callable[[Path, dict[str, Any]], Any]] = {
    "a bomb": bomb,
    "other rows": lambda place, described: described["shards"][0].update(rows=5000),
    "other columns": lambda place, described: pq.write_table(pa.table({"a": [1]}), place / shard_name(0)),
    "no Parquet": lambda place, described: (place / shard_name(0)).write_text("text") and None,
    "another file": lambda place, described: described["shards"][0].update(file="../x.parquet"),
    "a shard that isn't there": lambda place, described: described["shards"].append(dict(described["shards"][0])),
    "another dataset": lambda place, described: described.update(fingerprint="another"),
    "huge slices": lambda place, described: described["settings"].update(size=10**6),
    "no shards": lambda place, described: described.pop("shards") and None,
    "a list": lambda place, described: "[]",
    "no JSON": lambda place, described: "{",
    "nested deep": lambda place, described: "[" * 100_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_what_is_no_prepared_dataset_is_refused_before_a_shard_is_read(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = planted(tmp_path, CHANGES[change])
    monkeypatch.setattr(pq, "read_table", lambda *_, **__: pytest.fail("a shard was read"))
    monkeypatch.setattr("latentsweep.stages.dataset.fits", lambda *_: pytest.fail("a shard was tried"))
    with pytest.raises(DataError, match=r"must be one that was prepared") as told:
        open_published(store, "tiny", "of tiny")
    assert "\n" not in str(told.value)


def write_shard(place: Path, large: bytes, **options: Any) -> None:
    """A shard of 64 rows with the same picture."""
    row = {"subject": "a", "volume": "a", "slice": 1, "split": "train", "split_by_slice": "train"}
    columns = {name: [row[name]] * 64 for name in SCHEMA.names[:-1]}
    image = pa.StructArray.from_arrays(
        [pa.array([large] * 64, pa.binary()), pa.array([None] * 64, pa.string())], names=["bytes", "path"]
    )
    table = pa.table({**columns, "image": image}, schema=SCHEMA)
    pq.write_table(table, place / shard_name(0), compression="zstd", **options)


def varint(number: int, length: int = 0) -> bytes:
    """A number as the footer of a Parquet file has it; longer than it need be, where a ``length`` is given."""
    number, groups = 2 * number, []
    while number or not groups or len(groups) < length:
        groups.append(number & 127)
        number >>= 7
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])


def pages(place: Path, described: dict[str, Any]) -> None:
    """Pages of a quarter of a gigabyte, of which the footer says that they are a kilobyte."""
    write_shard(place, b"\0" * 2**22, use_dictionary=False)
    path = place / shard_name(0)
    metadata = pq.read_metadata(path)
    group = metadata.row_group(0)
    sizes = {group.total_byte_size, *(group.column(n).total_uncompressed_size for n in range(group.num_columns))}
    content = path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    end = content[footer:]
    for size in sizes:
        if size > 2**20:
            assert varint(size) in end
            end = end.replace(varint(size), varint(1024, len(varint(size))))
    path.write_bytes(content[:footer] + end)
    described["shards"][0]["rows"] = 64


def repeated(place: Path, described: dict[str, Any]) -> None:
    """A picture of four megabytes, once in the file and 64 times in the table; the footer counts it once."""
    write_shard(place, b"\0" * 2**22, use_dictionary=True, dictionary_pagesize_limit=2**26)
    described["shards"][0]["rows"] = 64
    described["settings"]["size"] = 256


def prefixes(place: Path, described: dict[str, Any]) -> None:
    """The same by an encoding that says only how values differ."""
    write_shard(place, b"\0" * 2**22, use_dictionary=False, column_encoding={"image.bytes": "DELTA_BYTE_ARRAY"})
    described["shards"][0]["rows"] = 64
    described["settings"]["size"] = 256


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="no other system holds a process to an amount of memory")
@pytest.mark.parametrize("lie", [pages, repeated, prefixes])
def test_pages_that_hold_more_than_the_file_says_are_one_line_and_take_little_memory(
    tmp_path: Path, lie: Callable[[Path, dict[str, Any]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    status = tmp_path / "status"
    noting = (
        f"import atexit; atexit.register(lambda: open({str(status)!r}, 'w').write(open('/proc/self/status').read()))"
    )
    monkeypatch.setattr(allowance, "READER", f"{noting}\n{allowance.READER}")
    store = planted(tmp_path, lie)
    [path] = (tmp_path / "theirs").rglob(shard_name(0))
    assert path.stat().st_size < 2**22
    size = json.loads(path.with_name(DESCRIPTION).read_text())["settings"]["size"]
    assert not claims_otherwise(path, SCHEMA, 64, size), "it looks as it should"
    with pytest.raises(DataError, match=r"must be one that was prepared") as told:
        open_published(store, "tiny", "of tiny")
    assert "\n" not in str(told.value)
    [peak] = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    assert int(peak) < 300_000, "kilobytes"
    assert allowance.fits([path], 2**30), "with more memory it can be read"


@pytest.mark.skipif(sys.platform != "linux", reason="nothing is tried elsewhere")
def test_a_child_that_is_killed_says_nothing_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shard(tmp_path, b"small")
    path = tmp_path / shard_name(0)
    with monkeypatch.context() as patched:
        patched.setattr(allowance, "READER", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
        with pytest.raises(StoreError, match="must end by itself, and ended with -15"):
            allowance.fits([path], 2**30)
    assert allowance.fits([path], 2**30), "it is tried again"


def test_one_that_was_prepared_is_opened(tmp_path: Path) -> None:
    found = open_published(planted(tmp_path, lambda *_: None), "tiny", "of tiny")
    assert len(found.load("train")) == 3
