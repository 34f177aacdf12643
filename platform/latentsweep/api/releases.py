"""A trained model's slices, ready to be given away, from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from latentsweep.api.models import model_folder_of
from latentsweep.api.places import at_least, dataset_of, home_of
from latentsweep.jobs import release as releases
from latentsweep.jobs.release import Release
from latentsweep.storage.home import Home
from trainables.measures.weights import find_weights


def release(
    run: str | Path,
    to: str | Path,
    *,
    count: int = 100,
    seed: int = 0,
    source: str = "",
    licence: str = "",
    despite_guards: bool = False,
    device: str | None = None,
    inception: str | Path | None = None,
    home: str | Path | Home = "runs",
    store: str = "",
    study_storage: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Release:
    """Writes slices of a trained model to the new folder ``to``, with a data sheet, a Croissant file and checksums.

    ``run`` is what :func:`latentsweep.load` takes. ``count`` slices (at least 1) are drawn by the seeds from ``seed``
    (at least 0) on. Near copies of training slices are left out, and others drawn in their place, of up to four times
    as many. ``source`` says where the real slices come from, and ``licence`` under which licence they are and the
    release is. A model that the guards refuse is not released, unless ``despite_guards``. ``progress`` is called with
    (slices found, ``count``).

    The other arguments are those of :func:`latentsweep.sweep`. Raises :class:`~trainables.errors.ConfigError` for a
    model that the guards refuse, and :class:`~trainables.errors.DataError` where ``run`` isn't trained, its dataset
    isn't there or ``to`` holds files.
    """
    at_least(1, count=count)
    at_least(0, seed=seed)
    place = home_of(home, store, study_storage)
    return releases.release(
        place,
        model_folder_of(place, str(run)),
        Path(to),
        lambda name: dataset_of(place, name, shown=False),
        find_weights(Path(inception) if inception else None),
        count=count,
        seed=seed,
        source=source,
        licence=licence,
        despite_guards=despite_guards,
        device=device,
        progress=progress,
    )
