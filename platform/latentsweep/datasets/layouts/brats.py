"""BraTS of every year: which files are of a modality, and whose they are."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from latentsweep.datasets.catalogue import Dataset
from latentsweep.datasets.scans import Scan
from latentsweep.datasets.sources.discovery import Discovery, DoesNotFitError, Layout
from latentsweep.datasets.sources.sources import SourceFile, count_formats
from latentsweep.datasets.sources.visits import VISIT, without_visit

MODALITIES = {"flair": ("flair", "t2f"), "t1ce": ("t1ce", "t1c")}
NAME = re.compile(r"(?P<patient>.+)[_-](?P<modality>flair|t2f|t1ce|t1c|t1n|t1|t2w|t2|seg)\.nii(\.gz)?", re.I)
OLD_NAME = re.compile(r"VSD\.Brain.*\.(MR_)?(?P<modality>flair|t1c|t1|t2|OT)\.\d+\.(mha|nii(\.gz)?)", re.I)
"""Of 2013 to 2016, each file in a folder of its own: the folder above is the patient's."""
OLD_VISIT = re.compile(r"(?P<patient>brats_(2013|tcia)_pat\d+)_\d+", re.I)
MASKS = ("seg", "ot")
BARE_NAME = re.compile(r"(?P<modality>flair|t2f|t1ce|t1c|t1n|t1|t2w|t2|seg)\.nii(\.gz)?", re.I)
"""Of copies that leave the patient to the folder."""


@dataclass(frozen=True)
class BratsFile:
    """What the path of a BraTS volume tells: its folder below the source, its patient, its modality."""

    folder: PurePosixPath = field(repr=False)
    patient: str = field(repr=False)
    modality: str


def find_brats(files: Sequence[SourceFile], dataset: Dataset) -> Discovery:
    wanted = MODALITIES[dataset.modality or ""]
    named: list[tuple[SourceFile, BratsFile]] = []
    masks: dict[PurePosixPath, Path] = {}
    for file in files:
        path = file.named
        if match := NAME.fullmatch(path.name):
            patient = without_visit(match["patient"])
            named.append((file, BratsFile(path.parent, patient, match["modality"].lower())))
        elif match := OLD_NAME.fullmatch(path.name) or BARE_NAME.fullmatch(path.name):
            exam = _exam(path)
            named.append((file, BratsFile(exam, _patient(exam), match["modality"].lower())))
            if match["modality"].lower() in MASKS:
                masks[exam] = file.path

    def mask_of(brats: BratsFile) -> tuple[Path, ...]:
        return (masks[brats.folder],) if brats.folder in masks else ()

    subject_of = _brats_subjects({brats for _, brats in named})
    scans = [
        Scan(file.format, subject_of[brats], str(file.relative), (file.path,), mask_of(brats))
        for file, brats in named
        if brats.modality in wanted and file.format
    ]
    if not scans:
        endings = " or ".join(f"*{mark}{m}.nii.gz" for mark, m in zip("_-", wanted, strict=True))
        raise DoesNotFitError(
            f"{dataset.name} must hold {endings} in a folder for each patient, but the source holds "
            f"{count_formats(files)}: check --source"
        )
    return Discovery(
        scans=tuple(scans),
        subjects=frozenset(subject_of.values()),
        subject_rule="the patient that the file or its folder names, without the time point",
    )


def _exam(path: PurePosixPath) -> PurePosixPath:
    """The folder of an exam: the one above the file that is not the file's own."""
    return path.parent.parent if path.parent.name.startswith("VSD.") else path.parent


def _patient(exam: PurePosixPath) -> str:
    """The patient whom the folder of an exam names, or one above it where that is a visit."""
    name = next((part for part in reversed(exam.parts) if not VISIT.fullmatch(part)), "")
    old = OLD_VISIT.fullmatch(name)
    return old["patient"] if old else without_visit(name)


def _brats_subjects(files: Collection[BratsFile]) -> dict[BratsFile, str]:
    """The subject of each file: the patient in its name, so that all modalities agree wherever they lie.

    A folder that is of one patient is the subject where its name begins the file's (its visits are one patient),
    and where the file's name, as ``scan_flair``, is that of other patients' folders too and holds no number:
    then the folder above visits is.
    """
    patients: dict[PurePosixPath, set[str]] = defaultdict(set)
    folders: dict[tuple[str, str], set[str]] = defaultdict(set)
    for file in files:
        patients[file.folder].add(file.patient)
        folders[file.patient, file.modality].add(_patient(file.folder))
    common = {p for (p, _), names in folders.items() if len(names) > 1 and not re.search(r"\d", p)}

    def subject(file: BratsFile) -> str:
        folder = file.folder.name
        if not folder or len(patients[file.folder]) > 1:
            return file.patient
        if file.patient.startswith((f"{folder}_", f"{folder}-")):
            return folder
        home = _patient(file.folder)
        match = NAME.fullmatch(f"{home}.nii")
        found = without_visit(match["patient"]) if match else home
        return found if found and file.patient in common else file.patient

    return {file: subject(file) for file in files}


def is_brats(file: SourceFile) -> bool:
    """Whether a file is named as BraTS names its own."""
    return any(pattern.fullmatch(file.relative.name) for pattern in (NAME, OLD_NAME))


LAYOUT = Layout(find=find_brats, label="BraTS", recognises=is_brats)
