"""What is in the store, what it cost, what refers to it, and freeing what nothing refers to."""

from __future__ import annotations

from typing import Any

from latentsweep.storage.home import Home, read_json
from latentsweep.storage.store import Store
from trainables.errors import StoreError


def references(home: Home) -> dict[str, list[str]]:
    """Which sweeps, ablation studies and trainings refer to which results, by the results' names."""
    users: dict[str, list[str]] = {}
    folders = (home.sweeps, home.ablations, home.trained)
    for path in sorted(path for folder in folders for path in folder.glob("*/uses.json")):
        for name in read_json(path, []):
            users.setdefault(name, []).append(f"{path.parent.parent.name}/{path.parent.name}")
    return users


def overview(home: Home) -> list[dict[str, Any]]:
    """A row for each result, finished or not: name, state, bytes, seconds, and who refers to it."""
    store, users = Store.of(home), references(home)
    rows: list[dict[str, Any]] = [
        {
            "name": entry.name,
            "state": "complete",
            "bytes": entry.size,
            "seconds": entry.seconds,
            "created": entry.manifest["created"],
            "used_by": users.get(entry.name, []),
        }
        for entry in store.entries()
    ]
    for name, size in sorted(store.begun().items()):
        rows.append(
            {
                "name": name,
                "state": "unfinished",
                "bytes": size,
                "seconds": None,
                "created": None,
                "used_by": users.get(name, []),
            }
        )
    return rows


def free(home: Home, *, dry_run: bool, force: bool = False) -> list[dict[str, Any]]:
    """Removes what nothing refers to and nobody is at work on; returns the rows of what went, or would.

    Raises :class:`StoreError` for a store outside the home, which others may refer to, unless ``force`` is said.
    """
    if home.location and not (dry_run or force):
        raise StoreError(
            f"only a store that no other home uses may be freed, and {home.location} may be shared: see what would "
            "go with --dry-run, and say --force where nobody else needs it"
        )
    store = Store.of(home)
    unused = [row for row in overview(home) if not row["used_by"]]
    return unused if dry_run else [row for row in unused if store.remove(row["name"])]


def as_text(rows: list[dict[str, Any]]) -> str:
    """The rows for people, and their sum by stage."""
    if not rows:
        return "the store is empty"
    lines = [f"{'result':<30} {'state':<11} {'MB':>8} {'seconds':>9}  used by"]
    for row in rows:
        seconds = "–" if row["seconds"] is None else f"{row['seconds']:.1f}"
        users = ", ".join(row["used_by"]) or "nothing"
        lines.append(f"{row['name']:<30} {row['state']:<11} {row['bytes'] / 1e6:>8.2f} {seconds:>9}  {users}")
    total, cost = sum(row["bytes"] for row in rows), sum(row["seconds"] or 0.0 for row in rows)
    return "\n".join([*lines, f"{len(rows)} results, {total / 1e6:.1f} MB, {cost / 60:.1f} min of work"])
