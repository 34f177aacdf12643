"""A prepared dataset of grey slices with bright discs, and the masks of the discs, that takes no time to prepare."""

from __future__ import annotations

import dataclasses

import numpy as np
from small_dataset import described

from latentsweep.datasets.manifest import write_manifest
from latentsweep.datasets.png import encode
from latentsweep.datasets.shards import SliceRow, write_shards
from latentsweep.datasets.slices import PreparedDataset, open_dataset
from latentsweep.storage.home import Home


def disc(number: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A slice and its mask, 1 and 2 on the disc's halves, both uint8 (S, S); every fifth slice has no disc."""
    random = np.random.default_rng(number)
    y, x, radius = (*random.uniform(side / 4, 3 * side / 4, 2), random.uniform(side / 10, side / 5))
    rows, columns = np.mgrid[:side, :side]
    inside = ((rows - y) ** 2 + (columns - x) ** 2 < radius**2) & (number % 5 > 0)
    image = 60 + 120 * inside + random.integers(0, 20, (side, side))
    return image.astype(np.uint8), (inside * (1 + (rows > y))).astype(np.uint8)


def plant_discs(
    home: Home,
    name: str = "discs",
    *,
    side: int = 32,
    each: int = 8,
    without: int = 0,
    empty: bool = False,
    patients: int = 1,
    labelled: bool = False,
) -> PreparedDataset:
    """A dataset of ``each`` slices a split in ``home`` with masks; the last ``without`` slices have none.

    With ``empty`` all masks are. The slices of a split are of so many ``patients`` in turn; with ``labelled`` of two,
    of grade HGG and LGG.
    """
    folder = home.writable(home.datasets / name)
    splits = [split for split in ("train", "validation", "test") for _ in range(each)]
    rows = []
    for number, split in enumerate(splits):
        image, mask = disc(number, side)
        patients = 2 if labelled else patients
        subject = split if patients == 1 else f"{split}-{number % patients}"
        rows.append(SliceRow(subject, split, number, split, split, encode(image), encode(mask * (not empty))))
    rows = [
        dataclasses.replace(row, mask=None if place >= len(rows) - without else row.mask)
        for place, row in enumerate(rows)
    ]
    manifest = described(name, splits, each, side)
    masked = sum(row.mask is not None for row in rows)
    manifest["counts"] |= {"slices_with_mask": masked, "slices_with_lesion": 0 if empty else masked * 4 // 5}
    if labelled:
        numbers = {row.subject: [int(row.subject[-1])] for row in rows}
        manifest["labels"] = {"categories": {"grade": ["HGG", "LGG"]}, "subjects": numbers}
    write_manifest(folder, {**manifest, "shards": write_shards(folder, rows, masks=True)})
    return open_dataset(home.datasets, name)
