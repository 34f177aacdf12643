"""Where a job works: its home, its dataset there, the settings of its recipe and who records it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentsweep.api.progress import show_progress
from latentsweep.datasets.catalogue import BUILT_IN

if TYPE_CHECKING:
    from latentsweep.datasets.slices import PreparedDataset
    from latentsweep.records.recorder import Record, Recorder
    from latentsweep.storage.home import Home

LONGEST_HOME = 360
"""Bytes of a home's path: SQLite opens files of up to 512 bytes, and its files lie up to 150 deeper."""

Settings = Mapping[str, Any] | Sequence[str]
"""Changes of a recipe: values by field, as ``{"diffusion.steps": 9}``, or texts, as ``["diffusion.steps=9"]``."""


def checked_home(path: Path) -> Path:
    """The same path; raises :class:`ConfigError` for one in which the databases of a home can't lie."""
    from trainables.errors import ConfigError

    whole = str(path.absolute())
    if any(sign in whole for sign in "?%") or len(whole.encode()) > LONGEST_HOME:
        raise ConfigError(
            f"--home must be a path without ? and %, which the addresses of databases take apart, and of at most "
            f"{LONGEST_HOME} bytes, since SQLite opens no longer one; got {whole}: choose another folder"
        )
    return path


def home_of(path: Path | str | Home, store: str = "", study: str = "") -> Home:
    """The home at ``path``, with its store and its studies where the others say; a :class:`Home` is itself.

    Raises :class:`~trainables.errors.ConfigError` for a path or an address that no database can have, and for a
    :class:`Home` with another store or other studies than its own.
    """
    from latentsweep.storage.home import Home

    if isinstance(path, Home):
        if store or study:
            from trainables.errors import ConfigError

            named = "store" if store else "study_storage"
            raise ConfigError(
                f"{named} goes with the path of a home, and a Home has its own; leave {named} out, or give the path "
                f"{path.root}"
            )
        return path
    path = checked_home(Path(path))
    if study:
        from latentsweep.search.databases import check

        check(study)
    return Home(path, store, study)


def dataset_of(home: Home, name: str, *, shown: bool = True) -> PreparedDataset:
    """The prepared dataset; the built-in one is made where it is missing, and ``shown`` says how far that is.

    Raises :class:`~trainables.errors.DataError` where another one is not prepared.
    """
    if name != BUILT_IN or (home.datasets / name).exists():
        from latentsweep.datasets.slices import open_dataset

        return open_dataset(home.datasets, name)
    from latentsweep.datasets.preparation import prepare  # only here: what reads scans takes long to import

    home.writable(home.datasets)
    with show_progress(f"preparing {name}") if shown else contextlib.nullcontext() as progress:
        return prepare(name, home=home.root, progress=progress)


def recorder_of(home: Home, experiment: str, wanted: bool) -> Recorder:
    """MLflow's recorder, or one that forgets."""
    if wanted:
        from latentsweep_mlflow.recorder import recorder_for

        return recorder_for(home.root, experiment)
    from latentsweep.records.recorder import MemoryRecorder

    return MemoryRecorder()


def record_of(home: Home, experiment: str, wanted: bool) -> Record:
    """What was recorded, for a reader: it is there sooner than :func:`recorder_of`, which imports MLflow."""
    if wanted:
        from latentsweep_mlflow.own_record import record_for

        return record_for(home.root, experiment)
    return recorder_of(home, experiment, wanted)


def pages_of(home: Home, record: Record) -> Callable[[str], str]:
    """What gives the address of the page that MLflow has of a run; see :mod:`latentsweep_mlflow.links`."""
    from latentsweep_mlflow import links

    return links.pages_of(home.root, record)


def texts_of(settings: Settings) -> list[str]:
    """Settings as the texts ``field=value`` that ``--set`` takes; numbers and arrays of NumPy are plain ones.

    Raises :class:`~trainables.errors.ConfigError` for a value that no field has.
    """
    from latentsweep.configuration import scalar
    from trainables.config import as_scalar

    if not isinstance(settings, Mapping):
        return several(settings)
    return [f"{field}={scalar(as_scalar(_plain(str(field), value)))}" for field, value in settings.items()]


def _plain(field: str, value: Any) -> Any:
    from trainables.config import shown
    from trainables.errors import ConfigError

    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(field, member) for member in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise ConfigError(
        f"{field} must be a text, a number, a truth value or a list of these, got {shown(value)}; give it as one"
    )


def several(values: str | Iterable[str]) -> list[str]:
    """The texts of a sequence; one text alone is itself, and not its letters."""
    return [values] if isinstance(values, str) else list(values)


def at_least(low: int, **values: Any) -> None:
    """Raises :class:`~trainables.errors.ConfigError` for an argument below ``low``; None, not given, is none."""
    from trainables.config import shown
    from trainables.errors import ConfigError

    for name, value in values.items():
        if value is not None and (not isinstance(value, Integral) or value < low):
            raise ConfigError(f"{name} must be a whole number of at least {low}, got {shown(value)}; choose another")
