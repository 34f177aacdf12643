"""A prepared dataset that takes no time to prepare."""

from __future__ import annotations

import numpy as np

from latentsweep.datasets.slices import PreparedDataset, SliceRow, encode, open_dataset, write_manifest, write_shards
from latentsweep.home import Home


def plant(home: Home, name: str = "tiny", *, side: int = 64, each: int = 3) -> PreparedDataset:
    """A dataset of ``each`` slices a split in ``home``, each of one grey: their numbers."""
    folder = home.writable(home.datasets / name)
    splits = [split for split in ("train", "validation", "test") for _ in range(each)]
    rows = [
        SliceRow(split, split, number, split, split, encode(np.full((side, side), number, np.uint8)))
        for number, split in enumerate(splits)
    ]
    counts = {f"slices_by_split{rule}": dict.fromkeys(splits, each) for rule in ("", "_by_slice")}
    described = {"version": 1, "fingerprint": f"of {name}", "settings": {"size": side}, "counts": counts}
    write_manifest(folder, {**described, "shards": write_shards(folder, rows)})
    return open_dataset(home.datasets, name)
