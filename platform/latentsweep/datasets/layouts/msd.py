"""Datasets that keep contrasts as channels of one file: the LGG segmentation set and Task01 of the MSD."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from latentsweep.datasets.catalogue import Dataset
from latentsweep.datasets.formats.limits import open_regular
from latentsweep.datasets.scans import Scan
from latentsweep.datasets.sources.discovery import Discovery, DoesNotFitError
from latentsweep.datasets.sources.sources import SourceFile, count_formats
from trainables.errors import DataError

LGG_NAME = re.compile(r"(?P<patient>TCGA_[A-Z0-9]{2}_[A-Z0-9]{4})(?P<visit>_\d+)_\d+(?P<mask>_mask)?\.tiff?", re.I)
LGG_CHANNELS = {"pre-contrast": 0, "FLAIR": 1, "post-contrast": 2}
MSD_NAME = re.compile(r"(?P<patient>BRATS_\d+)\.nii(\.gz)?", re.I)
MSD_IMAGES, MSD_TEST, MSD_TABLE = "imagestr", "imagests", "dataset.json"
MSD_CHANNELS = {"FLAIR": 0, "T1w": 1, "t1gd": 2, "T2w": 3}
"""What the set's own table says, where that is missing."""
MOST_TABLE_BYTES = 2**20
CHANNEL_NAME = re.compile(r"[\w+ -]{1,20}")


def find_lgg(files: Sequence[SourceFile], dataset: Dataset) -> Discovery:
    """A scan for each exam: its TIFFs, of which a channel is taken. The patient is the one of TCGA."""
    channel = _channel(dataset.series, LGG_CHANNELS)
    exams: dict[tuple[str, str], dict[str, SourceFile]] = defaultdict(dict)
    copies = 0
    for file in files:
        match = LGG_NAME.fullmatch(file.relative.name)
        if match and not match["mask"]:
            exam = exams[match["patient"].upper(), match["visit"]]
            copies += file.relative.name in exam
            exam.setdefault(file.relative.name, file)
    if not exams:
        raise DoesNotFitError(
            "lgg must hold TCGA_<site>_<patient>_<date>_<n>.tif in a folder for each patient, but the source holds "
            f"{count_formats(files)}: check --source"
        )
    return Discovery(
        scans=tuple(
            Scan("picture", patient, f"{patient}{visit}", tuple(file.path for file in exam.values()), channel=channel)
            for (patient, visit), exam in exams.items()
        ),
        subjects=frozenset(patient for patient, _ in exams),
        subject_rule="the TCGA patient that the file names",
        notes=(f"files that are copies of others by their names: {copies}",) if copies else (),
    )


def is_lgg(file: SourceFile) -> bool:
    """Whether a file is named as the LGG segmentation set names its own."""
    return LGG_NAME.fullmatch(file.relative.name) is not None


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
        folder: _channel(dataset.series, tables.get(folder, MSD_CHANNELS))
        for folder in sorted(set(map(_task, volumes)))
    }
    test = sum(file.relative.parent.name.lower() == MSD_TEST for file in files)
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
    return bool(MSD_NAME.fullmatch(file.relative.name)) and file.relative.parent.name.lower() == MSD_IMAGES


def _task(file: SourceFile) -> PurePosixPath:
    """The folder that holds imagesTr and the table of contents."""
    return file.relative.parent.parent


def _patient(file: SourceFile) -> str:
    return file.relative.name.partition(".")[0].upper()


def _tables(files: Iterable[SourceFile]) -> dict[PurePosixPath, dict[str, int]]:
    """The channels by their names that the tables of contents tell, by the folder of the table."""
    tables = {}
    for file in files:
        if file.relative.name.lower() == MSD_TABLE:
            tables[file.relative.parent] = _read_table(file.path)
    return tables


def _read_table(path: Path) -> dict[str, int]:
    """The channels by their names; those of the set's own table where this one tells none."""
    try:
        with open_regular(path) as file:
            named = json.loads(file.read(MOST_TABLE_BYTES))["modality"]
        return {str(name): int(number) for number, name in named.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return MSD_CHANNELS


def _channel(series: str | None, channels: Mapping[str, int]) -> int:
    """The number of a channel by its name, in either case; raises :class:`DataError` with the names for another."""
    for name, number in channels.items():
        if name.lower() == (series or "").lower():
            return number
    told = ", ".join(name for name in channels if CHANNEL_NAME.fullmatch(name))
    raise DataError(f"--series must be one of {told}; got {series!r}")
