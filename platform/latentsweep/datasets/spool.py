"""The slices of scans that were read, on disk until all scans are: an interrupted preparation goes on from them.

A scan is a Parquet file with a row group for each of its volumes. A file gets its name when it is complete, so the
names are the ledger of what is done.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from trainables.errors import DataError

SEAL = "source"
"""The file that tells which source and settings the scans are of."""
SCANS = "scans"
FACTS = {"index": pa.int32(), "digest": pa.string(), "lesion": pa.int32()}
PICTURES = {"png": pa.binary(), "mask": pa.binary()}
SCHEMA = pa.schema([*FACTS.items(), *PICTURES.items()])


@dataclass(frozen=True)
class SliceImage:
    """One kept slice: its index from the feet up, the SHA-256 of its pixels, its PNG, and that of its lesion mask.

    What a :class:`Spool` returns is without the pictures, which the spool has.
    """

    index: int
    digest: str
    png: bytes = field(repr=False, default=b"")
    mask: bytes | None = field(repr=False, default=None)
    lesion: int | None = None
    """Pixels of lesion; None for a slice without a mask."""


@dataclass(frozen=True)
class ScanResult:
    """What a scan gave: the slices of each of its volumes, (reason, broken, files) of its rejects, dropped slices."""

    volumes: list[list[SliceImage]]
    rejects: list[tuple[str, bool, int]]
    dropped: int
    mask_rejects: list[str] = field(default_factory=list)
    """Why masks that lie beside its files were left out."""
    planes: list[str] = field(default_factory=list)
    """The plane in which each volume was stored, in words."""

    @property
    def facts(self) -> ScanResult:
        """The same without the pictures."""
        volumes = [[dataclasses.replace(image, png=b"", mask=None) for image in volume] for volume in self.volumes]
        return dataclasses.replace(self, volumes=volumes)


@dataclass(frozen=True)
class Spool:
    """The scans of one source under one choice of settings, by their number, in ``folder``."""

    folder: Path = field(repr=False)

    @classmethod
    def at(cls, folder: Path, seal: str) -> Spool:
        """The spool in ``folder``, which is emptied where it is of another source or of other settings."""
        place = folder / SEAL
        if not place.is_file() or place.read_text("utf-8", errors="replace") != seal:
            shutil.rmtree(folder, ignore_errors=True)
            (folder / SCANS).mkdir(parents=True)
            place.write_text(seal, "utf-8")
        return cls(folder)

    def put(self, number: int, result: ScanResult) -> ScanResult:
        """Writes a scan's slices; returns its result without them."""
        path = self._path(number)
        draft = path.with_suffix(".draft")
        told = {name: getattr(result, name) for name in ("rejects", "dropped", "mask_rejects", "planes")}
        schema = SCHEMA.with_metadata({"result": json.dumps(told)})
        with pq.ParquetWriter(draft, schema, compression="zstd", write_page_checksum=True) as writer:
            for volume in result.volumes:
                columns = {name: [getattr(image, name) for image in volume] for name in SCHEMA.names}
                writer.write_table(pa.table(columns, schema=schema), row_group_size=len(volume))
        draft.replace(path)
        return result.facts

    def get(self, number: int) -> ScanResult | None:
        """The result of a scan without its pictures, or None where it is to be read (again)."""
        try:
            file = pq.ParquetFile(self._path(number), page_checksum_verification=True)
            told = json.loads(file.schema_arrow.metadata[b"result"])
            groups = [
                file.read_row_group(group, columns=list(FACTS)).to_pylist() for group in range(file.num_row_groups)
            ]
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, RecursionError):
            return None
        volumes = [[SliceImage(**row) for row in rows] for rows in groups]
        rejects = [(reason, broken, files) for reason, broken, files in told["rejects"]]
        return ScanResult(volumes, rejects, told["dropped"], told["mask_rejects"], told["planes"])

    def pictures(self, number: int, volume: int) -> Iterator[tuple[bytes, bytes | None]]:
        """The PNG of each slice of a volume, and that of its mask; raises :class:`DataError` for a damaged file."""
        try:
            file = pq.ParquetFile(self._path(number), page_checksum_verification=True)
            rows = file.read_row_group(volume, columns=list(PICTURES))
        except (OSError, pa.ArrowException):
            raise DataError(
                "what an interrupted preparation left is damaged: run the same command again, which reads all scans"
            ) from None
        for row in rows.to_pylist():
            yield row["png"], row["mask"]

    def close(self) -> None:
        """Removes the scans, when the dataset is written."""
        shutil.rmtree(self.folder / SCANS, ignore_errors=True)
        (self.folder / SEAL).unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self.folder / SCANS / f"{number:06d}.parquet"
