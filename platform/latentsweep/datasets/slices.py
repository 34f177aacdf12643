"""A prepared dataset on disk: Parquet shards of slices, and the manifest that is written last."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from latentsweep.datasets.catalogue import check_name, how_to_get
from latentsweep.datasets.manifest import MANIFEST, MASKED_FORM, VERSION, is_manifest, matches, read_manifest
from latentsweep.datasets.png import decode
from latentsweep.datasets.shards import MASK_SCHEMA, RULES, claims_otherwise, is_damaged, mask_name, shard_name
from latentsweep.datasets.splits import SPLITS, fold_splits
from latentsweep.storage.home import sha256_of
from trainables.data.settings import Fold
from trainables.errors import ChangedDataError, DataError
from trainables.loop.watchdog import beat

JOINT = "+"
"""Between the fingerprint of slices and that of their masks, where both are read."""
Rule = str | Fold
"""By what slices are split: a key of :data:`RULES`, whose column has the dataset's own split, or a fold."""


@dataclass(frozen=True)
class Slices:
    """Slices in memory: ``images`` (N, S, S) uint8, and for each its pseudonyms and its index from the feet up.

    Where they were asked for, ``masks`` (N, S, S) uint8 are the lesion masks: 0 for background and the source's
    labels for lesion. ``masked`` (N,) tells which slices have one; the mask of the others is 0.
    """

    images: npt.NDArray[np.uint8]
    subjects: list[str]
    volumes: list[str]
    indices: npt.NDArray[np.int32]
    masks: npt.NDArray[np.uint8] | None = None
    masked: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.subjects)

    @property
    def learned(self) -> npt.NDArray[np.uint8]:
        """What an autoencoder learns: the images, or with masks (N, 2, S, S), image and mask."""
        return self.images if self.masks is None else np.stack([self.images, self.masks], axis=1)


