"""Who the patients of a source are where nobody says it: by folders, by the PatientID of headers, without visits."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from latentsweep.datasets.formats.readers import READERS
from latentsweep.datasets.sources.names import (
    CLASS,
    SPLIT,
    YEAR,
    Named,
    count_alike,
    groups_in,
    is_bare,
    is_exam,
    patient_of_folder,
    patient_of_path,
)
from latentsweep.datasets.sources.sources import SourceFile
from latentsweep.datasets.splits import join_subjects

LEAST_MEMBERS = 3
"""A folder whose headers tell of so many patients is a cohort."""
MOST_CLASSES, MOST_NUMBERED_CLASSES = 20, 5
"""So few folders that are called by words, or by numbers, may be classes."""
NUMBERED_PATIENT = re.compile(r"(p|pt|pat|patient|sub|subj|subject|case|id)[-_ ]?\d+", re.IGNORECASE)
"""A word for a patient with a number, which is never the name of a set."""
NOBODY = re.compile(
    r"anon[a-z]*|unknown|none|nil|null|nan?|not?|de|deident[a-z]*|identified|removed|redacted|deleted|hidden|blank|"
    r"empty|patients?|subject|person|name|id|available|applicable|given|test(ing)?|dummy|default|example|sample|demo|"
    r"phantom|john|jane|doe|volunteer|xx+|0+|12345(6(7(8(90?)?)?)?)?|(?P<digit>\d)(?P=digit){3,}",
    re.IGNORECASE,
)
"""Words and numbers of a PatientID that names nobody."""


def find_patients(files: Sequence[SourceFile], kind: str) -> tuple[dict[SourceFile, str], tuple[str, ...]]:
    """The subject of each file of one format, and notes.

    It is what :func:`~latentsweep.datasets.sources.names.patient_of_path` finds; a folder around everything, or
    around the DICOM files of several patients, is passed over. A DICOM file in no patient's folder is of its
    PatientID, another file is its own subject. Folders whose files have one PatientID are one subject, unless all
    folders have it: then it stands for nobody.
    """
    named = _headers(files, kind)
    told = {name for name in named.values() if not names_nobody(name)}
    passed = _cohorts({file: name for file, name in named.items() if name in told})
    passed |= _sets(files, READERS[kind].one_file)
    passed |= _wrappers(files, kind, passed)
    places = {file: patient_of_path(file.relative, passed, READERS[kind].one_file) for file in files}
    if kinds := _kinds_of_exams(places.values()):
        places = {file: patient_of_path(file.relative, passed | kinds, READERS[kind].one_file) for file in files}
    if READERS[kind].patient is None:
        subjects = {file: place.subject if place else str(file.relative) for file, place in places.items()}
        lost = sum(not (place and place.sure) for place in places.values())
        notes = (*unknown_subjects(lost, len(files)), *_groups(places), *_namesakes(places))
        notes += _classes(places, READERS[kind].one_file)
        return subjects, notes
    subjects, notes = _join_by_header(places, named, told)
    return subjects, notes if told else (*notes, *_groups(places), *_namesakes(places))


def names_nobody(patient: str) -> bool:
    """Whether a PatientID is of words for nobody alone: ``Anonymous^Patient``, and not ``ANON0012``."""
    return all(NOBODY.fullmatch(word) for word in re.findall(r"[^\W\d_]+|\d+", patient.replace("/", "")))


def unknown_subjects(count: int, files: int) -> tuple[str, ...]:
    """The note on ``count`` of ``files`` whose patient nothing names, if there are such."""
    note = (
        f"subjects are unknown for {count} of {files} files: each file, or each folder of a visit, counts as one, so "
        "that one patient may be in several splits"
    )
    return (note,) if count else ()


def alike_subjects(subjects: Collection[str]) -> tuple[str, ...]:
    """The note on subjects that may be visits of one patient by their names, if there are such."""
    count = count_alike(subjects)
    note = (
        f"subjects whose names differ from another's only at the end: {count} of {len(subjects)}; if they are visits "
        "of one patient, join them with --subject-from 'regex:(…)', a pattern of the part that they share"
    )
    return (note,) if count else ()


def _groups(places: Mapping[SourceFile, Named | None]) -> tuple[str, ...]:
    """The note on patients that may be groups: their folders hold several numbered ones that no other patient has."""
    below: dict[str, set[str]] = defaultdict(set)
    for file, place in places.items():
        inner = file.relative.relative_to(place.folder).parts[:-1] if place and place.sure and place.folder else ()
        if place and inner and re.search(r"\d", inner[0]) and patient_of_folder(inner[0]):
            below[place.subject].add(inner[0])
    holders = Counter(name for names in below.values() for name in names)
    count = sum(
        len(names) >= LEAST_MEMBERS
        and all(holders[name] == 1 and not name.lower().startswith(subject.lower()) for name in names)
        for subject, names in below.items()
    )
    note = (
        f"subjects whose folder holds {LEAST_MEMBERS} or more numbered folders of its own: {count}; if those are the "
        "patients, say which folder is one with --subject-from folder:N"
    )
    return (note,) if count else ()


def _namesakes(places: Mapping[SourceFile, Named | None]) -> tuple[str, ...]:
    """The note on subjects of one name in several classes, splits or sites, who may be several patients."""
    groups: dict[str, set[PurePosixPath]] = defaultdict(set)
    for place in places.values():
        if place and place.sure and place.folder:
            groups[place.subject].add(PurePosixPath(*groups_in(place.folder)))
    count = sum(len(names) > 1 for names in groups.values())
    note = (
        f"subjects of one name in several classes, splits or sites, each taken for one patient: {count}; if they are "
        "several, tell them apart with --subject-from 'regex:(…)'"
    )
    return (note,) if count else ()


def _classes(places: Mapping[SourceFile, Named | None], volumes: bool) -> tuple[str, ...]:
    """The note on pictures whose patients may be classes: few folders that are called by a word, or by a number."""
    names = {place.subject for place in places.values() if place and place.folder}
    words = not any(re.search(r"\d", name) for name in names)
    few = len(names) <= (MOST_CLASSES if words else MOST_NUMBERED_CLASSES) and (words or all(map(is_bare, names)))
    if volumes or not names or not few:
        return ()
    return (f"subjects are {len(names)} folders of pictures: if these are classes, add --subject-from file",)


def _join_by_header(
    places: Mapping[SourceFile, Named | None], named: Mapping[SourceFile, str], told: Collection[str]
) -> tuple[dict[SourceFile, str], tuple[str, ...]]:
    folder = {
        file: place.subject for file, place in places.items() if place and (place.sure or named[file] not in told)
    }
    patients: dict[str, set[str]] = {name: set() for name in sorted(set(folder.values()))}
    for file, name in folder.items():
        if named[file] in told and not (len(told) == 1 and len(patients) > 1):
            patients[name].add(named[file])
    group = join_subjects(list(patients), patients)
    home = {patient: group[name] for name, here in patients.items() for patient in here}
    subjects = {
        file: group[folder[file]] if file in folder else home.get(named[file], f"PatientID {named[file]}")
        for file in places
    }
    joined = len(patients) - len(set(group.values()))
    most = max(Counter(patient for here in patients.values() for patient in here).values(), default=0)
    notes = (
        (f"folders joined to others for an equal PatientID: {joined}; at most {most} have the same",)
        if joined
        else ()
    )
    lost = sum(not place.sure and named[file] not in told for file, place in places.items() if place)
    return subjects, (*notes, *unknown_subjects(lost, len(places)))


def _headers(files: Sequence[SourceFile], kind: str) -> dict[SourceFile, str]:
    """The PatientID of each file, empty where it tells none: files of several patients may share a folder."""
    read = READERS[kind].patient
    return {file: (read(file.path) or "") if read else "" for file in files}


def _cohorts(named: Mapping[SourceFile, str]) -> set[PurePosixPath]:
    """The folders whose files' headers tell of several patients, each in a folder of its own name."""
    patients: dict[PurePosixPath, set[str]] = defaultdict(set)
    for file, name in named.items():
        for folder in file.relative.parents:
            patients[folder].add(name)
    of_name = Counter(folder.name for folder in patients)
    below: dict[PurePosixPath, list[str]] = defaultdict(list)
    for folder in patients:
        below[folder.parent].append(folder.name)
    return {
        folder
        for folder, here in patients.items()
        if folder.name
        and len(here) >= LEAST_MEMBERS
        and all(
            of_name[name] == 1 and patient_of_folder(name) and _is_member(name, folder.name) for name in below[folder]
        )
    }


