"""The sweeps of a home, in the order in which they were last run, and how one of them is opened to read from.

Each run of a sweep takes the next turn and notes it in ``sweep.json``; dates of files, which a copy changes, decide
nothing.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from latentsweep.datasets.catalogue import BUILT_IN
from latentsweep.program.invocation import hint
from latentsweep.search.confirmation import Extent, wanted
from latentsweep.search.databases import translate_errors
from latentsweep.search.plan import SweepPlan
from latentsweep.search.study import Search
from latentsweep.storage.home import Home, read_json, write_json
from trainables.errors import DataError, LatentsweepError, StoreError

log = logging.getLogger(__name__)

CLOSED = "closed"
"""The entry of ``sweep.json`` that says that the last run wrote all its files; the next one begins without it."""

TURN = "turn"
"""The entry of ``sweep.json`` that counts the runs of the home's sweeps; sweeps of older versions have none."""


def sweeps(home: Home, dataset: str | None = None) -> list[Path]:
    """The folders of the sweeps, those of ``dataset`` if it is named, the last run last.

    One whose ``sweep.json`` can't be read counts as of no dataset and as run first; a warning says so.
    """
    notes = {path.parent: _notes(path) for path in home.sweeps.glob("*/sweep.json")}
    when = {
        folder: (_turn(noted), "" if _turn(noted) else _last_moment(folder, home.study), folder.name)
        for folder, noted in notes.items()
        if not dataset or noted.get("dataset") == dataset
    }
    return sorted(when, key=when.__getitem__)


def next_turn(home: Home) -> int:
    """The turn of a sweep that is run now: one more than that of any in the home."""
    return 1 + max((_turn(_notes(path)) for path in home.sweeps.glob("*/sweep.json")), default=0)


def open_search(folder: Path, database: str = "") -> Search:
    """The study of a sweep's folder, to read from, which changes nothing; ``database`` as :attr:`Home.study`."""
    plan = SweepPlan.read(folder)
    search = Search(folder, plan.space, plan.search, plan.seed, database, reading=True)
    search.apart = plan.apart(search)
    return search


def ended_search(home: Home, plan: SweepPlan, trials: int, extent: Extent) -> Search | None:
    """The study of a sweep, to read from, where it has all that is asked for; None where something is left to run.

    None, too, where it wasn't closed, or can't be read: the job begins it again, or says what is wrong.
    """
    folder = home.sweeps / plan.name
    if not _notes(folder / "sweep.json").get(CLOSED):
        return None
    with contextlib.suppress(LatentsweepError), translate_errors(home.study):
        search = open_search(folder, home.study)
        if search.ended(trials) and not wanted(search, plan, extent).missing:
            return search
    return None


def take_turn(home: Home, folder: Path) -> None:
    """Notes in ``sweep.json`` that this sweep is the one that was run last; its driver alone may."""
    _note(folder, TURN, next_turn(home))


def close(folder: Path) -> None:
    """Notes in ``sweep.json`` that all files of this run are written; its driver alone may."""
    _note(folder, CLOSED, True)


def _note(folder: Path, name: str, value: Any) -> None:
    path = folder / "sweep.json"
    write_json(path, {**read_json(path, {}), name: value})


def chosen_sweep(home: Home, dataset: str | None, name: str | None) -> Path:
    """The sweep of that name, or the last run one of the dataset that has a result, or else the last run one.

    Raises :class:`DataError` where there is none.
    """
    if name:
        folder = home.sweeps / name
        if not (folder / "sweep.json").exists():
            known = ", ".join(path.name for path in sweeps(home)) or "none yet"
            raise DataError(f"there is no sweep {name!r}; known sweeps: {known}")
        return folder
    found = sweeps(home, dataset)
    if not found:
        what = f" of {dataset}" if dataset else ""
        raise DataError(f"there is no sweep{what} yet; run: {hint(f'sweep --dataset {dataset or BUILT_IN}')}")
    return next((folder for folder in reversed(found) if _has_result(folder, home.study)), found[-1])


def _notes(path: Path) -> Mapping[str, Any]:
    """What a ``sweep.json`` holds; nothing, and a warning, where it can't be read."""
    try:
        plain = read_json(path, {})
    except (StoreError, OSError) as error:
        log.warning("the turn of %s is not known: %s", path.parent.name, error)
        return {}
    return plain if isinstance(plain, dict) else {}


def _turn(noted: Mapping[str, Any]) -> int:
    """The turn of a sweep's last run; 0 where none is noted."""
    turn = noted.get(TURN, 0)
    return turn if isinstance(turn, int) else 0


def _last_moment(folder: Path, database: str) -> str:
    """When a trial of a sweep last began or ended; empty where that isn't known."""
    with contextlib.suppress(LatentsweepError):
        moments = [
            moment
            for trial in _trials(folder, database)
            for moment in (trial.datetime_start, trial.datetime_complete)
            if moment
        ]
        return max(map(str, moments), default="")
    return ""


def _has_result(folder: Path, database: str) -> bool:
    """Whether a trial was measured; False, and a warning, where the study can't be read."""
    try:
        return any(trial.state == TrialState.COMPLETE for trial in _trials(folder, database))
    except LatentsweepError as error:
        log.warning("%s is passed over: %s", folder.name, error)
        return False


def _trials(folder: Path, database: str) -> list[FrozenTrial]:
    with translate_errors(database):
        return open_search(folder, database).study.get_trials(deepcopy=False)
