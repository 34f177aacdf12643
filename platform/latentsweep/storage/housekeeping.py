"""Housekeeping of the store: lists its results with their cost and their users, and deletes what nobody uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latentsweep.storage.home import Home, read_json
from latentsweep.storage.store import Store
from trainables.errors import StoreError

UNFINISHED = "unfinished"
"""The state of a result that was begun and not finished."""


def references(home: Home) -> dict[str, list[str]]:
    """For each result's name, the sweeps, ablation studies and trainings that refer to it."""
    users: dict[str, list[str]] = {}
    folders = (home.sweeps, home.ablations, home.trained)
    for path in sorted(path for folder in folders for path in folder.glob("*/uses.json")):
        for name in read_json(path, []):
            users.setdefault(name, []).append(f"{path.parent.parent.name}/{path.parent.name}")
    return users


def overview(home: Home) -> list[dict[str, Any]]:
    """A row for each result, finished or not: name, state, bytes, seconds, when it was created, who refers to it."""
    store, users = Store.of(home), references(home)
    complete = (
        (entry.name, "complete", entry.size, entry.seconds, entry.manifest["created"]) for entry in store.entries()
    )
    unfinished = ((name, UNFINISHED, size, None, None) for name, size in sorted(store.begun().items()))
    columns = ("name", "state", "bytes", "seconds", "created")
    rows = (dict(zip(columns, row, strict=True)) for row in (*complete, *unfinished))
    return [{**row, "used_by": users.get(row["name"], [])} for row in rows]


def free(home: Home, *, dry_run: bool, force: bool = False, unfinished: bool = False) -> list[dict[str, Any]]:
    """Deletes the results that nothing refers to and no process works on; returns their rows.

    ``unfinished`` takes those that were begun and not finished, too, whatever refers to them: they begin anew where
    they are asked for again.

    ``dry_run`` deletes nothing and returns all that nothing refers to. Raises :class:`StoreError` for a store outside
    the home, to which other homes may refer, unless ``force`` is given.
    """
    if home.location and not (dry_run or force):
        raise StoreError(
            f"only a store that no other home uses may be freed, and {home.location} may be shared: see what would "
            "go with --dry-run, and say --force where nobody else needs it"
        )
    store = Store.of(home)
    unused = [row for row in overview(home) if not row["used_by"] or (unfinished and is_unfinished(row))]
    return unused if dry_run else [row for row in unused if store.remove(row["name"])]


def is_unfinished(row: dict[str, Any]) -> bool:
    """Whether a row of :func:`overview` is of a result that was begun and not finished."""
    return bool(row["state"] == UNFINISHED)


def offer(rows: list[dict[str, Any]]) -> str:
    """What ``--unfinished`` would free, too, in a line; empty where there is nothing of the kind."""
    kept = [row for row in rows if is_unfinished(row) and row["used_by"]]
    if not kept:
        return ""
    megabytes = sum(row["bytes"] for row in kept) / 1e6
    return (
        f"kept: {len(kept)} unfinished trainings, {megabytes:.1f} MB, from which the jobs that asked for them go on; "
        "free them, too, with --unfinished"
    )


def as_text(rows: list[dict[str, Any]], labels: Mapping[str, object]) -> str:
    """The rows of :func:`overview` as a table for people, and their sums below it.

    ``labels`` says by a result's name what it is.
    """
    if not rows:
        return "the store is empty"
    lines = [f"{'result':<31} {'state':<11} {'MB':>8} {'seconds':>9}  used by"]
    for row in rows:
        seconds = "–" if row["seconds"] is None else f"{row['seconds']:.1f}"
        users = ", ".join(row["used_by"]) or "nothing"
        what = f" ({label})" if (label := labels.get(row["name"])) else ""
        lines.append(f"{row['name']:<31} {row['state']:<11} {row['bytes'] / 1e6:>8.2f} {seconds:>9}  {users}{what}")
    total, cost = sum(row["bytes"] for row in rows), sum(row["seconds"] or 0.0 for row in rows)
    return "\n".join([*lines, f"{len(rows)} results, {total / 1e6:.1f} MB, {cost / 60:.1f} min of work"])
