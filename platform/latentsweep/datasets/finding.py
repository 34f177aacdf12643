"""Finds the scans of a source by the layout of its dataset."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from latentsweep.datasets.catalogue import KNOWN, dataset_named
from latentsweep.datasets.formats.readers import format_by_name
from latentsweep.datasets.layouts import LAYOUTS
from latentsweep.datasets.scans import Scan
from latentsweep.datasets.sources.annotations import kind_of_annotation
from latentsweep.datasets.sources.discovery import Discovery, DoesNotFitError
from latentsweep.datasets.sources.pairing import pair_masks
from latentsweep.datasets.sources.selection import EVERYTHING, Selection
from latentsweep.datasets.sources.sources import UNPACK, SourceFile, list_source
from trainables.errors import DataError

MIXED = "pictures of the LGG segmentation set hold three contrasts, which are mixed here: prepare lgg to take one"


def discover(
    name: str,
    source: Path,
    *,
    series: str | None,
    subject_from: str | None,
    selection: Selection = EVERYTHING,
) -> Discovery:
    """The scans of ``source`` under the layout of ``name``; raises :class:`DataError` where it does not fit.

    The lesion mask of a scan needs not be among the files that ``selection`` includes.
    """
    dataset = dataset_named(name)
    if name in KNOWN and subject_from is not None:
        raise DataError(f"--subject-from is for a dataset of your own; {name} has its own rule: leave it out")
    if series is not None and name in KNOWN and dataset.series is None:
        takers = ", ".join(known.name for known in KNOWN.values() if known.series)
        raise DataError(f"--series is for {takers} and a dataset of your own, got it with {name}: leave it out")
    found = list_source(source)
    asked = dataclasses.replace(
        dataset, series=series or dataset.series, subject_from=subject_from or dataset.subject_from
    )
    try:
        discovery = LAYOUTS[asked.layout or ""].find(selection.wanted(found.files), asked)
    except DoesNotFitError as error:
        advice = error.advice or _suggest(selection.wanted(found.files), asked.layout)
        raise DataError(f"{error}; {advice}") from None
    scans = pair_masks(discovery.scans, selection.allowed(found.files))
    taken = {path for scan in scans for path in (*scan.files, *scan.masks)}
    others = [file for file in selection.wanted(found.files) if file.path not in taken]
    mixed = any(LAYOUTS["lgg"].recognises(file) for file in found.files if file.path in taken)
    drawn = Counter(kind_of_annotation(file.relative, format_by_name(file.path)) for file in others)
    return dataclasses.replace(
        discovery,
        scans=scans,
        listing=found.listing,
        examples=_examples(scans, found.files),
        ignored=sum(file.path not in taken for file in found.files),
        notes=(
            *discovery.notes,
            *found.notes,
            *((MIXED,) if mixed and asked.layout == "folder" else ()),
            *(f"left out as {what}: {count}" for what, count in drawn.items() if what and asked.layout == "folder"),
        ),
    )


def _examples(scans: Sequence[Scan], files: Sequence[SourceFile]) -> tuple[tuple[str, str], ...]:
    """A file of the first, the middle and the last subject that has scans."""
    relative = {file.path: str(file.relative) for file in files}
    first = {scan.subject: relative[scan.files[0]] for scan in reversed(scans) if scan.files}
    told = [(path, subject) for subject, path in reversed(first.items())]
    return tuple(told[place] for place in sorted({0, len(told) // 2, len(told) - 1}) if told)


def _suggest(files: Sequence[SourceFile], layout: str | None) -> str:
    """What to do where the files don't have this layout, as the end of a message."""
    if any(file.is_archive for file in files) and not any(file.format for file in files):
        return UNPACK
    for name, other in LAYOUTS.items():
        if name != layout and any(other.recognises(file) for file in files):
            names = " or ".join(known.name for known in KNOWN.values() if known.layout == name)
            return f"this looks like {other.label}: prepare {names}"
    return "for a dataset of your own choose another name"