@dataclass(frozen=True)
class PreparedDataset:
    """A dataset that :func:`open_dataset` found complete and undamaged."""

    name: str
    folder: Path
    manifest: dict[str, Any]
    description: str = MANIFEST
    """The file of the folder that holds the manifest."""

    @property
    def fingerprint(self) -> str:
        """A hash over the pixels, splits and grouping of all slices; the same for every pseudonym key."""
        return str(self.manifest["fingerprint"])

    @property
    def size(self) -> int:
        """Side of a slice in pixels."""
        return int(self.manifest["settings"]["size"])

    @property
    def has_masks(self) -> bool:
        """Whether lesion masks lie beside slices."""
        return all(matches(shard, MASKED_FORM) for shard in self.manifest["shards"])

    @property
    def mask_fingerprint(self) -> str:
        """A hash over the masks of all slices, which :attr:`fingerprint` leaves out; empty without masks."""
        parts = [shard["masks"]["pictures"] for shard in self.manifest["shards"]] if self.has_masks else []
        return hashlib.sha256("".join(parts).encode()).hexdigest() if parts else ""

    @property
    def categories(self) -> dict[str, list[str]]:
        """The names of the categories of each label of subjects, by label; empty without labels."""
        return dict(self.manifest.get("labels", {}).get("categories", {}))

    def categories_of(self, subjects: Sequence[str]) -> npt.NDArray[np.float32]:
        """The number of the category of each of the K labels, (N, K), for N subjects.

        Raises :class:`DataError` where one has none.
        """
        known = self.manifest["labels"]["subjects"]
        try:
            return np.array([known[subject] for subject in subjects], np.float32)
        except KeyError:
            raise DataError(f"a subject of {self.name} has no labels: prepare it again with --replace") from None

    def fingerprint_of(self, *, masks: bool) -> str:
        """What results depend on that read the slices, and ``masks`` beside them: the fingerprints of both.

        Without masks it is :attr:`fingerprint` itself.
        """
        beside = self.mask_fingerprint if masks else ""
        return JOINT.join([self.fingerprint, *([beside] if beside else [])])

    def splits(self, rule: Rule = "subject") -> list[str]:
        """The splits that hold a slice under ``rule``."""
        return [split for split in SPLITS if self.counts(rule).get(split)]

    def counts(self, rule: Rule = "subject") -> dict[str, int]:
        """How many slices each split holds under ``rule``."""
        if isinstance(rule, Fold):
            split_of, found = self.split_of_subjects(rule), dict.fromkeys(SPLITS, 0)
            for subject, slices in self._subjects.items():
                found[split_of[subject]] += slices
            return found
        by = "slices_by_split" if rule == "subject" else "slices_by_split_by_slice"
        counts: dict[str, int] = self.manifest["counts"][by]
        return counts

    @cached_property
    def _subjects(self) -> dict[str, int]:
        """The number of slices of each subject, in the order of the shards, which is that of their content."""
        return dict(Counter(self.table(["subject"])["subject"].to_pylist()))

    def table(self, columns: Sequence[str], shards: Sequence[Mapping[str, Any]] | None = None) -> pa.Table:
        """Those columns of ``shards``, by default of all.

        Raises :class:`DataError` for a missing or damaged one, and :class:`ChangedDataError` where they may be of
        another dataset, which has taken the place of this one since it was opened.
        """
        try:
            files = [self.folder / shard["file"] for shard in shards or self.manifest["shards"]]
            found = pa.concat_tables([pq.read_table(file, columns=columns) for file in files])
        except (OSError, pa.ArrowException):
            raise DataError(f"a shard of the dataset {self.name} is missing or damaged: prepare it anew") from None
        self.check_unchanged()
        return found

    def check_unchanged(self) -> None:
        """Call it after files of the dataset were read.

        Raises :class:`ChangedDataError` where another dataset has taken the place of this one since it was opened.
        """
        if read_manifest(self.folder / self.description) != self.manifest:
            raise ChangedDataError(
                f"a dataset must stay as it is while it is read, and {self.name} was prepared anew meanwhile; run "
                "the same command again"
            )

    def split_of_subjects(self, fold: Fold) -> dict[str, str]:
        """The split of each subject in a fold."""
        return dict(
            zip(self._subjects, fold_splits(list(self._subjects.values()), fold.fold, fold.folds), strict=True)
        )

    def subjects_by_split(self, rule: Rule = "subject") -> dict[str, int]:
        """How many subjects each split holds: by subject or in a fold, never by slice."""
        if isinstance(rule, Fold):
            found = Counter(self.split_of_subjects(rule).values())
            return {split: found[split] for split in SPLITS}
        by_split: dict[str, int] = self.manifest["counts"]["subjects_by_split"]
        return by_split

    def labels(self, rows: pa.Table, rule: Rule) -> list[str]:
        """The split of each of ``rows`` of the shards, which hold their subject and the columns of :data:`RULES`."""
        if isinstance(rule, Fold):
            split_of = self.split_of_subjects(rule)
            return [split_of[subject] for subject in rows["subject"].to_pylist()]
        labels: list[str] = rows[RULES[rule]].to_pylist()
        return labels

    def load(self, split: str, *, rule: Rule = "subject", masks: bool = False) -> Slices:
        """The slices of ``split`` (train, validation, test or all) under ``rule`` (subject, slice, a fold), in order.

        ``masks`` asks for their masks, too. Raises :class:`DataError` for another name, for a split that holds no
        slice, and for masks that the dataset doesn't have.
        """
        if split not in (*SPLITS, "all"):
            raise DataError(f"the split must be one of {', '.join(SPLITS)} or all; got {split!r}")
        if not isinstance(rule, Fold) and rule not in RULES:
            raise DataError(f"the rule of a split must be one of {', '.join(RULES)}; got {rule!r}")
        parts = [self._rows(shard, split, rule) for shard in self.manifest["shards"]]
        count = sum(map(len, parts))
        if not count:
            instead = "take fewer folds" if isinstance(rule, Fold) else "use the split by slice"
            raise DataError(
                f"the {split} split of {self.name} by {rule} holds no slice ({self.manifest['counts']['subjects']} "
                f"subjects in all): prepare more subjects, or {instead}"
            )
        shape = (count, self.size, self.size)
        found = Slices(
            np.empty(shape, np.uint8),
            [],
            [],
            np.empty(count, np.int32),
            np.empty(shape, np.uint8) if masks else None,
            np.empty(count, np.bool_) if masks else None,
        )
        for shard, places in zip(self.manifest["shards"], parts, strict=True):
            if len(places):
                beat()
                part = self._decoded(shard, places, masks)
                here = slice(len(found), len(found) + len(part))
                for name in ("images", "indices", *(("masks", "masked") if masks else ())):
                    getattr(found, name)[here] = getattr(part, name)
                found.subjects.extend(part.subjects)
                found.volumes.extend(part.volumes)
        return found

    def shards(self, *, masks: bool = False) -> Iterator[Slices]:
        """All slices, a shard of at most ROWS_PER_SHARD at a time; raises :class:`DataError` as :meth:`load`."""
        for shard in self.manifest["shards"]:
            yield self._decoded(shard, np.arange(shard["rows"]), masks)

    def mask_labels(self, split: str, rule: Rule = "subject") -> npt.NDArray[np.uint8]:
        """The values in the masks of a split, ascending; raises :class:`DataError` as :meth:`load`."""
        found = [np.empty(0, np.uint8)]
        for shard in self.manifest["shards"]:
            places = self._rows(shard, split, rule)
            found.append(np.unique(self._pixels(self._masks(shard).take(places)["mask"], gaps=True)))
        return np.unique(np.concatenate(found))

    def _rows(self, shard: Mapping[str, Any], split: str, rule: Rule) -> npt.NDArray[np.intp]:
        """The places of the rows of ``split`` in a shard."""
        if split == "all":
            return np.arange(shard["rows"])
        columns = ["subject"] if isinstance(rule, Fold) else [RULES[rule]]
        return np.flatnonzero([label == split for label in self.labels(self.table(columns, [shard]), rule)])

    def _decoded(self, shard: Mapping[str, Any], places: npt.NDArray[np.intp], masks: bool) -> Slices:
        """The slices at ``places`` of a shard."""
        if masks and not self.has_masks:
            raise DataError(
                f"the dataset {self.name} has no lesion masks: prepare it with --replace from a source where they "
                "lie beside the scans"
            )
        rows = self.table(["subject", "volume", "slice", "image"], [shard]).take(places)
        beside = self._masks(shard).take(places) if masks else None
        return Slices(
            images=self._pixels(rows["image"]),
            subjects=rows["subject"].to_pylist(),
            volumes=rows["volume"].to_pylist(),
            indices=rows["slice"].to_numpy().astype(np.int32),
            masks=None if beside is None else self._pixels(beside["mask"], gaps=True),
            masked=None if beside is None else beside["mask"].is_valid().to_numpy(),
        )

    def _pixels(self, cells: pa.ChunkedArray, *, gaps: bool = False) -> npt.NDArray[np.uint8]:
        """The pictures (N, S, S) of a column; with ``gaps``, 0 where there is none."""
        pixels = np.zeros((len(cells), self.size, self.size), np.uint8)
        try:
            for place, cell in enumerate(cells):
                if cell.is_valid or not gaps:
                    pixels[place] = decode(cell["bytes"].as_py(), self.size)
        except (OSError, SyntaxError, ValueError, TypeError):
            raise DataError(
                f"a slice of the dataset {self.name} is not a picture of {self.size}×{self.size} pixels: prepare it "
                "again with --replace"
            ) from None
        return pixels

    def _masks(self, shard: Mapping[str, Any]) -> pa.Table:
        """The masks of a shard's rows; raises :class:`DataError` for a damaged file, or one of other rows."""
        path = self.folder / mask_name(int(Path(shard["file"]).stem.rpartition("-")[2]))
        again = DataError(f"the masks {path.name} of the dataset {self.name} are missing or damaged: prepare it anew")
        try:
            if claims_otherwise(path, MASK_SCHEMA, shard["rows"], self.size):
                raise again
            table = pq.read_table(path)
            whole = sha256_of(path) == shard["masks"]["sha256"]
        except (OSError, pa.ArrowException, KeyError):
            raise again from None
        if not whole or table.schema != MASK_SCHEMA or table.num_rows != shard["rows"]:
            raise again
        return table


