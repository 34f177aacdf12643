"""Who the patients of a source are where nobody says it: by folders, by the PatientID of headers, without visits."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath

from latentsweep.datasets.formats.readers import READERS
from latentsweep.datasets.sources.cohorts import LEAST_MEMBERS, find_patients_like_visits, find_sets, kinds_of_exams
from latentsweep.datasets.sources.names import (
    Named,
    count_alike,
    groups_in,
    is_bare,
    patient_of_folder,
    patient_of_path,
)
from latentsweep.datasets.sources.sources import SourceFile
from latentsweep.datasets.splits import join_subjects

MOST_CLASSES, MOST_NUMBERED_CLASSES = 20, 5
"""So few folders that are called by words, or by numbers, may be classes."""
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
    volumes = READERS[kind].one_file
    passed = find_sets(files, {file: name for file, name in named.items() if name in told}, volumes)
    meant = set() if told else find_patients_like_visits(files, volumes)
    places = {file: patient_of_path(file.relative, passed, volumes, meant) for file in files}
    if kinds := kinds_of_exams(places.values()):
        places = {file: patient_of_path(file.relative, passed | kinds, volumes, meant) for file in files}
    places = _with_one_spelling(places)
    if READERS[kind].patient is None:
        subjects = {file: place.subject if place else str(file.relative) for file, place in places.items()}
        lost = sum(not (place and place.sure) for place in places.values())
        notes = (*unknown_subjects(lost, len(files)), *_groups(places), *_namesakes(places))
        notes += _classes(places, volumes)
        return subjects, notes
    subjects, notes = _join_by_header(places, named, told)
    return subjects, notes if told else (*notes, *_groups(places), *_namesakes(places))


def _with_one_spelling(places: Mapping[SourceFile, Named | None]) -> dict[SourceFile, Named | None]:
    """The places with one subject for names that differ by capitals alone, as ``P01`` and ``p01``."""
    first: dict[str, str] = {}
    for name in sorted({place.subject for place in places.values() if place}):
        first.setdefault(name.casefold(), name)
    return {
        file: place and dataclasses.replace(place, subject=first[place.subject.casefold()])
        for file, place in places.items()
    }


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
