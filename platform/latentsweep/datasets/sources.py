"""Finding the scans of a source folder: the known layouts, a user's own, and who the subject is.

A raw path or header value lives only in a :class:`Scan`, which is never written, logged or shown.
"""

from __future__ import annotations

import dataclasses
import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from latentsweep.datasets.catalogue import KAGGLE_SERIES, KAGGLE_WITHDRAWN, KNOWN
from latentsweep.datasets.dicom import is_dicom, patient_id
from latentsweep.datasets.limits import MAX_DEPTH
from trainables.errors import DataError

PICTURES = (".png", ".jpg", ".jpeg")
DICOMS = (".dcm", ".dicom", ".ima")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
"""No archive is opened. A ``.nii.gz`` is none: it is one compressed file."""
BRATS_MODALITIES = {"flair": ("flair", "t2f"), "t1ce": ("t1ce", "t1c")}
BRATS_NAME = re.compile(r"(?P<patient>.+)[_-](?P<modality>flair|t2f|t1ce|t1c|t1n|t1|t2w|t2|seg)\.nii(\.gz)?", re.I)
BRATS_TIMEPOINT = re.compile(r"(?P<patient>BraTS-[A-Za-z]+-\d+)-\d{3}", re.I)
DEFAULT_SUBJECT = "the first folder below the source, else the DICOM PatientID, else each file its own"
LINKS = "links that were not followed, to folders, out of the source or to nowhere"
SPECIAL = "pipes, sockets and devices that were not read"
ARCHIVES = "archives that were not opened (unpack them first)"
DEEP = f"folders that were not entered, more than {MAX_DEPTH} below one another"
UNKNOWN_SUBJECTS = "subjects are unknown: each file counts as its own, so that one patient may be in several splits"


@dataclass(frozen=True)
class Scan:
    """One unit of work: the files of a volume (or of a folder of DICOM series), and whose it is."""

    kind: str
    subject: str = field(repr=False)
    key: str = field(repr=False)
    files: tuple[Path, ...] = field(repr=False, default=())


