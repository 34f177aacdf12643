"""A prepared dataset on disk: Parquet shards of slices, and the manifest that is written last."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from latentsweep.datasets.catalogue import check_name, how_to_get
from latentsweep.datasets.splits import SPLITS
from latentsweep.home import sha256_of
from trainables.errors import DataError

VERSION = 1
MANIFEST = "manifest.json"
ROWS_PER_SHARD = 4096
RULES = {"subject": "split", "slice": "split_by_slice"}

_FEATURES = {
    **{name: {"dtype": "string", "_type": "Value"} for name in ("subject", "volume")},
    "slice": {"dtype": "int32", "_type": "Value"},
    **{name: {"dtype": "string", "_type": "Value"} for name in RULES.values()},
    "image": {"_type": "Image"},
}
#: The key "huggingface" makes the package ``datasets`` decode the last column as images.
SCHEMA = pa.schema(
    [
        ("subject", pa.string()),
        ("volume", pa.string()),
        ("slice", pa.int32()),
        ("split", pa.string()),
        ("split_by_slice", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)


@dataclass(frozen=True)
class SliceRow:
    """One row of a shard. ``subject`` and ``volume`` are pseudonyms; ``png`` is an 8-bit grey PNG."""

    subject: str
    volume: str
    slice: int
    split: str
    split_by_slice: str
    png: bytes = dataclasses.field(repr=False)


@dataclass(frozen=True)
class Slices:
    """Slices in memory: ``images`` (N, S, S) uint8, and for each its pseudonyms and its index from the feet up."""

    images: npt.NDArray[np.uint8]
    subjects: list[str]
    volumes: list[str]
    indices: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.subjects)


@dataclass(frozen=True)
class PreparedDataset:
    """A dataset that :func:`open_dataset` found complete and undamaged."""

    name: str
    folder: Path
    manifest: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """A hash over the pixels, splits and grouping of all slices; the same for every pseudonym key."""
        return str(self.manifest["fingerprint"])

    @property
    def size(self) -> int:
        """Side of a slice in pixels."""
        return int(self.manifest["settings"]["size"])

    def splits(self, rule: str = "subject") -> list[str]:
        """The splits that hold a slice under ``rule``."""
        return [split for split in SPLITS if self.counts(rule).get(split)]

    def counts(self, rule: str = "subject") -> dict[str, int]:
        """How many slices each split holds under ``rule``."""
        by = "slices_by_split" if rule == "subject" else "slices_by_split_by_slice"
        counts: dict[str, int] = self.manifest["counts"][by]
        return counts

    def load(self, split: str, *, rule: str = "subject") -> Slices:
        """The slices of ``split`` (train, validation, test or all) under ``rule`` (subject or slice), in order.

        Raises :class:`DataError` for another name, and for a split that holds no slice.
        """
        if split not in (*SPLITS, "all"):
            raise DataError(f"the split must be one of {', '.join(SPLITS)} or all; got {split!r}")
        if rule not in RULES:
            raise DataError(f"the rule of a split must be one of {', '.join(RULES)}; got {rule!r}")
        tables = [pq.read_table(self.folder / shard["file"]) for shard in self.manifest["shards"]]
        rows = pa.concat_tables(tables)
        if split != "all":
            rows = rows.filter(pc.equal(rows[RULES[rule]], split))
        if rows.num_rows == 0:
            raise DataError(
                f"the {split} split of {self.name} by {rule} holds no slice ({self.manifest['counts']['subjects']} "
                "subjects in all): prepare more subjects, or use the split by slice"
            )
        images = [decode(cell["bytes"]) for cell in rows["image"].to_pylist()]
        return Slices(
            images=np.stack(images),
            subjects=rows["subject"].to_pylist(),
            volumes=rows["volume"].to_pylist(),
            indices=rows["slice"].to_numpy().astype(np.int32),
        )


def open_dataset(datasets_folder: Path, name: str) -> PreparedDataset:
    """The prepared dataset ``name``; raises :class:`DataError`, with the commands that mend it, where it is
    missing, incomplete or damaged (the rows and SHA-256 of every shard are checked)."""
    folder = Path(datasets_folder) / check_name(name)
    home = Path(datasets_folder).parent
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"the dataset {name} is not prepared: {how_to_get(name, home)}") from None
    except (OSError, ValueError):
        manifest = {}
    again = f"prepare it again with --replace: {how_to_get(name, home)}"
    if not isinstance(manifest, dict) or "version" not in manifest:
        raise DataError(f"the manifest of the dataset {name} is damaged: {again}")
    if manifest["version"] != VERSION:
        raise DataError(f"the dataset {name} has format {manifest['version']}, this version reads {VERSION}: {again}")
    try:
        for shard in manifest["shards"]:
            path = folder / shard["file"]
            if sha256_of(path) != shard["sha256"] or pq.read_metadata(path).num_rows != shard["rows"]:
                raise DataError(f"the shard {shard['file']} of the dataset {name} is damaged: {again}")
    except (OSError, KeyError, TypeError):
        raise DataError(f"a shard of the dataset {name} is missing or damaged: {again}") from None
    return PreparedDataset(name, folder, manifest)


def write_shards(folder: Path, rows: Sequence[SliceRow]) -> list[dict[str, Any]]:
    """Write the rows as ``slices-00000.parquet``, …; returns each one's file, rows, bytes and SHA-256."""
    shards: list[dict[str, Any]] = []
    for start in range(0, len(rows), ROWS_PER_SHARD):
        part = rows[start : start + ROWS_PER_SHARD]
        columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in part] for name in SCHEMA.names[:-1]}
        columns["image"] = [{"bytes": row.png, "path": None} for row in part]
        path = folder / f"slices-{len(shards):05d}.parquet"
        pq.write_table(pa.table(columns, schema=SCHEMA), path, compression="zstd")
        shards.append({"file": path.name, "rows": len(part), "bytes": path.stat().st_size, "sha256": sha256_of(path)})
    return shards


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest under a temporary name and rename it: with it the dataset is complete."""
    draft = folder / f".{MANIFEST}"
    draft.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", "utf-8")
    draft.replace(folder / MANIFEST)


def encode(image: npt.NDArray[np.uint8]) -> bytes:
    """A (S, S) uint8 slice as an 8-bit grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def decode(png: bytes) -> npt.NDArray[np.uint8]:
    """The inverse of :func:`encode`."""
    return np.asarray(Image.open(io.BytesIO(png)), dtype=np.uint8)


def image_hash(image: npt.NDArray[np.uint8]) -> str:
    """The SHA-256 of a slice's side and pixels."""
    return hashlib.sha256(f"{image.shape[0]}x{image.shape[1]}\0".encode() + image.tobytes()).hexdigest()
