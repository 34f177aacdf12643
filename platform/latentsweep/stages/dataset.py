"""A prepared dataset in the stage store, for workers that see nothing of the driver's disk but the store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latentsweep.datasets.allowance import fits
from latentsweep.datasets.manifest import is_manifest
from latentsweep.datasets.shards import (
    MASKS,
    SCHEMA,
    claims_otherwise,
    mask_name,
    most_bytes,
    shard_name,
)
from latentsweep.datasets.slices import JOINT, PreparedDataset, open_dataset
from latentsweep.storage.entries import Entry, StageKey
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.errors import DataError

STAGE, VERSION = "dataset", 1
DESCRIPTION = "dataset.json"
"""The dataset's own manifest, beside its shards. The entry's manifest tells whether all of them are there."""


def key_of(fingerprint: str) -> StageKey:
    """Where the store keeps the dataset of that fingerprint; with that of its masks it is another result."""
    return StageKey(STAGE, VERSION, {"fingerprint": fingerprint})


def published_name(home: Home, fingerprint: str) -> set[str]:
    """The name of the result through which workers see a dataset; empty where they see the home's own folder."""
    return {key_of(fingerprint).name} if home.location else set()


def publish(store: Store, datasets: Path, name: str, fingerprint: str) -> Entry:
    """Copies the slices of a dataset into the store, once. The secret key of its pseudonyms stays in the home.

    Raises :class:`DataError` where the dataset is missing or has another fingerprint.
    """

    def copy(folder: Path) -> Mapping[str, Any]:
        dataset = open_dataset(datasets, name, fingerprint)
        for shard in dataset.manifest["shards"]:
            shutil.copyfile(dataset.folder / shard["file"], folder / shard["file"])
        if dataset.has_masks:
            shutil.copytree(dataset.folder / MASKS, folder / MASKS)
        dataset.check_unchanged()
        (folder / DESCRIPTION).write_text(json.dumps(dataset.manifest))
        return {"slices": dataset.counts()}

    return store.obtain(key_of(fingerprint), copy)


def open_published(store: Store, name: str, fingerprint: str) -> PreparedDataset:
    """The dataset that :func:`publish` left, checked; raises :class:`DataError` where it isn't there or isn't one."""
    entry = store.find(key_of(fingerprint))
    if entry is None:
        raise DataError(f"the store at {store.address} lacks the dataset {name}; run the same command again")
    other = DataError(
        f"the dataset {name} in the store at {store.address} must be one that was prepared, and {entry.name} is not; "
        f"find out who wrote it, and move {entry.folder} away"
    )
    try:
        manifest = entry.json(DESCRIPTION)
    except (OSError, ValueError, RecursionError):
        raise other from None
    if not is_manifest(manifest):
        raise other
    dataset = PreparedDataset(name, entry.folder, manifest, DESCRIPTION)
    if dataset.fingerprint_of(masks=JOINT in fingerprint) != fingerprint:
        raise other
    size = manifest["settings"]["size"]
    paths = [entry.folder / shard_name(number) for number in range(len(manifest["shards"]))]
    for path, shard in zip(paths, manifest["shards"], strict=True):
        if shard["file"] != path.name or not path.is_file() or claims_otherwise(path, SCHEMA, shard["rows"], size):
            raise other
    masks = [path for number in range(len(paths)) if (path := entry.folder / mask_name(number)).is_file()]
    if not fits([*paths, *masks], most_bytes(max(shard["rows"] for shard in manifest["shards"]), size)):
        raise other
    return dataset
