"""The files of a source folder.

A raw path or header value lives only in a :class:`SourceFile` or a scan. Neither is written, logged or shown.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from latentsweep.datasets.formats.limits import MAX_DEPTH
from latentsweep.datasets.formats.readers import FORMATS, READERS, format_by_name, format_of
from trainables.errors import DataError

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
"""No archive is opened. A ``.nii.gz`` is none: it is one compressed file."""
DATA_SUFFIXES = (".img.gz", ".raw.gz")
"""Ends of names of voxels that are read with the header beside them."""
FOLDER_AS_FILE = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
LINKS = (
    "links that were not followed, to folders, out of the source or to nowhere (`cp -rL SOURCE COPY` makes a folder "
    "without links)"
)
SPECIAL = "pipes, sockets and devices that were not read"
ARCHIVES = "archives that were not opened (unpack them first)"
UNPACK = "unpack the archives first"
DEEP = f"folders that were not entered, more than {MAX_DEPTH} below one another"


@dataclass(frozen=True)
class SourceFile:
    """A file of the source: where it is, and its path below the source."""

    path: Path = field(repr=False)
    relative: PurePosixPath = field(repr=False)

    @property
    def named(self) -> PurePosixPath:
        """Its path, or that of its folder where it has a file's name: mirrors hold ``a_flair.nii/other.nii``."""
        folder = self.relative.parent
        return folder if FOLDER_AS_FILE.search(folder.name) else self.relative

    @cached_property
    def format(self) -> str | None:
        """The format that its first bytes tell, or else its name: read once."""
        return format_of(self.path)

    @property
    def is_archive(self) -> bool:
        """Whether its name is that of an archive."""
        name = self.path.name.lower()
        return (
            format_by_name(self.path) is None and name.endswith(ARCHIVE_SUFFIXES) and not name.endswith(DATA_SUFFIXES)
        )


@dataclass(frozen=True)
class Source:
    """All files of a source in natural order, a text that changes when one of them does, and what was passed over."""

    files: Sequence[SourceFile] = field(repr=False)
    listing: str = field(repr=False)
    notes: tuple[str, ...]


def list_source(source: Path) -> Source:
    """The files below the folder ``source``.

    Nothing outside it is read: a link to a folder, and a link to a file elsewhere, is not followed. Raises
    :class:`DataError` where it is no folder, cannot be read or holds no file.
    """
    try:
        mode = source.stat().st_mode
    except (OSError, ValueError):
        raise DataError(f"the source folder does not exist: {source}; check --source") from None
    if not stat.S_ISDIR(mode):
        if source.name.lower().endswith(ARCHIVE_SUFFIXES) and format_of(source) is None:
            raise DataError("the source must be a folder, got an archive: unpack it first")
        raise DataError("the source must be a folder, got a file: give --source the folder that holds it")
    root = source.resolve()
    found: list[SourceFile] = []
    lines: list[str] = []
    passed: Counter[str] = Counter()
    for folder, folders, names in os.walk(root, onerror=_raise_unreadable):
        passed[LINKS] += sum(os.path.islink(os.path.join(folder, name)) for name in folders)
        folders[:] = [f for f in folders if not f.startswith(".") and f != "__MACOSX"]
        if folders and len(Path(folder).relative_to(root).parts) >= MAX_DEPTH:
            passed[DEEP] += len(folders)
            folders.clear()
        for name in names:
            if name.startswith("."):
                continue
            path = Path(folder, name)
            try:
                status = path.stat()
                inside = not path.is_symlink() or Path(os.path.realpath(path)).is_relative_to(root)
            except OSError:
                inside = False
            if not inside:
                passed[LINKS] += 1
            elif not stat.S_ISREG(status.st_mode):
                passed[SPECIAL] += 1
            else:
                file = SourceFile(path, PurePosixPath(path.relative_to(root).as_posix()))
                found.append(file)
                passed[ARCHIVES] += file.is_archive
                lines.append(f"{file.relative}\0{status.st_size}\0{status.st_mtime_ns}")
    notes = tuple(f"{what}: {count}" for what, count in passed.items() if count)
    if not found:
        seen = f" (passed over {'; '.join(notes)})" if notes else ""
        raise DataError(f"the source folder is empty{seen}: it must hold {FORMATS} files; check --source")
    return Source(sorted(found, key=lambda file: _natural(file.relative)), "\n".join(sorted(lines)), notes)


def count_formats(files: Sequence[SourceFile]) -> str:
    """How many files of which format, for an error message: never their names."""
    counts: Counter[str] = Counter()
    for file in files:
        kind = None if file.is_archive else file.format
        counts["archive" if file.is_archive else READERS[kind].label if kind else "other"] += 1
    return ", ".join(f"{count} {label} file{'s' * (count != 1)}" for label, count in sorted(counts.items()))


def _natural(path: PurePosixPath) -> tuple[tuple[int, int, str], ...]:
    """Sorts Image-2 before Image-10."""
    return tuple((not t.isdecimal(), int(t[:18]) if t.isdecimal() else 0, t) for t in re.split(r"(\d+)", str(path)))


def _raise_unreadable(error: OSError) -> None:
    raise DataError(f"a folder of the source cannot be read ({error.strerror}): mend its permissions") from None
