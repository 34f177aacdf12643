"""The Parquet shards of a prepared dataset, and those of its lesion masks: their columns, and what writes them."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from latentsweep.storage.home import sha256_of

MASKS = "masks"
"""The folder of the lesion masks beside the shards."""
ROWS_PER_SHARD = 4096
RULES = {"subject": "split", "slice": "split_by_slice"}

_TEXT = pa.string()
_COLUMNS = {"subject": _TEXT, "volume": _TEXT, "slice": pa.int32(), **dict.fromkeys(RULES.values(), _TEXT)}
_FEATURES = {name: {"dtype": str(kind), "_type": "Value"} for name, kind in _COLUMNS.items()}
SCHEMA = pa.schema(
    [*_COLUMNS.items(), ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))],
    metadata={"huggingface": json.dumps({"info": {"features": {**_FEATURES, "image": {"_type": "Image"}}}})},
)
"""The key "huggingface" makes the package ``datasets`` decode the last column as images."""

MASK_SCHEMA = pa.schema(
    [
        *((name, _COLUMNS[name]) for name in ("subject", "volume", "slice")),
        ("mask", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    ]
)


@dataclass(frozen=True)
class SliceRow:
    """One row of a shard. ``subject`` and ``volume`` are pseudonyms; ``png`` is an 8-bit grey PNG, as is ``mask``."""

    subject: str
    volume: str
    slice: int
    split: str
    split_by_slice: str
    png: bytes = dataclasses.field(repr=False)
    mask: bytes | None = dataclasses.field(repr=False, default=None)


def shard_name(number: int) -> str:
    """The file of the shard of that number; a manifest that names another one is not followed."""
    return f"slices-{number:05d}.parquet"


def mask_name(number: int) -> str:
    """The file of the masks of the shard of that number."""
    return f"{MASKS}/masks-{number:05d}.parquet"


def write_shards(folder: Path, rows: Iterable[SliceRow], masks: bool = False) -> list[dict[str, Any]]:
    """Write the rows as ``slices-00000.parquet``, …; returns each one's file, rows, bytes and SHA-256.

    With ``masks``, also their masks as ``masks/masks-00000.parquet``, …, a row for each row of the shard, empty where
    it has none. They are files of their own, so that whoever reads slices alone reads no more than before. Holds the
    rows of one shard at a time.
    """
    shards: list[dict[str, Any]] = []
    incoming = iter(rows)
    while part := list(itertools.islice(incoming, ROWS_PER_SHARD)):
        columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in part] for name in SCHEMA.names[:-1]}
        columns["image"] = [{"bytes": row.png, "path": None} for row in part]
        path = folder / shard_name(len(shards))
        pq.write_table(pa.table(columns, schema=SCHEMA), path, compression="zstd")
        shard = {"file": path.name, "rows": len(part), "bytes": path.stat().st_size, "sha256": sha256_of(path)}
        shards.append(shard | ({"masks": _write_masks(folder / mask_name(len(shards)), part)} if masks else {}))
    return shards


def _write_masks(path: Path, rows: Sequence[SliceRow]) -> dict[str, Any]:
    """Writes the masks of a shard's rows; returns its bytes, its SHA-256 and that of the pictures in it."""
    path.parent.mkdir(exist_ok=True)
    columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in MASK_SCHEMA.names[:-1]}
    columns["mask"] = [None if row.mask is None else {"bytes": row.mask, "path": None} for row in rows]
    pq.write_table(pa.table(columns, schema=MASK_SCHEMA), path, compression="zstd")
    pictures = hashlib.sha256(b"".join(hashlib.sha256(row.mask or b"").digest() for row in rows)).hexdigest()
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path), "pictures": pictures}


def is_damaged(path: Path, shard: dict[str, Any], size: int) -> bool:
    """Whether a shard is not what its manifest says, or claims to hold more than slices of ``size`` pixels can."""
    if shard["file"] != path.name or sha256_of(path) != shard["sha256"]:
        return True
    return claims_otherwise(path, SCHEMA, shard["rows"], size)


def claims_otherwise(path: Path, schema: pa.Schema, rows: int, size: int) -> bool:
    """Whether a Parquet file claims other columns, other rows, or more bytes than pictures of ``size`` pixels take.

    Reads what it says of itself alone: a file of a few kilobytes can stand for more than memory holds.
    """
    try:
        metadata = pq.read_metadata(path)
        as_written = pq.read_schema(path).equals(schema)
    except pa.ArrowException:
        return True
    claimed = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    as_many = metadata.num_rows == rows and 0 < rows <= ROWS_PER_SHARD
    return not as_written or not as_many or claimed > most_bytes(rows, size)


def most_bytes(rows: int, size: int) -> int:
    """The most bytes that so many rows take, with pictures of ``size`` pixels a side."""
    return 2**20 + rows * (2 * size**2 + 4096)
