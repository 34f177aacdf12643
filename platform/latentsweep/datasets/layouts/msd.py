"""Task01 of the Medical Segmentation Decathlon: ``imagesTr/BRATS_<n>.nii.gz``, whose channels are contrasts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from latentsweep.datasets.catalogue import Dataset
from latentsweep.datasets.formats.limits import open_regular
from latentsweep.datasets.scans import Scan
from latentsweep.datasets.sources.channels import channel_named
from latentsweep.datasets.sources.discovery import Discovery, DoesNotFitError, Layout
from latentsweep.datasets.sources.sources import SourceFile, count_formats

NAME = re.compile(r"(?P<patient>BRATS_\d+)\.nii(\.gz)?", re.I)
IMAGES, TEST, TABLE = "imagestr", "imagests", "dataset.json"
CHANNELS = {"FLAIR": 0, "T1w": 1, "t1gd": 2, "T2w": 3}
"""What the set's own table says, where that is missing."""
MOST_TABLE_BYTES = 2**20


def find_msd(files: Sequence[SourceFile], dataset: Dataset) -> Discovery:
    """A scan for each volume of ``imagesTr``, of which a channel is taken by the name that dataset.json gives it."""
    volumes = [file for file in files if is_msd(file)]
    if not volumes:
        raise DoesNotFitError(
            "msd must hold Task01_BrainTumour with imagesTr/BRATS_<n>.nii.gz, but the source holds "
            f"{count_formats(files)}: check --source"
        )
    tables = _tables(files)
    channel_of = {
        folder: channel_named(dataset.series, tables.get(folder, CHANNELS))
        for folder in sorted(set(map(_task, volumes)))
    }
    test = sum(file.relative.parent.name.lower() == TEST for file in files)
    scans = [
        Scan("nifti", _patient(file), str(file.relative), (file.path,), channel=channel_of[_task(file)])
        for file in volumes
    ]
    return Discovery(
        scans=tuple(scans),
        subjects=frozenset(scan.subject for scan in scans),
        subject_rule="the patient that the file names",
        notes=(f"files of imagesTs, which have no labels, that are left out: {test}",) if test else (),
    )


def is_msd(file: SourceFile) -> bool:
    """Whether a file is named as a training image of MSD's Task01, and lies where they do."""
    return bool(NAME.fullmatch(file.relative.name)) and file.relative.parent.name.lower() == IMAGES


def _task(file: SourceFile) -> PurePosixPath:
    """The folder that holds imagesTr and the table of contents."""
    return file.relative.parent.parent


def _patient(file: SourceFile) -> str:
    return file.relative.name.partition(".")[0].upper()


def _tables(files: Iterable[SourceFile]) -> dict[PurePosixPath, dict[str, int]]:
    """The channels by their names that the tables of contents tell, by the folder of the table."""
    tables = {}
    for file in files:
        if file.relative.name.lower() == TABLE:
            tables[file.relative.parent] = _read_table(file.path)
    return tables


def _read_table(path: Path) -> dict[str, int]:
    """The channels by their names; those of the set's own table where this one tells none."""
    try:
        with open_regular(path) as file:
            named = json.loads(file.read(MOST_TABLE_BYTES))["modality"]
        return {str(name): int(number) for number, name in named.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return CHANNELS


LAYOUT = Layout(find=find_msd, label="Task01 of the MSD", recognises=is_msd)