def open_dataset(datasets_folder: Path, name: str, fingerprint: str = "") -> PreparedDataset:
    """The prepared dataset ``name``, which must have the ``fingerprint``, if one is given.

    Raises :class:`DataError`, with the commands that mend it, where it is missing, incomplete or damaged (the rows
    and SHA-256 of every shard are checked), and :class:`ChangedDataError` where it has another fingerprint.
    """
    folder = Path(datasets_folder) / check_name(name)
    home = Path(datasets_folder).parent
    manifest = read_manifest(folder / MANIFEST)
    if manifest is None:
        raise DataError(f"the dataset {name} is not prepared: {how_to_get(name, home)}")

    def again() -> str:  # the commands name the formats, whose readers take long to import
        return f"prepare it again with --replace: {how_to_get(name, home)}"

    if not isinstance(manifest, dict) or not isinstance(manifest.get("version"), int):
        raise DataError(f"the manifest of the dataset {name} is damaged: {again()}")
    if manifest["version"] != VERSION:
        raise DataError(
            f"the dataset {name} has format {manifest['version']}, this version reads {VERSION}: {again()}"
        )
    if not is_manifest(manifest):
        raise DataError(f"the manifest of the dataset {name} is damaged: {again()}")
    dataset = PreparedDataset(name, folder, manifest)
    check_fingerprint(name, dataset.fingerprint_of(masks=JOINT in fingerprint), fingerprint)
    try:
        for number, shard in enumerate(manifest["shards"]):
            if is_damaged(folder / shard_name(number), shard, manifest["settings"]["size"]):
                raise DataError(f"the shard {shard_name(number)} of the dataset {name} is damaged: {again()}")
    except OSError:
        raise DataError(f"a shard of the dataset {name} is missing or damaged: {again()}") from None
    return dataset


