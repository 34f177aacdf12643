"""What every recorder of runs can do, and the recorder that keeps all in memory.

The driver tells a recorder what happened, and never decides anything by what the recorder holds. A call that is made
again with the same arguments, in this process or in a later one, changes nothing. So a record of which a part is
missing is repaired by sending all of it once more.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Protocol, get_args

from latentsweep import __version__

Status = Literal["finished", "failed", "pruned", "stopped"]
"""How a run ends. ``pruned`` is a result, as the search wanted it; what a user or a crash ended is ``stopped``."""
NOTHING: Mapping[str, str] = MappingProxyType({})
NOT_FINITE = "latentsweep.not_finite"
"""The tag of a run that names, comma-separated, the metrics of which a NaN or an infinity was left out."""

WINNER = "winner"
"""The tag of the configurations that ``export`` takes; it says how sure that is."""

GENERATED_IMAGES = "generated"
"""What the images of a training are called in the record, by step."""

FORM = ("latentsweep.form", "2")
"""The tag of a run that says in which form it was recorded. What is of an earlier form is sent again, once."""

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepRecord:
    """What one step reported.

    ``time`` is in milliseconds since the epoch, and that at which the record was made, not at which it is sent. So a
    record that is sent twice is one point.
    """

    step: int
    time: int
    metrics: Mapping[str, float]


class Record(Protocol):
    """What a reader of runs sees and may add. No method raises or blocks for long because the place is out of reach.

    A run is known by its ``key``, which the caller makes (the key of a stage, or a sweep's and a trial's
    name): letters, digits and ``._:/-``.
    """

    def run_id(self, key: str) -> str | None:
        """The identifier by which the record's own pages know the run, or ``None`` while it has none."""

    def closed(self) -> set[str]:
        """The keys of the runs that ended and were not stopped, by one search; empty when the record is out of reach.

        Those that an earlier version recorded in another :data:`FORM` are left out, so that they are sent again.
        """

    def finished(self) -> set[str]:
        """The keys of those of :meth:`closed` that were closed as finished or pruned."""

    def keep_file(self, key: str, path: Path, folder: str = "") -> None:
        """Keep a copy of a file as :meth:`Recorder.log_file` does. The run need not be open, and stays as it is.

        Where there is no run, none is made.
        """

    def describe(self, key: str, text: str, tags: Mapping[str, str] = NOTHING) -> None:
        """What readers are told of the run, as Markdown, and tags. As :meth:`keep_file`, it needs no open run.

        ``[words](run:KEY)`` in the text leads to the run of a key, ``(run:KEY|FOLDER/FILE)`` to a file of it, and
        ``(runs:KEY)`` to the table of the runs under it. What has no run is words alone. ``[words](kept:TAG)`` leads
        to the file that the run's own tag names, and without the tag is left out.
        """

    def flush(self) -> None:
        """Try once more, now, to send what is still waiting."""


class Recorder(Record, Protocol):
    """Where runs are recorded. A key that this recorder has not opened raises :class:`KeyError`."""

    @property
    def complete(self) -> bool:
        """Whether all that was recorded so far has arrived."""

    def open_run(
        self,
        key: str,
        *,
        name: str,
        kind: str,
        parent: str | None = None,
        params: Mapping[str, object] = NOTHING,
        tags: Mapping[str, str] = NOTHING,
        began: int | None = None,
        brief: bool = False,
    ) -> None:
        """Find the run of ``key`` or create it, and mark it as running.

        ``kind`` is sweep, vae, trial, point, training, ablation or ablation-run; ``parent`` the key of an open run;
        ``began`` when the work did (milliseconds since the epoch; now, if ``None``). A parameter keeps the first
        value it was given; a later one that differs becomes the tag ``latentsweep.param.<name>``. A ``brief`` run is
        closed at once: its parameters may be sent with what is then said of it.
        """

    def log(self, key: str, records: Sequence[StepRecord]) -> None:
        """Add points to the run's curves; NaN and infinities are left out and named in a tag."""

    def log_file(self, key: str, path: Path, folder: str = "") -> None:
        """Keep a copy of the file at ``path`` in the run's ``folder``; an older one of its name is replaced."""

    def log_picture(self, key: str, path: Path, name: str, *, step: int, time: int) -> None:
        """Keep a copy of a PNG as what ``name`` looked like at a step; ``time`` is that of a record."""

    def log_dataset(self, key: str, name: str, digest: str) -> None:
        """Note which prepared dataset the run used. It is told by its name and fingerprint, never by a path."""

    def mark(self, parent: str, tag: str, values: Mapping[str, str]) -> None:
        """Give the runs of these keys the tag, each its value, and take it from all others under ``parent``."""

    def rank(self, parent: str, *, params: Sequence[str], metrics: Sequence[str], tags: Sequence[str] = ()) -> None:
        """Show the runs under ``parent`` with these columns, those with the least of the first metric on top."""

    def close_run(
        self,
        key: str,
        status: Status,
        *,
        records: Sequence[StepRecord] = (),
        text: str = "",
        tags: Mapping[str, str] = NOTHING,
        ended: int | None = None,
    ) -> None:
        """End the run; ``ended`` is when the work did (milliseconds since the epoch; now, if ``None``).

        What is still to be said is sent in one call: ``records`` as by :meth:`log`, ``text`` as by :meth:`describe`.
        """

    def close_stale(self, parent: str) -> None:
        """Close, as stopped, the runs under ``parent`` that a crash left running."""


