"""The ledger of the test split: which decisions have read it, so that every page can say how often it was used.

It is a file of the home, beside the prepared datasets, also where the store lies in a bucket: two homes that share a
store don't know of each other's decisions.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from latentsweep.datasets.slices import PreparedDataset, Rule
from latentsweep.storage.home import Home, is_read_only
from latentsweep.storage.refusals import why
from trainables.errors import StoreError

log = logging.getLogger(__name__)

FILE = "test-split.jsonl"
"""No dataset's name holds a point, so none can be in its way."""
TEST = "test"


@dataclass(frozen=True)
class Use:
    """One decision that read the test split of a dataset."""

    fingerprint: str
    """The dataset's."""
    name: str
    """What was measured: the same study, training or measurement has the same name when it is run again."""
    kind: str
    """study, train or evaluate."""
    time: str
    """When it was first noted, ISO 8601 with the zone."""
    dataset: str
    split: str
    rule: str
    """By what the slices were split."""


def note_use(home: Home, dataset: PreparedDataset, kind: str, name: str, split: str, rule: Rule) -> int | None:
    """Notes a decision that reads ``split``, once a ``name``; how many others had read the test split before it.

    None for another split than the test split, which isn't noted. Call it before the split is read, so that a killed
    job counts. In a read-only home a warning says that a new decision isn't noted. Raises :class:`StoreError` where
    the ledger can't be written.
    """
    if split != TEST:
        return None
    before = [each.name for each in uses(home, dataset.fingerprint)]
    if name in before:
        return before.index(name)
    if is_read_only(home.datasets):
        log.warning("%s is read-only, so it isn't noted that %s reads the test split", home.datasets / FILE, name)
        return len(before)
    path = home.writable(home.datasets) / FILE
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    use = Use(dataset.fingerprint, name, kind, now, dataset.name, split, str(rule))
    try:
        with FileLock(path.with_name(f".{FILE}.lock")):
            noted = [each.name for each in uses(home, dataset.fingerprint)]
            if name not in noted:
                _append(path, json.dumps(asdict(use), ensure_ascii=False))
    except OSError as error:
        raise _unusable(path, error) from error
    return noted.index(name) if name in noted else len(noted)


def uses(home: Home, fingerprint: str) -> list[Use]:
    """The decisions that read the test split of the dataset with that fingerprint, the earliest first.

    None for a home of an older version, which has no ledger. A line that was torn when its writer was killed is left
    out: the writer had read nothing yet, and notes itself when it is run again.
    """
    try:
        lines = (home.datasets / FILE).read_text("utf-8", errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unusable(home.datasets / FILE, error) from error
    found: dict[str, Use] = {}
    for line in lines:
        try:
            plain = json.loads(line)
            use = Use(**{name: str(plain[name]) for name in Use.__dataclass_fields__})
        except (ValueError, KeyError, TypeError, RecursionError):
            if line.strip():
                log.warning("a line of %s can't be read and is left out", home.datasets / FILE)
            continue
        if use.fingerprint == fingerprint:
            found.setdefault(use.name, use)
    return list(found.values())


def earlier_words(dataset: str, earlier: int) -> str:
    """How often the test split of a dataset was used, in words."""
    if not earlier:
        return f"the test split of {dataset} was used in 0 earlier decisions (none on record)"
    return f"the test split of {dataset} was used in {earlier} earlier decision{'s' if earlier > 1 else ''}"


def _unusable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{path} must be a file that can be read and written, since it notes who reads the test split: "
        f"{why(error)}, or choose another --home"
    )


def _append(path: Path, line: str) -> None:
    """Adds a line in one write, on a line of its own also where the last one was torn."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else f"\n{line}"
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
