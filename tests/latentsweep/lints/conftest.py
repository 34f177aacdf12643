"""Made-up slices, and prepared datasets that hold exactly the slices a test wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from made_up_manifest import made_up
from scipy import ndimage

from latentsweep.datasets.manifest import write_manifest
from latentsweep.datasets.png import encode
from latentsweep.datasets.shards import SliceRow, write_shards
from latentsweep.datasets.slices import PreparedDataset, open_dataset

SIDE = 64
Row = tuple[str, str, str, np.ndarray]
"""Subject, split by subject, split by slice, image (SIDE, SIDE) uint8."""


@pytest.fixture
def brain() -> Callable[..., np.ndarray]:
    """``brain(patient)``: (SIDE, SIDE) uint8, textured tissue in an ellipse, black around it."""

    def make(patient: int) -> np.ndarray:
        random = np.random.default_rng(patient)
        y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
        inside = (x / random.uniform(0.6, 0.75)) ** 2 + (y / random.uniform(0.75, 0.9)) ** 2 < 1
        texture = sum(
            ndimage.gaussian_filter(random.normal(size=(SIDE, SIDE)), sigma) * sigma * 60 for sigma in (1.5, 3, 6)
        )
        return np.where(inside, np.clip(140 + texture, 30, 255), 0).round().astype(np.uint8)

    return make


@pytest.fixture
def planted(tmp_path: Path) -> Callable[..., PreparedDataset]:
    """``planted(name, rows)``: a prepared dataset of those rows, opened."""

    def plant(name: str, rows: Sequence[Row]) -> PreparedDataset:
        folder = tmp_path / "datasets" / name
        folder.mkdir(parents=True)
        shards = write_shards(
            folder,
            [
                SliceRow(subject, f"volume of {subject}", number, split, by_slice, encode(image))
                for number, (subject, split, by_slice, image) in enumerate(rows)
            ],
        )
        size = rows[0][3].shape[0]
        facts = {"version": 1, "name": name, "fingerprint": name, "settings": {"size": size}, "shards": shards}
        write_manifest(folder, made_up() | facts)
        return open_dataset(folder.parent, name)

    return plant


@pytest.fixture
def rows(brain: Callable[..., np.ndarray]) -> Callable[..., list[Row]]:
    """``rows(patients, change)``: a slice of each patient, 4 in 10 for training, split alike by both rules."""

    def make(patients: Sequence[int], change: Callable[[np.ndarray], np.ndarray] = lambda image: image) -> list[Row]:
        splits = ["train"] * 4 + ["validation"] * 3 + ["test"] * 3
        return [(f"p{p}", splits[i % 10], splits[i % 10], change(brain(p))) for i, p in enumerate(patients)]

    return make
