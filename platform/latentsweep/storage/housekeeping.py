"""Housekeeping of the store: lists its results with their cost and their users, and deletes what nobody uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from filelock import FileLock

from latentsweep.storage.entries import Entry
from latentsweep.storage.home import Home, read_json, write_json
from latentsweep.storage.store import Store
from trainables.errors import StoreError

UNFINISHED = "unfinished"
"""The state of a result that was begun and not finished."""
SHORT = 8
"""Signs of a result's digest that people are shown."""
USES = "uses.json"
"""In the folder of a sweep, study or training: the names of the results that it refers to."""


NO_VERSIONS: Mapping[str, int] = MappingProxyType({})


def note_uses(home: Home, folder: Path, names: Iterable[str]) -> None:
    """Notes what the job in ``folder`` refers to. Call it before the job looks for these results.

    What :func:`free` is removing at this moment is gone when this returns; nothing of it is removed later.
    """
    with _lock(home):
        write_json(folder / USES, sorted(names))


def references(home: Home) -> dict[str, list[str]]:
    """For each result's name, the sweeps, ablation studies and trainings that refer to it."""
    users: dict[str, list[str]] = {}
    folders = (home.sweeps, home.ablations, home.trained)
    for path in sorted(path for folder in folders for path in folder.glob(f"*/{USES}")):
        for name in read_json(path, []):
            users.setdefault(name, []).append(f"{path.parent.parent.name}/{path.parent.name}")
    return users


def overview(home: Home, versions: Mapping[str, int] = NO_VERSIONS) -> list[dict[str, Any]]:
    """A row for each result, finished or not: name, state, bytes, seconds, when it was created, who refers to it.

    ``earlier`` tells which are of another version of their stage than ``versions`` has, if that has the stage.
    """
    store, users = Store.of(home), references(home)
    complete = {
        entry.name: ("complete", entry.size, entry.seconds, entry.manifest["created"], _is_earlier(entry, versions))
        for entry in store.entries()
    }
    unfinished = {name: (UNFINISHED, size, None, None, False) for name, size in sorted(store.begun().items())}
    columns = ("name", "state", "bytes", "seconds", "created", "earlier")
    found = complete | {name: row for name, row in unfinished.items() if name not in complete}
    rows = (dict(zip(columns, (name, *row), strict=True)) for name, row in found.items())
    return [{**row, "used_by": users.get(row["name"], [])} for row in rows]


def _is_earlier(entry: Entry, versions: Mapping[str, int]) -> bool:
    version = entry.manifest["version"]
    return bool(versions.get(entry.manifest["stage"], version) != version)


def free(
    home: Home,
    *,
    dry_run: bool,
    force: bool = False,
    unfinished: bool = False,
    versions: Mapping[str, int] = NO_VERSIONS,
) -> list[dict[str, Any]]:
    """Deletes the results that nothing refers to and no process works on; returns their rows.

    That is decided of each just before it is deleted, since to read the whole store takes minutes, in which a job may
    have begun to refer to it. ``unfinished`` takes those that were begun and not finished, too, whatever refers to
    them: they begin anew where they are asked for again. ``dry_run`` deletes nothing and returns all that would go.

    Raises :class:`StoreError` for a store outside the home, to which other homes may refer, unless ``force`` is
    given.
    """
    if home.location and not (dry_run or force):
        raise StoreError(
            f"only a store that no other home uses may be freed, and {home.location} may be shared: see what would "
            "go with --dry-run, and say --force where nobody else needs it"
        )
    store = Store.of(home)
    gone = [row for row in overview(home, versions) if not row["used_by"] or (unfinished and is_unfinished(row))]
    return gone if dry_run else [row for row in gone if _remove(home, store, row)]


def _remove(home: Home, store: Store, row: dict[str, Any]) -> bool:
    """Deletes the result of a row, unless a process works on it; whether it was deleted.

    Of what a job refers to by now, what was unfinished goes alone: it may be complete by now, here or elsewhere.
    """
    with _lock(home):
        if row["name"] not in references(home):
            return store.remove(row["name"])
        return bool(row["used_by"]) and store.discard_begun(row["name"])


def _lock(home: Home) -> FileLock:
    """Held while the home's references are written, or judged and their result deleted."""
    return FileLock(home.writable(home.root) / ".uses.lock")


def is_unfinished(row: dict[str, Any]) -> bool:
    """Whether a row of :func:`overview` is of a result that was begun and not finished."""
    return bool(row["state"] == UNFINISHED)


def offer(home: Home) -> str:
    """What ``--unfinished`` would free, too, in a line; empty where there is nothing of the kind."""
    users = references(home)
    kept = [size for name, size in Store.of(home).begun().items() if name in users]
    if not kept:
        return ""
    return (
        f"kept: {len(kept)} unfinished trainings, {sum(kept) / 1e6:.1f} MB, from which the jobs that asked for them "
        "go on; free them, too, with --unfinished"
    )


def as_text(rows: list[dict[str, Any]], words: Callable[[dict[str, Any]], str]) -> str:
    """The rows of :func:`overview` as a table for people, and their sums below it; digests are cut short.

    ``words`` says of a row who uses it.
    """
    if not rows:
        return "the store is empty"
    lines = [f"{'result':<23} {'MB':>7} {'seconds':>10}  used by"]
    for row in rows:
        seconds = UNFINISHED if is_unfinished(row) else f"{row['seconds']:.1f}"
        stage, _, digest = row["name"].partition("/")
        lines.append(
            f"{stage}/{digest[:SHORT]:<{22 - len(stage)}} {row['bytes'] / 1e6:>7.2f} {seconds:>10}  {words(row)}"
        )
    total, cost = sum(row["bytes"] for row in rows), sum(row["seconds"] or 0.0 for row in rows)
    return "\n".join([*lines, f"{_count(rows)}, {total / 1e6:.1f} MB, {cost / 60:.1f} min of work"])


def freed_words(rows: list[dict[str, Any]], *, dry_run: bool) -> str:
    """What :func:`free` did or would do, in words."""
    earlier, size = sum(row["earlier"] for row in rows), sum(row["bytes"] for row in rows)
    text = f"{'would free' if dry_run else 'freed'} {_count(rows)}, {size / 1e6:.1f} MB"
    if not earlier:
        return text
    return (
        f"{text}; {earlier} of them by an earlier version of a stage, which today's code can't compute again in the "
        "same way"
    )


def _count(rows: list[dict[str, Any]]) -> str:
    return f"{len(rows)} result{'s' * (len(rows) != 1)}"
