"""What the files of a source are found to be: scans, whose they are, what is said of them, and what finds that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from latentsweep.datasets.catalogue import Dataset
from latentsweep.datasets.scans import Scan
from latentsweep.datasets.sources.sources import SourceFile
from trainables.errors import DataError


class DoesNotFitError(DataError):
    """The files don't have the layout that they should have. ``advice`` is the next step, where it is known."""

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """What a source holds."""

    scans: tuple[Scan, ...] = field(repr=False)
    subjects: frozenset[str] = field(repr=False)
    """All subjects, also those whose scans are of another modality."""
    subject_rule: str
    notes: tuple[str, ...] = ()
    listing: str = field(repr=False, default="")
    ignored: int = 0
    examples: tuple[tuple[str, str], ...] = field(repr=False, default=())
    """Up to three (path below the source, subject) for the eyes of who prepares: never written, logged or kept."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A way in which a source is laid out. ``find`` raises :class:`DataError` where the files don't fit."""

    find: Callable[[Sequence[SourceFile], Dataset], Discovery]
    label: str = ""
    recognises: Callable[[SourceFile], bool] = lambda file: False
    """Whether a file tells that its source has this layout, for the advice where another one doesn't fit."""
