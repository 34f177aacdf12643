"""Who the subject of a file is, by the rule that ``--subject-from`` names."""

from __future__ import annotations

import re
from collections.abc import Callable

from latentsweep.datasets.catalogue import DEFAULT_SUBJECT
from latentsweep.datasets.formats.readers import READERS
from latentsweep.datasets.sources.sources import SourceFile
from trainables.errors import DataError

SubjectOf = Callable[[SourceFile], str | None]


def subject_rule(text: str, kind: str) -> SubjectOf:
    """The function from a file of the format ``kind`` to its subject; raises :class:`DataError` for another text.

    ``folder:N`` is the N-th folder below the source (negative from the file up), ``file`` each file,
    ``patient-id`` the patient in the header, ``regex:(…)`` the first group on the path below the source. The function
    gives None for a file in which the rule finds no subject.
    """
    form, _, value = text.partition(":")
    reader = READERS[kind]

    def itself(file: SourceFile) -> str:
        return str(file.relative)

    def patient(file: SourceFile) -> str:
        # All files that name no patient are of one unnamed subject.
        return f"PatientID {reader.patient(file.path) or ''}" if reader.patient else itself(file)

    # What the user gave may hold names of patients: no message repeats it, nor re's, which quotes it.
    if form == "folder" and re.fullmatch(r"-?[1-9]\d*", value):
        return _folder_rule(int(value) - (int(value) > 0))
    if form == "file" and not value:
        if reader.patient:
            raise DataError(
                f"--subject-from file would part the slices of a {reader.label} series: use folder:1 or patient-id"
            )
        return itself
    if form == "patient-id" and not value and reader.patient:
        return patient
    if form == "regex" and value:
        return _pattern_rule(value)
    raise DataError(
        "--subject-from must be folder:N, file, patient-id (DICOM only) or regex:(…), and what was given for the "
        f"{kind} files is none of them: choose one"
    )


def describe_rule(text: str | None) -> str:
    """What may be told of a ``--subject-from`` that is valid: its form, without the value."""
    return text.partition(":")[0] if text else f"default: {DEFAULT_SUBJECT}"


def _folder_rule(index: int) -> SubjectOf:
    """Equal names count as one subject wherever they lie: two modalities of one patient stay together."""

    def subject(file: SourceFile) -> str | None:
        folders = file.relative.parts[:-1]
        return folders[index] if -len(folders) <= index < len(folders) else None

    return subject


def _pattern_rule(text: str) -> SubjectOf:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise DataError(
            "--subject-from regex:(…) must be a regular expression, and what was given is none from its "
            f"character {(error.pos or 0) + 1} on: correct it"
        ) from None

    def subject(file: SourceFile) -> str | None:
        match = pattern.search(str(file.relative))
        return None if match is None else next((group for group in match.groups() if group), match.group())

    return subject
