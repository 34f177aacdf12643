"""Which files of a source are wanted, by patterns on their paths.

Patterns may hold names of patients: no message and no manifest repeats them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import translate

from latentsweep.datasets.sources.sources import SourceFile
from trainables.errors import DataError


@dataclass(frozen=True)
class Selection:
    """The files that one of ``include`` fits (all, where it is empty) and that none of ``exclude`` fits.

    A pattern fits a path below the source, or the name of the file alone. Capitals and small letters are alike;
    ``*`` stands for any letters, also for ``/``; ``?`` stands for one, and ``[12]`` for one of these.
    """

    include: tuple[str, ...] = field(repr=False, default=())
    exclude: tuple[str, ...] = field(repr=False, default=())

    def __bool__(self) -> bool:
        return bool(self.include or self.exclude)

    @property
    def sealed(self) -> dict[str, list[str]]:
        """What the seal of a preparation holds of it: nothing where all files are wanted."""
        return {"include": sorted(self.include), "exclude": sorted(self.exclude)} if self else {}

    def allowed(self, files: Sequence[SourceFile]) -> list[SourceFile]:
        """The files that are not excluded."""
        return [file for file in files if not _fits(file, self.exclude)]

    def wanted(self, files: Sequence[SourceFile]) -> list[SourceFile]:
        """The files that are included and not excluded; raises :class:`DataError` where none is."""
        found = [file for file in self.allowed(files) if not self.include or _fits(file, self.include)]
        if files and not found:
            raise DataError(
                f"--include and --exclude must leave a file, and leave none of {len(files)}: correct the patterns, "
                "which are matched with paths below the source"
            )
        return found


EVERYTHING = Selection()


def _fits(file: SourceFile, patterns: Sequence[str]) -> bool:
    path = str(file.relative)
    return any(re.match(translate(p), text, re.I) for p in patterns for text in (path, file.relative.name))
