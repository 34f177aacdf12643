"""A prepared dataset that takes no time to prepare."""

from __future__ import annotations

from typing import Any

import numpy as np

from latentsweep.datasets.manifest import write_manifest
from latentsweep.datasets.png import encode
from latentsweep.datasets.shards import SliceRow, write_shards
from latentsweep.datasets.slices import PreparedDataset, open_dataset
from latentsweep.execution.worker import Brief
from latentsweep.stages.stage import Identity
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.loop.settings import Execution
from trainables.measures.weights import find_weights
from trainables.recipes import recipe_named


def plant(
    home: Home, name: str = "tiny", *, side: int = 64, each: int = 3, first: int = 0, fingerprint: str = ""
) -> PreparedDataset:
    """A dataset of ``each`` slices a split in ``home``, each of one grey: their numbers from ``first`` on."""
    folder = home.writable(home.datasets / name)
    splits = [split for split in ("train", "validation", "test") for _ in range(each)]
    rows = [
        SliceRow(split, split, number, split, split, encode(np.full((side, side), first + number, np.uint8)))
        for number, split in enumerate(splits)
    ]
    manifest = described(name, splits, each, side, fingerprint)
    write_manifest(folder, {**manifest, "shards": write_shards(folder, rows)})
    return open_dataset(home.datasets, name)


def described(name: str, splits: list[str], each: int, side: int, fingerprint: str = "") -> dict[str, Any]:
    """The manifest of such a dataset, without its shards."""
    by_split = dict.fromkeys(splits, each)
    numbers = (
        "slices",
        "subjects",
        "volumes",
        "files",
        "files_broken",
        "files_ignored",
        "slices_with_too_little_brain",
    )
    counts = dict.fromkeys(numbers, 0) | {"slices": len(splits), "subjects": 3}
    named = ("slices_by_split", "slices_by_split_by_slice", "subjects_by_split")
    return {
        "version": 1,
        "name": name,
        "created": "",
        "fingerprint": fingerprint or f"of {name}",
        "source": "made up",
        "settings": {"size": side},
        "counts": {**counts, **dict.fromkeys(named, by_split)},
        "rejects": [],
        "notes": [],
        "bytes": 0,
    }


def brief_on(home: Home, *, each: int = 3) -> Brief:
    """A worker's brief on such a dataset, which is prepared in ``home``."""
    dataset, weights = plant(home, each=each), find_weights()
    return Brief.of(
        home,
        Store.of(home),
        dataset.name,
        weights,
        Identity(recipe_named("smoke"), dataset.fingerprint, 0, weights.sha256),
        Execution(),
    )
