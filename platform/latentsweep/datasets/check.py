"""What a preparation would make of a source, before anything of it is written into the home.

It reads all scans as a preparation does, so it takes as long. It names no file and no patient: patients are numbers.
"""

from __future__ import annotations

import io
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from latentsweep.datasets.catalogue import dataset_named
from latentsweep.datasets.formats.readers import READERS
from latentsweep.datasets.png import decode
from latentsweep.datasets.preparation import Progress, check_options, find_scans, mask_notes, plane_notes, settings_of
from latentsweep.datasets.scans import Scan, read_scans
from latentsweep.datasets.sources.discovery import Discovery
from latentsweep.datasets.sources.selection import EVERYTHING, Selection
from latentsweep.datasets.spool import ScanResult, Spool
from trainables.figures.overlay import outline

PICTURE_SIDE = 128


@dataclass(frozen=True)
class CheckedVolume:
    """A volume that would be prepared: its patient's number, what it is, and its middle slice."""

    patient: int
    format: str
    plane: str
    files: int
    slices: int
    lesions: int | None
    """Slices with lesion; None without masks."""
    picture: bytes = field(repr=False)
    """A JPEG of at most PICTURE_SIDE pixels a side, with the outline of the lesion."""


@dataclass(frozen=True)
class Check:
    """What a preparation would read and leave out."""

    name: str
    settings: dict[str, Any]
    patients: int
    volumes: list[CheckedVolume]
    left_out: list[tuple[int, int, str]]
    """(patient, files, reason)."""
    dropped: int
    """Slices with too little brain."""
    ignored: int
    """Files that are no scan of this dataset."""
    notes: list[str]

    @property
    def contrast(self) -> str:
        """The modality or the series that is taken, in words."""
        told = [self.settings[key] for key in ("modality", "series") if self.settings[key]]
        return ", ".join(told) or "whatever the source holds"


def check(
    name: str,
    *,
    home: Path,
    source: Path | None = None,
    series: str | None = None,
    subject_from: str | None = None,
    selection: Selection = EVERYTHING,
    size: int = 128,
    jobs: int | None = None,
    progress: Progress | None = None,
    tell: Callable[[Discovery], None] | None = None,
) -> Check:
    """Reads ``source`` as :func:`latentsweep.datasets.preparation.prepare` does, and writes nothing.

    Raises :class:`~trainables.errors.DataError` where the source or the settings cannot be used.
    """
    check_options(name, size, jobs)
    dataset = dataset_named(name)
    found = find_scans(dataset, source, series, subject_from, home, selection)
    if tell is not None:
        tell(found)
    settings = settings_of(dataset, found, size, series)
    numbers = {subject: number for number, subject in enumerate(dict.fromkeys(s.subject for s in found.scans), 1)}
    volumes: list[CheckedVolume] = []
    left_out: Counter[tuple[int, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool.at(Path(folder) / "spool", "")
        results: dict[int, ScanResult] = {}
        for number, result in read_scans(found.scans, size, jobs, spool):
            results[number] = result
            if progress is not None:
                progress(len(results), len(found.scans))
        for number, scan in enumerate(found.scans):
            patient = numbers[scan.subject]
            volumes += _volumes(scan, results[number], patient, spool, number)
            for reason, _, files in results[number].rejects:
                left_out[patient, reason] += files
    masked = sum(bool(scan.masks) for scan in found.scans)
    beside = [f"lesion masks lie beside {masked} of {len(found.scans)} scans"] if masked else []
    return Check(
        name=name,
        settings=settings,
        patients=len({volume.patient for volume in volumes}),
        volumes=volumes,
        left_out=[(patient, files, reason) for (patient, reason), files in sorted(left_out.items())],
        dropped=sum(result.dropped for result in results.values()),
        ignored=found.ignored,
        notes=[*found.notes, *plane_notes(results.values()), *beside, *mask_notes(results.values())],
    )


def _volumes(scan: Scan, result: ScanResult, patient: int, spool: Spool, number: int) -> Iterator[CheckedVolume]:
    for place, (slices, plane) in enumerate(zip(result.volumes, result.planes, strict=True)):
        png, mask = list(spool.pictures(number, place))[len(slices) // 2]
        image = decode(png)
        lesions = [image.lesion for image in slices if image.lesion is not None]
        yield CheckedVolume(
            patient=patient,
            format=READERS[scan.kind].label if scan.kind in READERS else scan.kind,
            plane=plane,
            files=len(scan.files),
            slices=len(slices),
            lesions=sum(map(bool, lesions)) if lesions else None,
            picture=_encode(image if mask is None else outline(image, decode(mask))),
        )


def _encode(picture: npt.NDArray[np.uint8]) -> bytes:
    image, buffer = Image.fromarray(picture), io.BytesIO()
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    image.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()
