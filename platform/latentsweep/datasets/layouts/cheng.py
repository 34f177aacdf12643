"""The brain tumours of Cheng et al. as figshare has them: ``<n>.mat``, a slice in each."""

from __future__ import annotations

from collections.abc import Sequence

from latentsweep.datasets.catalogue import Dataset
from latentsweep.datasets.formats.cheng import patient_of
from latentsweep.datasets.scans import Scan
from latentsweep.datasets.sources.discovery import Discovery, DoesNotFitError, Layout
from latentsweep.datasets.sources.sources import SourceFile, count_formats

KIND = "cheng"
NAMELESS = "files that name no patient, each of which counts as a subject of its own"


def find_cheng(files: Sequence[SourceFile], dataset: Dataset) -> Discovery:
    """A scan for each slice, with the mask in its file. The patient is the PID that the file names."""
    slices = [file for file in files if is_cheng(file)]
    if not slices:
        raise DoesNotFitError(
            f"{dataset.name} must hold <n>.mat files of MATLAB 7.3, but the source holds {count_formats(files)}: "
            "check --source"
        )
    named = {file: patient_of(file.path) for file in slices}
    scans = tuple(
        Scan(KIND, named[file] or str(file.relative), str(file.relative), (file.path,), (file.path,))
        for file in slices
    )
    nameless = sum(name is None for name in named.values())
    return Discovery(
        scans=scans,
        subjects=frozenset(scan.subject for scan in scans),
        subject_rule="the patient (PID) that the file names",
        notes=(f"{NAMELESS}: {nameless}",) if nameless else (),
    )


def is_cheng(file: SourceFile) -> bool:
    """Whether a file is of MATLAB 7.3, as those of the set are."""
    return file.format == KIND


LAYOUT = Layout(find=find_cheng, label="the brain tumours of Cheng et al.", recognises=is_cheng)