def _sets(files: Sequence[SourceFile], volumes: bool) -> set[PurePosixPath]:
    """The folders that tell by what is in them that they are called after a set, or a year, and no patient."""
    below: dict[PurePosixPath, set[str]] = defaultdict(set)
    for folder in {folder for file in files for folder in file.relative.parents if folder.name}:
        below[folder.parent].add(folder.name)
    sets = {folder for folder, names in below.items() if _is_called_after(folder.name, names)}
    sets |= _holders(files, below, volumes)
    for folder, names in below.items():
        years = [folder / name for name in names if YEAR.fullmatch(name)]
        inner = Counter(name for year in years for name in below.get(year, ()) if patient_of_folder(name))
        if len(years) == len(names) and max(inner.values(), default=0) > 1:
            sets.update(years)  # one patient is in several
    return sets


def _holders(
    files: Sequence[SourceFile], below: Mapping[PurePosixPath, Collection[str]], volumes: bool
) -> set[PurePosixPath]:
    """The folders of splits or classes, but for those of patients of whom some scans are of a class, as a lesion.

    A patient's is called by a word for one and a number, or like other folders but for the number, and what is in it
    tells no other patient.
    """
    like = Counter(re.sub(r"\d+", "0", name) for name in {folder.name for folder in below})
    found: set[PurePosixPath] = set()
    asked: set[PurePosixPath] = set()
    for folder, names in below.items():
        if all(SPLIT.fullmatch(each) or (len(names) > 1 and CLASS.fullmatch(each)) for each in names):
            alone = like[re.sub(r"\d+", "0", folder.name)] == 1 or YEAR.search(folder.name)
            if not re.search(r"\d", folder.name) or (alone and not NUMBERED_PATIENT.fullmatch(folder.name)):
                found.add(folder)
            elif not NUMBERED_PATIENT.fullmatch(folder.name):
                asked.add(folder)
    for file in files:
        for folder in asked.intersection(file.relative.parents) - found:
            place = patient_of_path(file.relative.relative_to(folder), (), volumes)
            if place and place.sure and _tells_another(place, folder.name):
                found.add(folder)
    return found


