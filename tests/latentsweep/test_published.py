"""A dataset that others put into the store: of another form, or a bomb, it is refused before memory is taken."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_dataset import plant

from latentsweep.datasets.shards import SCHEMA, shard_name
from latentsweep.stages.dataset import DESCRIPTION, key_of, open_published, publish
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.errors import DataError


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
    """A shard of a few kilobytes that stands for a gigabyte."""
    row = {"subject": "a", "volume": "a", "slice": 1, "split": "train", "split_by_slice": "train"}
    large = pa.array([b"\0" * 2**24] * 64, pa.binary())
    columns = {name: [row[name]] * 64 for name in SCHEMA.names[:-1]}
    image = pa.StructArray.from_arrays([large, pa.array([None] * 64, pa.string())], names=["bytes", "path"])
    table = pa.table({**columns, "image": image}, schema=SCHEMA)
    pq.write_table(table, place / shard_name(0), compression="zstd")
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


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_no_prepared_dataset_is_refused_before_a_shard_is_read(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = planted(tmp_path, CHANGES[change])
    monkeypatch.setattr(pq, "read_table", lambda *_, **__: pytest.fail("a shard was read"))
    with pytest.raises(DataError, match=r"must be one that was prepared") as told:
        open_published(store, "tiny", "of tiny")
    assert "\n" not in str(told.value)


def test_one_that_was_prepared_is_opened(tmp_path: Path) -> None:
    found = open_published(planted(tmp_path, lambda *_: None), "tiny", "of tiny")
    assert len(found.load("train")) == 3
