"""The table of layouts: how the files of a source make up scans, and whose each scan is.

A new layout is a function that finds the scans, and a row of :data:`LAYOUTS`.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from latentsweep.datasets.annotations import kind_of_annotation
from latentsweep.datasets.catalogue import KNOWN, Dataset, dataset_named
from latentsweep.datasets.contrasts import one_contrast
from latentsweep.datasets.pairing import pair_masks
from latentsweep.datasets.patients import find_patients
from latentsweep.datasets.readers import FORMATS, READERS, format_by_name
from latentsweep.datasets.scans import Scan
from latentsweep.datasets.selection import EVERYTHING, Selection
from latentsweep.datasets.sources import SourceFile, count_formats, list_source
from latentsweep.datasets.subjects import describe_rule, subject_rule
from latentsweep.datasets.visits import without_visit
from trainables.errors import DataError

KAGGLE_SERIES = ("FLAIR", "T1w", "T1wCE", "T2w")
KAGGLE_WITHDRAWN = ("00109", "00123", "00709")
"""Cases that the organisers of the RSNA-MICCAI challenge withdrew, each for a blank series."""
BRATS_MODALITIES = {"flair": ("flair", "t2f"), "t1ce": ("t1ce", "t1c")}
BRATS_NAME = re.compile(r"(?P<patient>.+)[_-](?P<modality>flair|t2f|t1ce|t1c|t1n|t1|t2w|t2|seg)\.nii(\.gz)?", re.I)
UNKNOWN_SUBJECTS = "subjects are unknown: each file counts as its own, so that one patient may be in several splits"


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """What a source holds."""

    scans: tuple[Scan, ...] = field(repr=False)
    subjects: frozenset[str] = field(repr=False)
    """All subjects, also those whose scans are of another modality."""
    subject_rule: str
    notes: tuple[str, ...] = ()
    listing: str = field(repr=False, default="")
    ignored: int = 0


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A way in which a source is laid out. ``find`` raises :class:`DataError` where the files don't fit."""

    find: Callable[[Sequence[SourceFile], Dataset], Discovery]
    label: str = ""
    recognises: Callable[[SourceFile], bool] = lambda file: False
    """Whether a file tells that its source has this layout, for the advice where another one doesn't fit."""


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
        takers = " and ".join(known.name for known in KNOWN.values() if known.series)
        raise DataError(f"--series is for {takers} and a dataset of your own, got it with {name}: leave it out")
    found = list_source(source)
    asked = dataclasses.replace(
        dataset, series=series or dataset.series, subject_from=subject_from or dataset.subject_from
    )
    discovery = LAYOUTS[asked.layout or ""].find(selection.wanted(found.files), asked)
    scans = pair_masks(discovery.scans, selection.allowed(found.files))
    taken = {path for scan in scans for path in (*scan.files, *scan.masks)}
    others = [file for file in selection.wanted(found.files) if file.path not in taken]
    drawn = Counter(kind_of_annotation(file.relative, format_by_name(file.path)) for file in others)
    return dataclasses.replace(
        discovery,
        scans=scans,
        listing=found.listing,
        ignored=sum(file.path not in taken for file in found.files),
        notes=(
            *discovery.notes,
            *found.notes,
            *(f"left out as {what}: {count}" for what, count in drawn.items() if what and asked.layout == "folder"),
        ),
    )


def _find_kaggle(files: Sequence[SourceFile], dataset: Dataset) -> Discovery:
    series = dataset.series
    if series not in KAGGLE_SERIES:
        raise DataError(f"--series must be one of {', '.join(KAGGLE_SERIES)}; got {series!r}")
    images = [file for file in files if file.format == "dicom" and len(file.relative.parts) >= 3]
    inside = [file for file in images if "train" in file.relative.parts[:-3][-1:]]
    images = inside or [file for file in images if len(file.relative.parts) == 3]
    groups: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for file in images:
        groups[(file.relative.parts[-3], file.relative.parts[-2])].append(file.path)
    chosen = {case: group for (case, folder), group in groups.items() if folder == series}
    if not chosen:
        there = [known for known in KAGGLE_SERIES if any(folder == known for _, folder in groups)]
        found = f"it has the series {', '.join(there)}" if there else f"it holds {count_formats(files)}"
        raise DataError(
            f"kaggle must be laid out as train/<case>/{series}/Image-<n>.dcm, but in the source {found}: "
            "check --source and --series" + _suggest_layout(files)
        )
    notes = []
    withdrawn = sum(case in KAGGLE_WITHDRAWN for case in chosen)
    if withdrawn:
        notes.append(
            f"{withdrawn} of the cases that the organisers withdrew for a blank series are in the source: "
            "their slices are kept where this series is readable and holds brain"
        )
    return Discovery(
        scans=tuple(Scan("dicom", case, f"{case}/{series}", tuple(group)) for case, group in chosen.items()),
        subjects=frozenset(case for case, _ in groups),
        subject_rule="the case folder",
        notes=tuple(notes),
    )


def _is_in_kaggle_series(file: SourceFile) -> bool:
    return file.format == "dicom" and file.relative.parent.name in KAGGLE_SERIES


@dataclass(frozen=True)
class BratsFile:
    """What the path of a BraTS volume tells: its folder below the source, its patient, its modality."""

    folder: PurePosixPath = field(repr=False)
    patient: str = field(repr=False)
    modality: str