def check_prepared(datasets_folder: Path, name: str, fingerprint: str) -> None:
    """Raises :class:`ChangedDataError` where ``name`` is prepared by now with another fingerprint; reads no slice."""
    manifest = read_manifest(Path(datasets_folder) / check_name(name) / MANIFEST)
    if isinstance(manifest, dict) and "fingerprint" in manifest:
        whole = JOINT in fingerprint and is_manifest(manifest)
        dataset = PreparedDataset(name, Path(datasets_folder), manifest)
        check_fingerprint(name, dataset.fingerprint_of(masks=whole), fingerprint)


def check_fingerprint(name: str, found: str, begun_with: str) -> None:
    """Raises :class:`ChangedDataError` where work on the dataset began with another fingerprint than it has now.

    An empty ``begun_with`` is that of work that may begin with any. Masks count where the work began with them.
    """
    now, before = (dict(zip(("slices", "masks"), each.split(JOINT), strict=False)) for each in (found, begun_with))
    for of, wanted in before.items():
        has = now.get(of, "")
        if wanted in ("", has):
            continue
        raise ChangedDataError(
            "a sweep, study, training or model stays with the dataset that it began with, "
            f"{name} whose {of} have the fingerprint {wanted[:8]}…, and {name} now has "
            f"{f'{has[:8]}…' if has else f'no {of}'}; prepare it as it was, with --replace, or begin anew: the same "
            "command begins another sweep or study, and a configuration is trained without its entries origin and "
            "trained_on"
        )
