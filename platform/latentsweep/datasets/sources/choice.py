"""The choice of one contrast where a source holds several, by headers and by names of files and folders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from latentsweep.datasets.formats.readers import READERS
from latentsweep.datasets.sources.contrasts import contrast_named
from latentsweep.datasets.sources.names import contrast_of_name
from latentsweep.datasets.sources.sources import SourceFile
from trainables.errors import DataError

ALL = "all"
"""The --series that takes all contrasts together."""


def contrast_of(file: SourceFile, kind: str) -> str | None:
    """The contrast that the description in a header tells, or else a file's name, or else a folder's from it up."""
    reader = READERS[kind]
    told = [] if reader.describe is None else [reader.describe(file.path) or ""]
    found = (*map(contrast_named, told), *map(contrast_of_name, reversed(file.relative.parts)))
    return next(filter(None, found), None)


def _note_untold(count: int, contrast: str | None) -> tuple[str, ...]:
    """The note on files that tell no contrast, where others tell one."""
    note = (
        f"files that tell no contrast, taken with those of {contrast}: {count}; --series {contrast} leaves them out"
    )
    return (note,) if count and contrast else ()


def one_contrast(
    files: Sequence[SourceFile], kind: str, wanted: str | None
) -> tuple[Sequence[SourceFile], tuple[str, ...]]:
    """The files of the contrast ``wanted``, or all where their names tell of no more than one, and notes on others.

    Raises :class:`DataError` where there are several and none is wanted, or where none is of that which is wanted.
    """
    if wanted is not None and wanted.lower() == ALL:
        return files, ()
    groups: dict[str | None, list[SourceFile]] = defaultdict(list)
    for file in files:
        groups[contrast_of(file, kind)].append(file)
    named = sorted((-len(group), name) for name, group in groups.items() if name is not None)
    there = {name: -count for count, name in named}
    listed = ", ".join(f"{name} ({count} files)" for name, count in there.items()) or "no contrast"
    if wanted is None:
        if len(there) < 2:
            return files, _note_untold(len(groups[None]), next(iter(there), None))
        raise DataError(
            f"a dataset is of one contrast, but the names in the source tell of {listed}: choose with --series "
            f"{next(iter(there))} (or {ALL}), or with --include and --exclude and patterns of paths"
        )
    if wanted.lower() not in there:
        raise DataError(
            f"--series must be a contrast that the names in the source tell ({listed}) or {ALL}, and is none of "
            "them: choose one, or leave it out"
        )
    chosen = groups[wanted.lower()]
    return chosen, (
        f"files of another contrast than {wanted.lower()}, or of one unknown: {len(files) - len(chosen)}",
    )
