"""The layout of a dataset of the user's own: a folder that holds one format, in whatever folders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from latentsweep.datasets.catalogue import Dataset
from latentsweep.datasets.formats.readers import FORMATS, READERS
from latentsweep.datasets.scans import Scan
from latentsweep.datasets.sources.annotations import kind_of_annotation
from latentsweep.datasets.sources.choice import one_contrast
from latentsweep.datasets.sources.discovery import Discovery, Layout
from latentsweep.datasets.sources.patients import alike_subjects, find_patients, unknown_subjects
from latentsweep.datasets.sources.sources import UNPACK, SourceFile, count_formats
from latentsweep.datasets.sources.subjects import describe_rule, subject_rule
from trainables.errors import DataError


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
    rivals = major or kinds
    if len(rivals) > 1:
        counts = " and ".join(f"{len(by_format[kind])} {READERS[kind].label}" for kind in rivals)
        raise DataError(
            f"a source must hold one kind of scan, got {counts} files: give --source a folder with one of them, or "
            "choose files with --include or --exclude"
        )
    if not kinds and annotations:
        raise DataError(
            f"the source must hold scans, but holds {annotations} masks, labels or probability maps alone: "
            "give --source the folder of their scans, or rename the files"
        )
    if not kinds:
        raise DataError(
            f"the source must hold {FORMATS} files, but holds {count_formats(files)}"
            + (f": {UNPACK}" if any(file.is_archive for file in files) else "")
        )
    kind = rivals[0]
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
    if dataset.subject_from == "file":
        notes += unknown_subjects(len(chosen), len(chosen))
    if dataset.subject_from is None or dataset.subject_from.startswith("folder"):
        notes += alike_subjects({subject for subject, _ in groups})
    scans = (Scan(kind, subject, f"{subject}\0{key}", tuple(group)) for (subject, key), group in groups.items())
    return Discovery(
        scans=tuple(scans),
        subjects=frozenset(subject for subject, _ in groups),
        subject_rule=rule,
        notes=notes,
    )


LAYOUT = Layout(find=_find_in_folder)
