"""The table of layouts: how the files of a source make up scans, and whose each scan is.

A new layout is a function that finds the scans, and a row of :data:`LAYOUTS`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from latentsweep.datasets.catalogue import KNOWN, Dataset, dataset_named
from latentsweep.datasets.formats.readers import FORMATS, READERS, format_by_name
from latentsweep.datasets.layouts.brats import find_brats, is_brats
from latentsweep.datasets.layouts.cheng import find_cheng, is_cheng
from latentsweep.datasets.layouts.kaggle import find_kaggle, is_kaggle
from latentsweep.datasets.layouts.msd import find_lgg, find_msd, is_lgg, is_msd
from latentsweep.datasets.scans import Scan
from latentsweep.datasets.sources.annotations import kind_of_annotation
from latentsweep.datasets.sources.choice import one_contrast
from latentsweep.datasets.sources.discovery import Discovery, DoesNotFitError
from latentsweep.datasets.sources.pairing import pair_masks
from latentsweep.datasets.sources.patients import alike_subjects, find_patients, unknown_subjects
from latentsweep.datasets.sources.selection import EVERYTHING, Selection
from latentsweep.datasets.sources.sources import SourceFile, count_formats, list_source
from latentsweep.datasets.sources.subjects import describe_rule, subject_rule
from trainables.errors import DataError

UNPACK = "unpack the archives first"
MIXED = "pictures of the LGG segmentation set hold three contrasts, which are mixed here: prepare lgg to take one"


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
        takers = ", ".join(known.name for known in KNOWN.values() if known.series)
        raise DataError(f"--series is for {takers} and a dataset of your own, got it with {name}: leave it out")
    found = list_source(source)
    asked = dataclasses.replace(
        dataset, series=series or dataset.series, subject_from=subject_from or dataset.subject_from
    )
    try:
        discovery = LAYOUTS[asked.layout or ""].find(selection.wanted(found.files), asked)
    except DoesNotFitError as error:
        advice = error.advice or _suggest(selection.wanted(found.files), asked.layout)
        raise DataError(f"{error}; {advice}") from None
    scans = pair_masks(discovery.scans, selection.allowed(found.files))
    taken = {path for scan in scans for path in (*scan.files, *scan.masks)}
    others = [file for file in selection.wanted(found.files) if file.path not in taken]
    mixed = any(LAYOUTS["lgg"].recognises(file) for file in found.files if file.path in taken)
    drawn = Counter(kind_of_annotation(file.relative, format_by_name(file.path)) for file in others)
    return dataclasses.replace(
        discovery,
        scans=scans,
        listing=found.listing,
        examples=_examples(scans, found.files),
        ignored=sum(file.path not in taken for file in found.files),
        notes=(
            *discovery.notes,
            *found.notes,
            *((MIXED,) if mixed and asked.layout == "folder" else ()),
            *(f"left out as {what}: {count}" for what, count in drawn.items() if what and asked.layout == "folder"),
        ),
    )


def _examples(scans: Sequence[Scan], files: Sequence[SourceFile]) -> tuple[tuple[str, str], ...]:
    """A file of the first, the middle and the last subject that has scans."""
    relative = {file.path: str(file.relative) for file in files}
    first = {scan.subject: relative[scan.files[0]] for scan in reversed(scans) if scan.files}
    told = [(path, subject) for subject, path in reversed(first.items())]
    return tuple(told[place] for place in sorted({0, len(told) // 2, len(told) - 1}) if told)


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


def _suggest(files: Sequence[SourceFile], layout: str | None) -> str:
    """What to do where the files don't have this layout, as the end of a message."""
    if any(file.is_archive for file in files) and not any(file.format for file in files):
        return UNPACK
    for name, other in LAYOUTS.items():
        if name != layout and any(other.recognises(file) for file in files):
            names = " or ".join(known.name for known in KNOWN.values() if known.layout == name)
            return f"this looks like {other.label}: prepare {names}"
    return "for a dataset of your own choose another name"


LAYOUTS = {
    "brats": Layout(find=find_brats, label="BraTS", recognises=is_brats),
    "kaggle": Layout(find=find_kaggle, label="RSNA-MICCAI", recognises=is_kaggle),
    "lgg": Layout(find=find_lgg, label="the LGG segmentation set", recognises=is_lgg),
    "msd": Layout(find=find_msd, label="Task01 of the MSD", recognises=is_msd),
    "cheng": Layout(find=find_cheng, label="the brain tumours of Cheng et al.", recognises=is_cheng),
    "folder": Layout(find=_find_in_folder),
}
"""Every layout by the name that rows of :data:`latentsweep.datasets.catalogue.KNOWN` give it."""
