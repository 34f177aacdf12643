"""RSNA-MICCAI, a competition on Kaggle: ``train/<case>/<series>/Image-<n>.dcm``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from latentsweep.datasets.catalogue import KNOWN, Dataset
from latentsweep.datasets.scans import Scan
from latentsweep.datasets.sources.discovery import Discovery, DoesNotFitError, Layout
from latentsweep.datasets.sources.sources import SourceFile, count_formats
from trainables.errors import DataError

SERIES = KNOWN["kaggle"].choices
FOLDERS = {series.lower(): series for series in SERIES}
"""The names of their folders, which copies of the set write in either case."""
KINDS = ("dicom", "picture")
"""The formats of the set and of its copies, the preferred one first."""
LABELLED = ("train", "training", "val", "valid", "validation")
TEST = ("test", "testing")
WITHDRAWN = ("00109", "00123", "00709")
"""Cases that the organisers withdrew, each for a blank series."""
ABOVE = "the source seems to be one case or series: give --source the folder that holds the cases"


def find_kaggle(files: Sequence[SourceFile], dataset: Dataset) -> Discovery:
    """The scans of one series. Cases of the folders train and val are taken, else those at the top, else of test."""
    series = dataset.series
    if series not in SERIES:
        raise DataError(f"--series must be one of {', '.join(SERIES)}; got {series!r}")
    kind = next((kind for kind in KINDS if any(is_kaggle(file, kind) for file in files)), KINDS[0])
    images = [file for file in files if file.format == kind and len(file.relative.parts) >= 3]
    labelled = [file for file in images if _folder_above(file) in LABELLED]
    test = [file for file in images if _folder_above(file) in TEST]
    chosen = labelled or [file for file in images if len(file.relative.parts) == 3] or test
    groups: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for file in chosen:
        folder = file.relative.parts[-2]
        groups[(file.relative.parts[-3], FOLDERS.get(folder.lower(), folder))].append(file.path)
    scans = {case: group for (case, folder), group in groups.items() if folder == series}
    if not scans:
        there = [known for known in SERIES if any(folder == known for _, folder in groups)]
        found = f"it has the series {', '.join(there)}" if there else f"it holds {count_formats(files)}"
        too_deep = not there and any(file.format == kind and len(file.relative.parts) < 3 for file in files)
        raise DoesNotFitError(
            f"kaggle must be laid out as train/<case>/{series}/Image-<n>.dcm, but in the source {found}: "
            "check --source and --series",
            ABOVE if too_deep else f"choose one of these with --series: {', '.join(there)}" if there else "",
        )
    return Discovery(
        scans=tuple(Scan(kind, case, f"{case}/{series}", tuple(group)) for case, group in scans.items()),
        subjects=frozenset(case for case, _ in groups),
        subject_rule="the case folder",
        notes=_notes(scans, test, taken=chosen is test),
    )


def is_kaggle(file: SourceFile, kind: str = KINDS[0]) -> bool:
    """Whether a file of the format ``kind`` lies in a folder that is named as a series of the set."""
    return file.relative.parent.name.lower() in FOLDERS and file.format == kind


def _folder_above(file: SourceFile) -> str:
    """The folder above that of the case, or nothing."""
    return "".join(file.relative.parts[:-3][-1:]).lower()


def _notes(scans: dict[str, list[Path]], test: Sequence[SourceFile], *, taken: bool) -> tuple[str, ...]:
    notes = []
    withdrawn = sum(case in WITHDRAWN for case in scans)
    if withdrawn:
        notes.append(
            f"{withdrawn} of the cases that the organisers withdrew for a blank series are in the source: "
            "their slices are kept where this series is readable and holds brain"
        )
    cases = len({file.relative.parts[-3] for file in test})
    if taken:
        notes.append(f"the source holds the competition's test folder alone: its {cases} cases are taken")
    elif cases:
        notes.append(f"cases of the competition's test folder that are left out: {cases}")
    return tuple(notes)


LAYOUT = Layout(find=find_kaggle, label="RSNA-MICCAI", recognises=is_kaggle)