def check_key(key: str) -> str:
    """``key`` itself; raises :class:`ValueError` where it could not be searched for."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"a run's key must be letters, digits and ._:/-, got {key!r}")
    return key


def check_status(status: Status) -> Status:
    """``status`` itself; raises :class:`ValueError` for one that no recorder knows."""
    if status not in get_args(Status):
        raise ValueError(f"a run ends as one of {', '.join(get_args(Status))}; got {status!r}")
    return status


def run_tags(key: str, kind: str) -> dict[str, str]:
    """The tags that every run bears, by which it is found again."""
    form, own = FORM
    return {
        "latentsweep.key": check_key(key),
        "latentsweep.kind": kind,
        "latentsweep.version": __version__,
        form: own,
    }


def finite(records: Sequence[StepRecord]) -> tuple[list[StepRecord], set[str]]:
    """The records without their NaN and infinite values, and the names of the metrics that had some."""
    kept, lost = [], set()
    for record in records:
        good = {name: float(value) for name, value in record.metrics.items() if math.isfinite(value)}
        lost |= record.metrics.keys() - good.keys()
        if good:
            kept.append(StepRecord(record.step, record.time, good))
    return kept, lost


@dataclass
class MemoryRun:
    """One run of a :class:`MemoryRecorder`; ``points`` holds (metric, step, time, value), each once."""

    name: str
    kind: str
    parent: str | None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    points: dict[tuple[str, int, int, float], None] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    dataset: tuple[str, str] | None = None
    text: str = ""
    columns: list[str] = field(default_factory=list)
    status: Status | Literal["running"] = "running"

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """The (step, value) pairs of one metric, in the order of the steps."""
        return sorted((step, value) for name, step, _, value in self.points if name == metric)


class MemoryRecorder:
    """The recorder of tests, and of a sweep without MLflow. It keeps all in this process."""

    def __init__(self) -> None:
        self.runs: dict[str, MemoryRun] = {}

    @property
    def complete(self) -> bool:
        return True

    def open_run(
        self,
        key: str,
        *,
        name: str,
        kind: str,
        parent: str | None = None,
        params: Mapping[str, object] = NOTHING,
        tags: Mapping[str, str] = NOTHING,
        began: int | None = None,
        brief: bool = False,
    ) -> None:
        own_tags = run_tags(key, kind)
        if parent is not None and parent not in self.runs:
            raise KeyError(f"the parent {parent!r} of run {key!r} is not open")
        run = self.runs.setdefault(key, MemoryRun(name, kind, parent))
        run.status = "running"
        run.tags |= own_tags | dict(tags)
        for param, value in params.items():
            if run.params.setdefault(param, str(value)) != str(value):
                run.tags[f"latentsweep.param.{param}"] = str(value)

    def log(self, key: str, records: Sequence[StepRecord]) -> None:
        run = self.runs[key]
        kept, lost = finite(records)
        run.points |= {(m, r.step, r.time, v): None for r in kept for m, v in r.metrics.items()}
        if lost:
            run.tags[NOT_FINITE] = join_names(lost, run.tags.get(NOT_FINITE, ""))

    def log_file(self, key: str, path: Path, folder: str = "") -> None:
        run = self.runs[key]
        if not path.is_file():
            _log.warning("left out of the record of %s: there is no file %s", key, path.name)
            return
        run.files[f"{folder}/{path.name}" if folder else path.name] = path

    def keep_file(self, key: str, path: Path, folder: str = "") -> None:
        if check_key(key) in self.runs:
            self.log_file(key, path, folder)

    def log_picture(self, key: str, path: Path, name: str, *, step: int, time: int) -> None:
        self.runs[key].files[f"{name} at {step}"] = path

    def log_dataset(self, key: str, name: str, digest: str) -> None:
        self.runs[key].dataset = (name, digest)

    def describe(self, key: str, text: str, tags: Mapping[str, str] = NOTHING) -> None:
        if check_key(key) in self.runs:
            self.runs[key].text = text
            self.runs[key].tags |= tags

    def mark(self, parent: str, tag: str, values: Mapping[str, str]) -> None:
        for key, run in self.runs.items():
            if run.parent == parent:
                run.tags.pop(tag, None)
            if key in values:
                run.tags[tag] = values[key]

    def rank(self, parent: str, *, params: Sequence[str], metrics: Sequence[str], tags: Sequence[str] = ()) -> None:
        self.runs[parent].columns = [*tags, *metrics, *params]

    def close_run(
        self,
        key: str,
        status: Status,
        *,
        records: Sequence[StepRecord] = (),
        text: str = "",
        tags: Mapping[str, str] = NOTHING,
        ended: int | None = None,
    ) -> None:
        self.log(key, records)
        self.runs[key].status = check_status(status)
        self.runs[key].text = text or self.runs[key].text
        self.runs[key].tags |= tags

    def close_stale(self, parent: str) -> None:
        for run in self.runs.values():
            if run.parent == parent and run.status == "running":
                run.status = "stopped"

    def run_id(self, key: str) -> str | None:
        return key if key in self.runs else None

    def closed(self) -> set[str]:
        return {key for key, run in self.runs.items() if run.status not in ("running", "stopped")}

    def finished(self) -> set[str]:
        return {key for key, run in self.runs.items() if run.status in ("finished", "pruned")}

    def flush(self) -> None:
        """Nothing ever waits here."""


def join_names(names: Collection[str], before: str) -> str:
    """The union of ``names`` and the comma-separated ``before``, sorted, as the value of a tag."""
    return ", ".join(sorted({*names, *(name for name in before.split(", ") if name)}))
