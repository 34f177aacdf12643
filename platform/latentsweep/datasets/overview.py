"""A prepared dataset for people: its numbers, its intensities, a contact sheet, and its slices as PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from latentsweep.datasets.png import encode
from latentsweep.datasets.slices import PreparedDataset, Rule
from trainables.errors import DataError
from trainables.figures.overlay import outline

BINS = 16
CONTACT_SHEET = "contact-sheet.png"


def overview(dataset: PreparedDataset) -> dict[str, Any]:
    """The manifest's numbers with a histogram: ``pixels[i]`` counts the grey values from ``edges[i]`` on.

    Pixels of value 0 are counted apart, as ``background``.
    """
    values = np.zeros(256, np.int64)
    for slices in dataset.shards():
        for image in slices.images:  # one at a time: numpy counts in eight bytes a pixel
            values += np.bincount(image.ravel(), minlength=256)
    tissue = values.copy()
    tissue[0] = 0
    width = 256 // BINS
    return {
        key: dataset.manifest[key]
        for key in ("name", "created", "fingerprint", "settings", "counts", "rejects", "notes", "bytes")
    } | {
        "histogram": {
            "edges": list(range(0, 256, width)),
            "pixels": tissue.reshape(BINS, width).sum(axis=1).tolist(),
            "background": int(values[0]),
        }
    }


def contact_sheet(dataset: PreparedDataset, *, columns: int = 12, rows: int = 8) -> npt.NDArray[np.uint8]:
    """A (rows·S, columns·S) uint8 picture of slices spread evenly over the dataset, in its own order.

    Where the dataset has lesion masks, it has a third axis of three colours and shows their outlines.
    """
    if columns < 1 or rows < 1:
        raise DataError(f"a contact sheet must have at least one row and column, got {rows} × {columns}")
    total = sum(shard["rows"] for shard in dataset.manifest["shards"])
    places = np.unique(np.linspace(0, total - 1, min(total, rows * columns)).round().astype(int))
    columns = min(columns, len(places))
    rows = -(-len(places) // columns)
    size, start, shown = dataset.size, 0, 0
    cells = np.zeros((rows * columns, size, size, *((3,) if dataset.has_masks else ())), np.uint8)
    for slices in dataset.shards(masks=dataset.has_masks):
        for place in places[(places >= start) & (places < start + len(slices))] - start:
            image = slices.images[place]
            cells[shown] = image if slices.masks is None else outline(image, slices.masks[place])
            shown += 1
        start += len(slices)
    sheet = cells.reshape(rows, columns, *cells.shape[1:]).swapaxes(1, 2)
    return sheet.reshape(rows * size, columns * size, *cells.shape[3:])


def write_contact_sheet(dataset: PreparedDataset, path: Path | None = None) -> Path:
    """Write the contact sheet as a PNG, by default beside the shards; returns its path."""
    path = path or dataset.folder / CONTACT_SHEET
    try:
        Image.fromarray(contact_sheet(dataset)).save(path, format="PNG")
    except OSError as error:
        raise DataError(f"the contact sheet must go to a writable place: {path}: {error.strerror}") from None
    return path


def export_pngs(dataset: PreparedDataset, to: Path, *, split: str = "all", rule: Rule = "subject") -> int:
    """Write slices as 8-bit grey PNGs, ``<split>/<subject>-<volume>-<slice>.png`` below ``to``; returns how many.

    Raises :class:`DataError` where ``to`` holds files already or cannot be written.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise DataError(f"the folder to export to must be new or empty: {to}; choose another --to")
    written = 0
    for part in dataset.splits(rule) if split == "all" else (split,):
        slices = dataset.load(part, rule=rule)
        try:
            folder = to / part
            folder.mkdir(parents=True, exist_ok=True)
            names = zip(slices.subjects, slices.volumes, slices.indices, strict=True)
            for image, (subject, volume, index) in zip(slices.images, names, strict=True):
                (folder / f"{subject}-{volume}-{index:04d}.png").write_bytes(encode(image))
        except OSError as error:
            raise DataError(f"the folder to export to must be writable: {to}: {error.strerror}") from None
        written += len(slices)
    return written
