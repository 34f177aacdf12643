"""The manifest of a prepared dataset: what it must hold, and how it is read and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from latentsweep.datasets.formats.limits import MAX_SIDE
from latentsweep.datasets.splits import SPLITS

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
MASKED_FORM = {"masks": {"sha256": str, "pictures": str}}
"""What it says of each shard beside which there are masks."""
LABELS_FORM = {"categories": dict, "subjects": dict}
"""What it says of labels, where there are any."""


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
    sized = matches(manifest, MANIFEST_FORM) and 1 <= int(manifest["settings"]["size"]) <= MAX_SIDE
    return sized and ("labels" not in manifest or _are_labels(manifest["labels"]))


def _are_labels(value: Any) -> bool:
    """Whether it holds the names of categories by label, and a category of each label by subject."""
    if not matches(value, LABELS_FORM) or not all(matches(names, [str]) for names in value["categories"].values()):
        return False
    counts = [len(names) for names in value["categories"].values()]
    return all(
        matches(numbers, [int])
        and len(numbers) == len(counts)
        and all(number < count for number, count in zip(numbers, counts, strict=True))
        for numbers in value["subjects"].values()
    )


def matches(value: Any, form: Any) -> bool:
    """Whether ``value`` has the keys and types of ``form``; a list's items those of its one item."""
    if isinstance(form, dict):
        return isinstance(value, dict) and all(key in value and matches(value[key], form[key]) for key in form)
    if isinstance(form, list):
        return isinstance(value, list) and all(matches(item, form[0]) for item in value)
    return isinstance(value, form) and not (form is int and (isinstance(value, bool) or value < 0))


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest under a temporary name and rename it: with it the dataset is complete."""
    draft = folder / f".{MANIFEST}"
    draft.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", "utf-8")
    draft.replace(folder / MANIFEST)
