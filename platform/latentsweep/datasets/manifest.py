"""The manifest of a prepared dataset: what it must hold, and how it is read and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from latentsweep.datasets.catalogue import check_name
from latentsweep.datasets.formats.limits import MAX_SIDE
from latentsweep.datasets.splits import SPLITS
from trainables.errors import ChangedDataError

VERSION = 1
MANIFEST = "manifest.json"

_BY_SPLIT = dict.fromkeys(SPLITS, int)
MANIFEST_FORM = {
    "name": str,
    "created": str,
    "fingerprint": str,
    "source": str,
    "settings": {"size": int},
    "counts": {
        **dict.fromkeys(("slices", "subjects", "volumes", "files", "files_broken", "files_ignored"), int),
        "slices_with_too_little_brain": int,
        **dict.fromkeys(("slices_by_split", "slices_by_split_by_slice", "subjects_by_split"), _BY_SPLIT),
    },
    "rejects": [{"reason": str, "count": int}],
    "notes": [str],
    "bytes": int,
    "shards": [{"file": str, "rows": int, "sha256": str}],
}
"""What a manifest must hold, by key and type."""


def read_manifest(path: Path) -> Any:
    """What a manifest says, unchecked: None where it isn't there, nothing where it can't be read."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError):
        return {}


def is_manifest(manifest: Any) -> bool:
    """Whether it has the form of a dataset's manifest, of whatever version, with slices of an allowed size."""
    return _matches(manifest, MANIFEST_FORM) and 1 <= int(manifest["settings"]["size"]) <= MAX_SIDE


def _matches(value: Any, form: Any) -> bool:
    """Whether ``value`` has the keys and types of ``form``; a list's items those of its one item."""
    if isinstance(form, dict):
        return isinstance(value, dict) and all(key in value and _matches(value[key], form[key]) for key in form)
    if isinstance(form, list):
        return isinstance(value, list) and all(_matches(item, form[0]) for item in value)
    return isinstance(value, form) and not (form is int and (isinstance(value, bool) or value < 0))


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest under a temporary name and rename it: with it the dataset is complete."""
    draft = folder / f".{MANIFEST}"
    draft.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", "utf-8")
    draft.replace(folder / MANIFEST)


def check_prepared(datasets_folder: Path, name: str, fingerprint: str) -> None:
    """Raises :class:`ChangedDataError` where ``name`` is prepared by now with another fingerprint; reads no slice."""
    manifest = read_manifest(Path(datasets_folder) / check_name(name) / MANIFEST)
    if isinstance(manifest, dict) and "fingerprint" in manifest:
        check_fingerprint(name, str(manifest["fingerprint"]), fingerprint)


def check_fingerprint(name: str, found: str, begun_with: str) -> None:
    """Raises :class:`ChangedDataError` where work on the dataset began with another fingerprint than it has now.

    An empty ``begun_with`` is that of work that may begin with any.
    """
    if begun_with and found != begun_with:
        raise ChangedDataError(
            f"a sweep, study, training or model stays with the dataset that it began with, {name} with fingerprint "
            f"{begun_with[:8]}…, and {name} now has {found[:8]}…; prepare it as it was, with --replace, or begin "
            "anew: the same command begins another sweep or study, and a configuration is trained without its "
            "entries origin and trained_on"
        )
