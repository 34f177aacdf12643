"""Which contrast a file is of, by its name or its header, and the choice of one where a source holds several."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from latentsweep.datasets.formats.readers import READERS
from latentsweep.datasets.sources.sources import SourceFile
from trainables.errors import DataError

ALL = "all"
"""The --series that takes all contrasts together."""
_AGENT = r"(ce|c|gd|post|contrast|gad|km)"
CONTRASTS = {
    name: re.compile(rf"(?<![a-z0-9])({words})(?![a-z0-9])")
    for name, words in {
        "adc": "adc|apparent diffusion.*",
        "dwi": r"dwi|dti|diff|diffusion|ep2d diff.*|trace|tracew|b1000",
        "perfusion": "perf|perfusion|dsc|dce|asl|cbv|cbf|rcbv|rcbf|mtt|ttp",
        "swi": r"swi|swan|t2 ?star|t2\*|t2starw|gre|venobold",
        "flair": "flair|t2f|dark fluid|t2w? ?flair",
        "t1ce": rf"t1w? ?{_AGENT}w?|t1w?(?= .*\b{_AGENT}\b).*|(ce|gd|post) t1w?|t1w?\+c|mprage (?=.*{_AGENT}).*",
        "t1": "t1|t1w|t1n|mprage|mp2rage|spgr|bravo",
        "t2": "t2|t2w",
        "pd": "pd|pdw|proton density",
        "bold": "bold|fmri",
    }.items()
}
"""A contrast → the words that tell it, where they stand by themselves; the first that fits holds."""


def contrast_named(text: str) -> str | None:
    """The contrast that a name tells, or None: ``sub-1_T1w`` is ``t1``, ``AX T1 POST`` is ``t1ce``."""
    words = re.sub(r"[^a-z0-9*+]+", " ", text.lower())
    return next((name for name, pattern in CONTRASTS.items() if pattern.search(words)), None)


def contrast_of(file: SourceFile, kind: str) -> str | None:
    """The contrast that the description in a header tells, or else a file's name, or else its folder's."""
    reader = READERS[kind]
    told = [] if reader.describe is None else [reader.describe(file.path) or ""]
    names = [*told, file.relative.name, file.relative.parent.name]
    return next((contrast for name in names if (contrast := contrast_named(name))), None)


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