def _tells_another(place: Named, patient: str) -> bool:
    """Whether what a path tells below the folder of a patient is the name of another one, and no number of a scan."""
    name = PurePosixPath(place.subject).name
    alone = place.folder is None and is_bare(name)
    return bool(re.search(r"\d", name)) and not alone and _is_member(name, patient)


def _is_called_after(name: str, inner: Collection[str]) -> bool:
    """Whether a folder holds patients that are called after it: ``GLI/BraTS-GLI-00001``."""
    called = re.compile(rf"(^|.*[-_ ]){re.escape(name)}[-_ ]?\d{{3}}.*", re.IGNORECASE)
    patients = {patient_of_folder(each) or "" for each in inner}
    return not re.search(r"\d", name) and len(patients) >= LEAST_MEMBERS and all(map(called.fullmatch, patients))


def _kinds_of_exams(places: Iterable[Named | None]) -> set[PurePosixPath]:
    """The folders that most exams hold, of fewer names than exams: ``left`` in ``study001`` to ``study100``.

    A name with a digit, as ``P1`` in ``session1`` to ``session5``, is that of a patient who came to each.
    """
    exam_of: dict[PurePosixPath, str] = {}
    for folder in {place.folder for place in places if place and place.sure and place.folder}:
        above = [each.name for each in folder.parents if is_exam(each.name)]
        if above and not re.search(r"\d", folder.name):
            exam_of[folder] = above[-1]
    exams, names = set(exam_of.values()), {folder.name for folder in exam_of}
    pairs = {(exam, folder.name) for folder, exam in exam_of.items()}
    return set(exam_of) if len(names) < len(exams) and 2 * len(pairs) > len(exams) * len(names) else set()


def _wrappers(files: Sequence[SourceFile], kind: str, passed: Collection[PurePosixPath]) -> set[PurePosixPath]:
    """The folders that hold all files and are called after a set: the paths below them name several patients."""
    arounds = [folder for folder in _common_folders(files) if folder not in passed and patient_of_folder(folder.name)]
    for count, around in enumerate(arounds, 1):
        found = set(arounds[:count])
        inner = [patient_of_path(file.relative, {*passed, *found}, READERS[kind].one_file) for file in files]
        names = {place.subject: place.folder is not None for place in inner if place and place.sure}
        if (
            all(place and place.sure for place in inner)
            and len(names) > 1
            and all(_tells_member(name, by_folder, around.name) for name, by_folder in names.items())
        ):
            return found
    return set()


def _common_folders(files: Sequence[SourceFile]) -> list[PurePosixPath]:
    """The folders that hold all files, from the top."""
    common = set.intersection(*(set(file.relative.parents) for file in files))
    return sorted((folder for folder in common if folder.name), key=lambda folder: len(folder.parts))


def _tells_member(name: str, by_folder: bool, around: str) -> bool:
    """Whether a name tells a patient of the set that the folder ``around`` is called after."""
    bare_ones = by_folder and (not re.search(r"\d", around) or YEAR.search(around) is not None)
    return bool(re.search(r"\d", name)) and (bare_ones or not is_bare(name)) and _is_member(name, around)


def _is_member(name: str, around: str) -> bool:
    """Whether a name may be that of a patient in ``around``, as ``GBM-001`` in ``GBM``, and not of a visit of it.

    In ``anna``, ``anna_V1`` is a visit, as whatever begins with ``P1`` is in ``P1``.
    """
    if not name.lower().startswith(around.lower()):
        return True
    rest = name[len(around) :].strip("-_ ")
    return bool(rest and not re.search(r"\d", around) and patient_of_folder(rest))
