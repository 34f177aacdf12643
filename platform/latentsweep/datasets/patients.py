"""Who the patients of a source are where nobody says it: by folders, by the PatientID of headers, without visits."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from latentsweep.datasets.contrasts import contrast_named
from latentsweep.datasets.readers import READERS
from latentsweep.datasets.sources import SourceFile
from latentsweep.datasets.splits import join_subjects
from latentsweep.datasets.visits import VISIT, without_visit

GROUP = re.compile(
    r"(train|test|val|valid|validation|eval|dev|holdout)(ing)?([-_ ]?(set|data|images))?|yes|no|positive|negative|"
    r"hgg|lgg|gbm|(high|low)[-_ ]grade|(no[-_ ]?)?(tumou?r|lesion)s?|"
    r"(glioma|meningioma|pituitary|astrocytoma|oligodendroglioma|metastasis|metastases|glioblastoma)([-_ ]tumou?r)?|"
    r"normal|abnormal|healthy|controls?|patients|subjects|cases|(images?|labels?|masks?)(tr|ts)?|"
    r"data(set)?s?|archive|raw(data)?|nifti|dicom|slices|scans|"
    r"(cohort|site|cent(er|re)|hospital|batch|group|fold|class|collection)[-_ ]?\w*|manifest-\d+",
    re.IGNORECASE,
)
"""Names of folders that are classes, cohorts, collections or splits."""
SERIES = re.compile(r"anat|func|dwi|fmap|perf|pet|stud(y|ies)|series|\d+(\.\d+)+", re.IGNORECASE)
"""Names of folders inside that of a patient, beside visits and contrasts."""
FEW_GROUPS, LEAST_MEMBERS = 8, 3
"""So few DICOM folders, each with so many of its own, are cohorts where headers tell of several patients."""
NOBODY = re.compile(r"|0+|anon\w*|none|unknown|n/?a|deidentified|removed", re.IGNORECASE)
"""A PatientID that names nobody."""


def find_patients(files: Sequence[SourceFile], kind: str) -> tuple[dict[SourceFile, str], tuple[str, ...]]:
    """The subject of each file of one format, and notes.

    It is the first folder that is no class, cohort, collection or split, without the visit in its name. A DICOM file
    in no such folder is of its PatientID, another file is its own subject. Folders whose files have one PatientID are
    one subject, unless all folders have it: then it stands for nobody.
    """
    if READERS[kind].patient is None:
        level = _level(files, by_word_alone=True)
        return {file: _folder(file, level) or str(file.relative) for file in files}, ()
    named = _named_patients(files, kind)
    told = {name for name in named.values() if not NOBODY.fullmatch(name)}
    level = _level(files, by_word_alone=len(told) < 2)
    folder = {file: _folder(file, level) for file in files}
    patients: dict[str, set[str]] = {name: set() for name in sorted(filter(None, folder.values()))}
    for file, name in folder.items():
        if name and named[file] in told and not (len(told) == 1 and len(patients) > 1):
            patients[name].add(named[file])
    group = join_subjects(list(patients), patients)
    home = {patient: group[name] for name, here in patients.items() for patient in here}
    subjects = {
        file: group[name] if name else home.get(named[file], f"PatientID {named[file]}")
        for file, name in folder.items()
    }
    joined = len(patients) - len(set(group.values()))
    return subjects, ((f"folders joined to others for an equal PatientID: {joined}",) if joined else ())


def _named_patients(files: Sequence[SourceFile], kind: str) -> dict[SourceFile, str]:
    """The PatientID of each file: that of its folder's first, middle and last file where these agree."""
    read = READERS[kind].patient
    by_folder: dict[PurePosixPath, list[SourceFile]] = defaultdict(list)
    for file in files:
        by_folder[file.relative.parent].append(file)
    named: dict[SourceFile, str] = {}
    for here in by_folder.values():
        sample = {(read(file.path) if read else None) or "" for file in (here[0], here[len(here) // 2], here[-1])}
        alike = len(sample) == 1 and here[0].relative.parent != PurePosixPath(".")
        for file in here:
            named[file] = next(iter(sample)) if alike else (read(file.path) if read else None) or ""
    return named


def _folder(file: SourceFile, level: int) -> str | None:
    """The patient that the folder at ``level`` names, if there is one."""
    folders = file.relative.parts[:-1]
    return without_visit(folders[level]) if len(folders) > level else None


def _level(files: Sequence[SourceFile], *, by_word_alone: bool) -> int:
    """How many folders above that of the patient group patients."""
    for level in range(max(len(file.relative.parts) for file in files)):
        members: dict[str, set[str]] = defaultdict(set)
        for file in files:
            folders = file.relative.parts[:-1]
            if len(folders) > level:
                members[folders[level]].update(folders[level + 1 : level + 2])
        if not members or not (
            all(GROUP.fullmatch(name) for name in members) or (not by_word_alone and _are_cohorts(members))
        ):
            return level
    return 0


def _are_cohorts(members: dict[str, set[str]]) -> bool:
    """Whether few folders hold many others each, whose names are not those of visits, contrasts or series."""
    below = [name for names in members.values() for name in names]
    return (
        len(members) <= FEW_GROUPS
        and min(map(len, members.values())) >= LEAST_MEMBERS
        and len(set(below)) == len(below)
        and not any(VISIT.fullmatch(name) or SERIES.fullmatch(name) or contrast_named(name) for name in below)
    )
