"""Which folders hold several patients by what is in them: cohorts, sets, years, and what every exam holds."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from latentsweep.datasets.sources.names import (
    CLASS,
    SPLIT,
    YEAR,
    Named,
    is_bare,
    is_exam,
    patient_of_folder,
    patient_of_path,
)
from latentsweep.datasets.sources.sources import SourceFile
from latentsweep.datasets.sources.visits import VISIT

LEAST_MEMBERS = 3
"""A folder whose headers tell of so many patients is a cohort."""
NUMBERED_PATIENT = re.compile(r"(p|pt|pat|patient|sub|subj|subject|case|id)[-_ ]?\d+", re.IGNORECASE)
"""A word for a patient with a number, which is never the name of a set."""


def find_sets(files: Sequence[SourceFile], named: Mapping[SourceFile, str], volumes: bool) -> set[PurePosixPath]:
    """The folders that are called after no patient: cohorts by the PatientIDs ``named``, and sets."""
    passed = _cohorts(named) | _sets(files, volumes)
    return passed | _wrappers(files, passed, volumes)


def find_patients_like_visits(files: Sequence[SourceFile], volumes: bool) -> set[PurePosixPath]:
    """The folders that are called as visits are, and as others beside them that are none: ``M09`` beside ``M10``.

    Where what lies in one of them tells a patient, they are visits.
    """
    beside: dict[tuple[PurePosixPath, str], set[PurePosixPath]] = defaultdict(set)
    for folder in {folder for file in files for folder in file.relative.parents if folder.name}:
        if re.fullmatch(r"[A-Za-z]+\d+", folder.name):
            beside[folder.parent, re.sub(r"\d", "0", folder.name.lower())].add(folder)
    found: set[PurePosixPath] = set()
    for alike in beside.values():
        visits = {folder for folder in alike if VISIT.fullmatch(folder.name)}
        if any(patient_of_folder(folder.name) for folder in alike - visits):
            found |= visits
    below = [(folder, file) for file in files for folder in found.intersection(file.relative.parents)]
    for folder, file in below:
        place = patient_of_path(file.relative.relative_to(folder), (), volumes)
        if place and place.sure and _tells_another(place, folder.name):
            found = {other for other in found if other.parent != folder.parent}
    return found


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


def kinds_of_exams(places: Iterable[Named | None]) -> set[PurePosixPath]:
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


def _wrappers(files: Sequence[SourceFile], passed: Collection[PurePosixPath], volumes: bool) -> set[PurePosixPath]:
    """The folders that hold all files and are called after a set: the paths below them name several patients."""
    arounds = [folder for folder in _common_folders(files) if folder not in passed and patient_of_folder(folder.name)]
    for count, around in enumerate(arounds, 1):
        found = set(arounds[:count])
        inner = [patient_of_path(file.relative, {*passed, *found}, volumes) for file in files]
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