@dataclass(frozen=True)
class Discovery:
    """What a source holds: its scans, *all* its subjects (whatever the modality), and what was passed over."""

    scans: tuple[Scan, ...] = field(repr=False)
    subjects: frozenset[str] = field(repr=False)
    listing: str = field(repr=False)
    ignored: int
    subject_rule: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A file of the source: where it is, and its path below the source."""

    path: Path
    relative: PurePosixPath

    @property
    def suffix(self) -> str:
        name = self.relative.name.lower()
        return ".nii" if name.endswith(".nii.gz") else PurePosixPath(name).suffix


@dataclass(frozen=True)
class BratsFile:
    """What the path of a BraTS volume tells: its folder below the source, its patient, its modality."""

    folder: PurePosixPath = field(repr=False)
    patient: str = field(repr=False)
    modality: str


def discover(name: str, source: Path, *, series: str | None, subject_from: str | None) -> Discovery:
    """The scans of ``source`` under the layout of ``name``; raises :class:`DataError` where it does not fit."""
    if name in KNOWN and subject_from is not None:
        raise DataError(f"--subject-from is for a dataset of your own; {name} has its own rule: leave it out")
    if series is not None and name != "kaggle":
        raise DataError(f"--series is for kaggle alone, got it with {name}: leave it out")
    entries, listing, notes = _walk(source)
    if name == "kaggle":
        found = _kaggle(entries, listing, series or "FLAIR")
    elif name in KNOWN:
        found = _brats(entries, listing, name)
    else:
        found = _own(entries, listing, subject_from)
    return dataclasses.replace(found, notes=(*found.notes, *notes))


def _walk(source: Path) -> tuple[list[Entry], str, list[str]]:
    """Every file below the source in natural order, the listing as one text, and notes on what was passed over.

    Nothing outside the source is read: a link to a folder, and a link to a file out of the source, is not followed.
    """
    try:
        mode = source.stat().st_mode
    except (OSError, ValueError):
        raise DataError(f"the source folder does not exist: {source}; check --source") from None
    if not stat.S_ISDIR(mode):
        raise DataError("the source must be a folder, got a file: give --source the folder that holds it")
    root = source.resolve()
    entries: list[Entry] = []
    lines: list[str] = []
    passed: Counter[str] = Counter()
    for folder, folders, files in os.walk(root, onerror=_unreadable):
        passed[LINKS] += sum(os.path.islink(os.path.join(folder, name)) for name in folders)
        folders[:] = [f for f in folders if not f.startswith(".") and f != "__MACOSX"]
        if folders and len(Path(folder).relative_to(root).parts) >= MAX_DEPTH:
            passed[DEEP] += len(folders)
            folders.clear()
        for file in files:
            if file.startswith("."):
                continue
            path = Path(folder, file)
            try:
                status = path.stat()
                inside = not path.is_symlink() or Path(os.path.realpath(path)).is_relative_to(root)
            except OSError:
                inside = False
            if not inside:
                passed[LINKS] += 1
            elif not stat.S_ISREG(status.st_mode):
                passed[SPECIAL] += 1
            else:
                relative = PurePosixPath(path.relative_to(root).as_posix())
                entries.append(Entry(path, relative))
                passed[ARCHIVES] += entries[-1].suffix in ARCHIVE_SUFFIXES
                lines.append(f"{relative}\0{status.st_size}\0{status.st_mtime_ns}")
    notes = [f"{what}: {count}" for what, count in passed.items() if count]
    if not entries:
        seen = f" (passed over {'; '.join(notes)})" if notes else ""
        raise DataError(
            f"the source folder is empty{seen}: it must hold NIfTI, DICOM, PNG or JPEG files; check --source"
        )
    return sorted(entries, key=lambda entry: _natural(entry.relative)), "\n".join(sorted(lines)), notes


def _kaggle(entries: Sequence[Entry], listing: str, series: str) -> Discovery:
    if series not in KAGGLE_SERIES:
        raise DataError(f"--series must be one of {', '.join(KAGGLE_SERIES)}; got {series!r}")
    images = [e for e in entries if e.suffix in DICOMS and len(e.relative.parts) >= 3]
    inside = [e for e in images if "train" in e.relative.parts[:-3][-1:]]
    images = inside or [e for e in images if len(e.relative.parts) == 3]
    groups: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in images:
        groups[(entry.relative.parts[-3], entry.relative.parts[-2])].append(entry)
    chosen = {case: group for (case, folder), group in groups.items() if folder == series}
    if not chosen:
        there = [known for known in KAGGLE_SERIES if any(folder == known for _, folder in groups)]
        found = f"it has the series {', '.join(there)}" if there else f"it holds {_kinds(entries)}"
        raise DataError(
            f"kaggle must be laid out as train/<case>/{series}/Image-<n>.dcm, but in the source {found}: "
            "check --source and --series" + _other_layout(entries)
        )
    notes = []
    withdrawn = sum(case in KAGGLE_WITHDRAWN for case in chosen)
    if withdrawn:
        notes.append(
            f"{withdrawn} of the cases that the organisers withdrew for a blank series are in the source: "
            "their slices are kept where this series is readable and holds brain"
        )
    scans = [Scan("dicom", case, f"{case}/{series}", tuple(e.path for e in group)) for case, group in chosen.items()]
    return Discovery(
        scans=tuple(scans),
        subjects=frozenset(case for case, _ in groups),
        listing=listing,
        ignored=len(entries) - sum(len(scan.files) for scan in scans),
        subject_rule="the case folder",
        notes=tuple(notes),
    )


def _brats(entries: Sequence[Entry], listing: str, name: str) -> Discovery:
    wanted = BRATS_MODALITIES[KNOWN[name].modality]
    named: list[tuple[Entry, BratsFile]] = []
    for entry in entries:
        path = entry.relative
        if entry.suffix == ".nii" and BRATS_NAME.fullmatch(path.parent.name):
            path = path.parent  # some mirrors hold a folder of the file's name, and the file in it by another
        if match := BRATS_NAME.fullmatch(path.name):
            patient = _without_timepoint(match["patient"])
            named.append((entry, BratsFile(path.parent, patient, match["modality"].lower())))
    subject_of = _brats_subjects({file for _, file in named})
    scans = [
        Scan("nifti", subject_of[file], str(entry.relative), (entry.path,))
        for entry, file in named
        if file.modality in wanted
    ]
    if not scans:
        endings = " or ".join(f"*{mark}{m}.nii.gz" for mark, m in zip("_-", wanted, strict=True))
        raise DataError(
            f"{name} must hold {endings} in a folder for each patient, but the source holds {_kinds(entries)}: "
            "check --source" + _other_layout(entries)
        )
    return Discovery(
        scans=tuple(scans),
        subjects=frozenset(subject_of.values()),
        listing=listing,
        ignored=len(entries) - len(scans),
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
        if not file.folder.name or len(patients[file.folder]) > 1:
            return file.patient
        folder = file.folder.name
        if file.patient.startswith((f"{folder}_", f"{folder}-")):
            return folder
        match = BRATS_NAME.fullmatch(f"{folder}.nii")
        return _without_timepoint(match["patient"] if match else folder) if file.patient in common else file.patient

    return {file: subject(file) for file in files}


def _without_timepoint(patient: str) -> str:
    visit = BRATS_TIMEPOINT.fullmatch(patient)
    return visit["patient"] if visit else patient


def _own(entries: Sequence[Entry], listing: str, subject_from: str | None) -> Discovery:
    kinds: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        kinds[_kind(entry)].append(entry)
    if kinds["nifti"] and kinds["dicom"]:
        raise DataError(
            f"a source must hold one kind of scan, got {len(kinds['nifti'])} NIfTI and {len(kinds['dicom'])} DICOM "
            "files: give --source a folder with one of them"
        )
    kind = next((k for k in ("nifti", "dicom", "picture") if kinds[k]), None)
    if kind is None:
        packed = any(entry.suffix in ARCHIVE_SUFFIXES for entry in entries)
        raise DataError(
            f"the source must hold NIfTI, DICOM, PNG or JPEG files, but holds {_kinds(entries)}"
            + (": unpack the archives first" if packed else "")
        )
    rule = subject_rule(subject_from, kind)
    groups: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    unmatched = 0
    for entry in kinds[kind]:
        subject = rule(entry)
        if subject is None:
            unmatched += 1
            continue
        whole = kind == "nifti" or subject == str(entry.relative)
        groups[(subject, str(entry.relative if whole else entry.relative.parent))].append(entry)
    if unmatched:
        raise DataError(
            f"--subject-from {_form(subject_from)} must find a subject in every path, and finds none for "
            f"{unmatched} of {len(kinds[kind])} files: choose another rule"
        )
    notes = []
    if len({subject for subject, _ in groups}) == 1:
        notes.append("all files count as one subject: if they are not, prepare again with another --subject-from")
    if all(len(group) == 1 and subject == key for (subject, key), group in groups.items()):
        notes.append(UNKNOWN_SUBJECTS)
    return Discovery(
        scans=tuple(
            Scan(kind, subject, f"{subject}\0{key}", tuple(e.path for e in group))
            for (subject, key), group in groups.items()
        ),
        subjects=frozenset(subject for subject, _ in groups),
        listing=listing,
        ignored=len(entries) - len(kinds[kind]),
        subject_rule=_form(subject_from),
        notes=tuple(notes),
    )


def subject_rule(text: str | None, kind: str) -> Callable[[Entry], str | None]:
    """The function from a file to its subject that ``--subject-from`` names; raises :class:`DataError`.

    ``folder:N`` is the N-th folder below the source (negative from the file up), ``file`` each file,
    ``patient-id`` the DICOM tag, ``regex:(…)`` the first group on the path below the source.
    """
    form, _, value = (text or "default").partition(":")
    # What the user gave may hold names of patients: no message repeats it, nor re's, which quotes it.
    if form == "default" and not value:
        return lambda entry: entry.relative.parts[0] if len(entry.relative.parts) > 1 else _loose(entry, kind)
    if form == "folder" and re.fullmatch(r"-?[1-9]\d*", value):
        index = int(value) - (int(value) > 0)
        return lambda entry: _folder(entry, index)
    if form == "file" and not value:
        if kind == "dicom":
            raise DataError("--subject-from file would part the slices of a DICOM series: use folder:1 or patient-id")
        return lambda entry: str(entry.relative)
    if form == "patient-id" and not value and kind == "dicom":
        return lambda entry: _loose(entry, kind)
    if form == "regex" and value:
        try:
            pattern = re.compile(value)
        except re.error as error:
            raise DataError(
                "--subject-from regex:(…) must be a regular expression, and what was given is none from its "
                f"character {(error.pos or 0) + 1} on: correct it"
            ) from None
        return lambda entry: _matched(pattern, entry)
    raise DataError(
        "--subject-from must be folder:N, file, patient-id (DICOM only) or regex:(…), and what was given for the "
        f"{kind} files is none of them: choose one"
    )


def _form(subject_from: str | None) -> str:
    """What may be told of a ``--subject-from`` that is valid: its form, without the value."""
    return subject_from.partition(":")[0] if subject_from else f"default: {DEFAULT_SUBJECT}"


def _folder(entry: Entry, index: int) -> str | None:
    """Equal names count as one subject wherever they lie: two modalities of one patient stay together."""
    folders = entry.relative.parts[:-1]
    return folders[index] if -len(folders) <= index < len(folders) else None


def _matched(pattern: re.Pattern[str], entry: Entry) -> str | None:
    match = pattern.search(str(entry.relative))
    return None if match is None else next((group for group in match.groups() if group), match.group())


def _loose(entry: Entry, kind: str) -> str:
    """The subject of a file without a folder: a DICOM without PatientID is of the one unnamed subject."""
    if kind == "dicom":
        return f"PatientID {patient_id(entry.path) or ''}"
    return str(entry.relative)


def _kind(entry: Entry) -> str:
    if entry.suffix == ".nii":
        return "nifti"
    if entry.suffix in PICTURES:
        return "picture"
    if entry.relative.name.upper() != "DICOMDIR" and (entry.suffix in DICOMS or is_dicom(entry.path)):
        return "dicom"
    return "other"


def _kinds(entries: Sequence[Entry]) -> str:
    """How many files of which kind, for an error message: never their names."""
    counts: dict[str, int] = defaultdict(int)
    labels = {"nifti": "NIfTI", "dicom": "DICOM", "picture": "PNG or JPEG", "other": "other"}
    for entry in entries:
        archive = entry.suffix in ARCHIVE_SUFFIXES
        counts["archive" if archive else labels[_kind(entry)]] += 1
    return ", ".join(f"{count} {label} file{'s' * (count != 1)}" for label, count in sorted(counts.items()))


def _other_layout(entries: Sequence[Entry]) -> str:
    if any(BRATS_NAME.fullmatch(entry.relative.name) for entry in entries):
        return "; this looks like BraTS: prepare brats_flair or brats_t1ce"
    if any(e.suffix in DICOMS and e.relative.parts[-2:-1] in [(s,) for s in KAGGLE_SERIES] for e in entries):
        return "; this looks like RSNA-MICCAI: prepare kaggle"
    return "; for a dataset of your own choose another name"


def _natural(path: PurePosixPath) -> tuple[tuple[int, int, str], ...]:
    """Sorts Image-2 before Image-10."""
    return tuple((not t.isdecimal(), int(t[:18]) if t.isdecimal() else 0, t) for t in re.split(r"(\d+)", str(path)))


def _unreadable(error: OSError) -> None:
    raise DataError(f"a folder of the source cannot be read ({error.strerror}): mend its permissions") from None
