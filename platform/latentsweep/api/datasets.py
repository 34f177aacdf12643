"""Raw scans to a prepared dataset, from Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from latentsweep.api.places import home_of, several
from latentsweep.datasets import preparation
from latentsweep.datasets.slices import PreparedDataset
from latentsweep.datasets.sources.discovery import Discovery
from latentsweep.datasets.sources.selection import Selection
from latentsweep.storage.home import Home


def prepare(
    name: str,
    source: str | Path | None = None,
    *,
    series: str | None = None,
    subject_from: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    labels: str | Path | None = None,
    size: int = 128,
    jobs: int | None = None,
    replace: bool = False,
    home: str | Path | Home = "runs",
    progress: Callable[[int, int], None] | None = None,
    tell: Callable[[Discovery], None] | None = None,
) -> PreparedDataset:
    """Cuts raw scans to 8-bit axial slices, splits them by subject, and stores them without identifiers.

    What was prepared from the same source with the same settings is opened at once. ``name`` is that of a known
    dataset, or one of your own choice; ``demo`` is built in and needs no ``source``, the folder of the raw scans.

    ``series`` is the contrast where a source holds several; ``subject_from`` says which part of a path is the
    subject, as the command's option does; ``include`` and ``exclude`` are patterns of paths below the source.
    ``labels`` is a CSV table of the subjects' labels, such as a grade, with the column "subject", for
    ``diffusion.label_condition``.
    ``size`` is the side S of a slice in pixels, 16 to 1024, ``jobs`` the number of processes (all cores by default).
    ``replace`` prepares anew what exists otherwise. ``progress`` is called with (scans done, scans in all), and
    ``tell`` with what was found before it is read; nothing is printed.

    The dataset's ``load("train").images`` are uint8 (N, S, S), 0 is black; its ``manifest`` holds all counts. Raises
    :class:`~trainables.errors.DataError` where the source or the settings cannot be used, and for a name that was
    prepared otherwise unless ``replace``.
    """
    return preparation.prepare(
        name,
        home=home_of(home).root,
        source=None if source is None else Path(source),
        series=series,
        subject_from=subject_from,
        selection=Selection(tuple(several(include)), tuple(several(exclude))),
        labels=None if labels is None else Path(labels),
        size=size,
        jobs=jobs,
        replace=replace,
        progress=progress,
        tell=tell,
    )