def _find_brats(files: Sequence[SourceFile], dataset: Dataset) -> Discovery:
    wanted = BRATS_MODALITIES[dataset.modality or ""]
    named: list[tuple[SourceFile, BratsFile]] = []
    for file in files:
        path = file.relative
        if file.format == "nifti" and BRATS_NAME.fullmatch(path.parent.name):
            path = path.parent  # some mirrors hold a folder of the file's name, and the file in it by another
        if match := BRATS_NAME.fullmatch(path.name):
            patient = without_visit(match["patient"])
            named.append((file, BratsFile(path.parent, patient, match["modality"].lower())))
    subject_of = _brats_subjects({brats for _, brats in named})
    scans = [
        Scan("nifti", subject_of[brats], str(file.relative), (file.path,))
        for file, brats in named
        if brats.modality in wanted
    ]
    if not scans:
        endings = " or ".join(f"*{mark}{m}.nii.gz" for mark, m in zip("_-", wanted, strict=True))
        raise DataError(
            f"{dataset.name} must hold {endings} in a folder for each patient, but the source holds "
            f"{count_formats(files)}: check --source" + _suggest_layout(files)
        )
    return Discovery(
        scans=tuple(scans),
        subjects=frozenset(subject_of.values()),
        subject_rule="the patient that the file or its folder names, without the time point",
    )


def _brats_subjects(files: Collection[BratsFile]) -> dict[BratsFile, str]:
    """The subject of each file: the patient in its name, so that all modalities agree wherever they lie.

    A folder that is of one patient is the subject where its name begins the file's (its visits are one patient),
    and where the file's name, as ``scan_flair``, is that of other folders too and holds no number.
    """
    patients: dict[PurePosixPath, set[str]] = defaultdict(set)
    folders: dict[tuple[str, str], set[str]] = defaultdict(set)
    for file in files:
        patients[file.folder].add(file.patient)
        folders[file.patient, file.modality].add(file.folder.name)
    common = {p for (p, _), names in folders.items() if len(names) > 1 and not re.search(r"\d", p)}

    def subject(file: BratsFile) -> str:
        folder = file.folder.name
        if not folder or len(patients[file.folder]) > 1:
            return file.patient
        if file.patient.startswith((f"{folder}_", f"{folder}-")):
            return folder
        match = BRATS_NAME.fullmatch(f"{folder}.nii")
        return without_visit(match["patient"] if match else folder) if file.patient in common else file.patient

    return {file: subject(file) for file in files}


def _find_in_folder(files: Sequence[SourceFile], dataset: Dataset) -> Discovery:
    """The scans of a folder that holds one format, in whatever folders."""
    by_format: dict[str | None, list[SourceFile]] = defaultdict(list)
    annotations = 0
    for file in files:
        kind = file.format
        if kind and kind_of_annotation(file.relative, kind):
            annotations += 1
        else:
            by_format[kind].append(file)
    kinds = [kind for kind in READERS if kind in by_format]
    major = [kind for kind in kinds if not READERS[kind].minor]
    if len(major) > 1:
        counts = " and ".join(f"{len(by_format[kind])} {READERS[kind].label}" for kind in major)
        raise DataError(
            f"a source must hold one kind of scan, got {counts} files: give --source a folder with one of them"
        )
    if not kinds and annotations:
        raise DataError(
            f"the source must hold scans, but holds {annotations} masks, labels or probability maps alone: "
            "give --source the folder of their scans, or rename the files"
        )
    if not kinds:
        raise DataError(
            f"the source must hold {FORMATS} files, but holds {count_formats(files)}"
            + (": unpack the archives first" if any(file.is_archive for file in files) else "")
        )
    kind = (major or kinds)[0]
    chosen, notes = one_contrast(by_format[kind], kind, dataset.series)
    subject_of: Callable[[SourceFile], str | None]
    if dataset.subject_from is None:
        patients, told = find_patients(chosen, kind)
        notes += told
        subject_of = patients.get
    else:
        subject_of = subject_rule(dataset.subject_from, kind)
    rule = describe_rule(dataset.subject_from)
    groups: dict[tuple[str, str], list[Path]] = defaultdict(list)
    unmatched = 0
    for file in chosen:
        subject = subject_of(file)
        if subject is None:
            unmatched += 1
            continue
        alone = READERS[kind].one_file or subject == str(file.relative)
        groups[(subject, str(file.relative if alone else file.relative.parent))].append(file.path)
    if unmatched:
        raise DataError(
            f"--subject-from {rule} must find a subject in every path, and finds none for "
            f"{unmatched} of {len(chosen)} files: choose another rule"
        )
    if len({subject for subject, _ in groups}) == 1:
        notes += ("all files count as one subject: if they are not, prepare again with another --subject-from",)
    if all(len(group) == 1 and subject == key for (subject, key), group in groups.items()):
        notes += (UNKNOWN_SUBJECTS,)
    scans = (Scan(kind, subject, f"{subject}\0{key}", tuple(group)) for (subject, key), group in groups.items())
    return Discovery(
        scans=tuple(scans),
        subjects=frozenset(subject for subject, _ in groups),
        subject_rule=rule,
        notes=notes,
    )


def _suggest_layout(files: Sequence[SourceFile]) -> str:
    """What to prepare in place of a dataset whose layout the files don't have, as the end of a message."""
    for name, layout in LAYOUTS.items():
        if any(layout.recognises(file) for file in files):
            names = " or ".join(known.name for known in KNOWN.values() if known.layout == name)
            return f"; this looks like {layout.label}: prepare {names}"
    return "; for a dataset of your own choose another name"


LAYOUTS = {
    "brats": Layout(
        find=_find_brats,
        label="BraTS",
        recognises=lambda file: BRATS_NAME.fullmatch(file.relative.name) is not None,
    ),
    "kaggle": Layout(find=_find_kaggle, label="RSNA-MICCAI", recognises=_is_in_kaggle_series),
    "folder": Layout(find=_find_in_folder),
}
"""Every layout by the name that rows of :data:`latentsweep.datasets.catalogue.KNOWN` give it."""
