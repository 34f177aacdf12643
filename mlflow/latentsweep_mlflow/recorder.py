"""The recorder that writes to MLflow, from one process. Its failures never stop the work that it records."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException

from latentsweep.metrics import FINAL
from latentsweep.records.recorder import (
    FORM,
    NOT_FINITE,
    NOTHING,
    Status,
    StepRecord,
    check_key,
    check_status,
    finite,
    join_names,
    run_tags,
)
from latentsweep.records.redaction import redact_lines
from latentsweep_mlflow.database import artifact_root, tracking_uri
from latentsweep_mlflow.delivery import Delivery, RefusedError, check_readable, is_refusal
from latentsweep_mlflow.links import DESCRIPTION, TAG_LENGTH, resolve
from latentsweep_mlflow.pictures import send_picture
from latentsweep_mlflow.tracking import ORIGIN
from latentsweep_mlflow.views import RANKED, save_view

_STATUS = {"finished": "FINISHED", "failed": "FAILED", "pruned": "FINISHED", "stopped": "KILLED"}
_PARAM_LENGTH = 6000

_DIGEST_LENGTH = 36
"""Characters that MLflow takes of a dataset's digest."""
_OF_TODAY = f"tags.`{FORM[0]}` = '{FORM[1]}'"


class MlflowRecorder:
    """A :class:`latentsweep.records.recorder.Recorder` that writes to the MLflow at ``tracking_uri``.

    What can't be sent waits, as :class:`~latentsweep_mlflow.delivery.Delivery` says, and :attr:`complete` is false
    for as long as anything is missing. ``artifact_root`` is a URI, for a home's own store only.
    """

    def __init__(self, tracking_uri: str, experiment: str, artifact_root: str | None = None) -> None:
        self.experiment = experiment
        self._delivery = Delivery(tracking_uri, experiment, artifact_root)
        self._opened: set[str] = set()
        self._ids: dict[str, str] = {}
        self._not_finite: dict[str, str] = {}
        self._starts: dict[str, int] = {}
        """When runs of an earlier version began, as it has them."""
        self._kept: dict[str, dict[str, float]] = {}
        """The end results that an earlier version recorded, with all digits; rounded ones would be further points."""
        self._unsaid: dict[str, list[Param]] = {}
        """Parameters of open runs that MLflow doesn't have yet."""
        self._empty: set[str] = set()
        """Keys under which MLflow had no run when theirs were opened: what is under them now, this recorder made."""
        self._tried: set[str] = set()
        """Keys for which this recorder asked MLflow to make a run: there may be one, though no answer came."""

    @property
    def complete(self) -> bool:
        return self._delivery.complete

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
        if parent is not None and parent not in self._opened:
            raise KeyError(f"the parent {parent!r} of run {key!r} is not open")
        all_tags = ORIGIN | run_tags(key, kind) | _without_secrets(tags)
        values = {param: text[:_PARAM_LENGTH] for param, text in _without_secrets(params).items()}
        start = _now() if began is None else began

        def send(client: MlflowClient) -> None:
            nesting = {} if parent is None else {"mlflow.parentRunId": self._known(parent)}
            if parent is None and not self._search(client, f"tags.`latentsweep.key` LIKE '{key}/%'", most=1):
                self._empty.add(key)
            self._open(client, key, name, values, all_tags | nesting, start, brief)

        self._opened.add(key)
        self._delivery.send(f"run {name!r}", send)

    def log(self, key: str, records: Sequence[StepRecord]) -> None:
        self._check_open(key)
        points, lost = _points(records)
        self._delivery.send(
            f"{len(points)} points of {key}", lambda client: self._write(client, key, points, lost, {})
        )

    def log_file(self, key: str, path: Path, folder: str = "") -> None:
        self._check_open(key)

        def send(client: MlflowClient) -> None:
            check_readable(path)
            client.log_artifact(self._known(key), str(path), folder or None)

        self._delivery.send(f"the file {path.name} of {key}", send)

    def keep_file(self, key: str, path: Path, folder: str = "") -> None:
        check_key(key)

        def send(client: MlflowClient) -> None:
            run = self._find(client, key)
            if run is not None:
                check_readable(path)
                client.log_artifact(run.info.run_id, str(path), folder or None)

        self._delivery.send(f"the file {path.name} of {key}", send)

    def log_picture(self, key: str, path: Path, name: str, *, step: int, time: int) -> None:
        self._check_open(key)

        def send(client: MlflowClient) -> None:
            check_readable(path)
            send_picture(client, self._known(key), path, name, step=step, time=time)

        self._delivery.send(f"the picture {path.name} of {key}", send)

    def log_dataset(self, key: str, name: str, digest: str) -> None:
        self._check_open(key)
        source = json.dumps({"prepared by": "latentsweep data prepare", "fingerprint": digest})
        used = Dataset(name, digest[:_DIGEST_LENGTH], "local", source)

        def send(client: MlflowClient) -> None:
            client.log_inputs(self._known(key), [DatasetInput(used, [InputTag("mlflow.data.context", "training")])])

        self._delivery.send(f"the dataset of {key}", send)

    def describe(self, key: str, text: str, tags: Mapping[str, str] = NOTHING) -> None:
        check_key(key)
        known = _without_secrets(tags)
        text = redact_lines(text)

        def send(client: MlflowClient) -> None:
            run = self._find(client, key)
            if run is not None:
                told = self._resolved(client, run.info.run_id, text, run.data.tags | known)
                written = {DESCRIPTION: told, **known}
                changed = {k: v[:TAG_LENGTH] for k, v in written.items() if run.data.tags.get(k) != v}
                client.log_batch(run.info.run_id, tags=[RunTag(k, v) for k, v in changed.items()])

        self._delivery.send(f"the description of {key}", send)

    def mark(self, parent: str, tag: str, values: Mapping[str, str]) -> None:
        self._check_open(parent)
        values = dict(values)

        def send(client: MlflowClient) -> None:
            for run in self._search(client, f"tags.`{tag}` != '' and {self._under(parent)}"):
                if run.data.tags.get("latentsweep.key") not in values:
                    client.delete_tag(run.info.run_id, tag)
            for key, value in values.items():
                if run_id := self._id_of(client, key):
                    client.set_tag(run_id, tag, value)

        self._delivery.send(f"the tag {tag} of {parent}", send)

    def rank(self, parent: str, *, params: Sequence[str], metrics: Sequence[str], tags: Sequence[str] = ()) -> None:
        self._check_open(parent)
        params, metrics, tags = list(params), list(metrics), list(tags)

        def send(client: MlflowClient) -> None:
            view = {"name": parent, "filter_string": f"{RANKED} and {self._under(parent)}"}
            save_view(client, self._delivery.experiment_id, params=params, metrics=metrics, tags=tags, **view)

        self._delivery.send(f"the table of {parent}", send)

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
        self._check_open(key)
        end = _now() if ended is None else ended
        state = _STATUS[check_status(status)]
        points, lost = _points(records)
        last_tags, text = _without_secrets(tags), redact_lines(text)

        def say(client: MlflowClient) -> None:
            told = {DESCRIPTION: self._resolved(client, self._known(key), text, last_tags)} if text else {}
            self._write(client, key, points, lost, told | last_tags)

        def terminate(client: MlflowClient) -> None:
            # An earlier version may have recorded that it began when it was sent.
            client.set_terminated(self._known(key), state, max(end, self._starts.get(key, end)))

        self._delivery.send(f"what was last said of {key}", say)
        self._delivery.send(f"the end of {key}", terminate)

    def close_stale(self, parent: str) -> None:
        self._check_open(parent)

        def send(client: MlflowClient) -> None:
            for run in self._search(client, f"attributes.status = 'RUNNING' and {self._under(parent)}"):
                client.set_terminated(run.info.run_id, _STATUS["stopped"])

        self._delivery.send(f"the end of what was left of {parent}", send)

    def run_id(self, key: str) -> str | None:
        check_key(key)
        if key not in self._ids:
            self._delivery.ask(lambda client: self._find(client, key), None)
        return self._ids.get(key)

    def closed(self) -> set[str]:
        return self._keys(f"attributes.status != 'RUNNING' and attributes.status != 'KILLED' and {_OF_TODAY}")

    def finished(self) -> set[str]:
        return self._keys(f"attributes.status = 'FINISHED' and {_OF_TODAY}")

    def _keys(self, filter_string: str) -> set[str]:
        nothing: list[Run] = []
        runs = self._delivery.ask(lambda client: self._search(client, filter_string), nothing)
        return {key for run in runs if (key := run.data.tags.get("latentsweep.key")) is not None}

    def flush(self) -> None:
        self._delivery.flush()

    def _open(
        self,
        client: MlflowClient,
        key: str,
        name: str,
        params: dict[str, str],
        tags: dict[str, str],
        start: int,
        brief: bool,
    ) -> None:
        run = self._find(client, key)
        if run is None:
            self._tried.add(key)
            run = client.create_run(self._delivery.experiment_id, start_time=start, tags=tags, run_name=name)
            self._ids[key] = run.info.run_id
        else:
            old = run.data.tags.get(FORM[0]) != FORM[1]
            if old or run.info.status != "RUNNING":  # a name that a user gave is kept
                client.update_run(run.info.run_id, status="RUNNING", name=name if old else None)
            if old:
                self._starts[key] = run.info.start_time
                self._kept[key] = {m: value for m, value in run.data.metrics.items() if m.startswith(FINAL)}
        self._not_finite[key] = run.data.tags.get(NOT_FINITE, "")
        recorded = run.data.params
        changed = {f"latentsweep.param.{p}": v for p, v in params.items() if recorded.get(p, v) != v}
        self._unsaid[key] = [Param(p, v) for p, v in params.items() if p not in recorded]
        told = {k: v for k, v in (tags | changed).items() if run.data.tags.get(k) != v}
        if told or not brief:
            self._write(client, key, (), (), told)

    def _write(
        self, client: MlflowClient, key: str, points: Sequence[Metric], lost: Collection[str], tags: Mapping[str, str]
    ) -> None:
        """Points, the names of the metrics of which some are not finite, tags, and parameters that are unsaid."""
        run_id, kept, known = self._known(key), self._kept.get(key, {}), dict(tags)
        if lost:
            self._not_finite[key] = known[NOT_FINITE] = join_names(lost, self._not_finite.get(key, ""))
        parts: dict[str, Any] = {
            "params": self._unsaid.get(key, []),
            "metrics": [point for point in points if not _is_kept(point, kept)],
            "tags": [RunTag(name, value[:TAG_LENGTH]) for name, value in known.items()],
        }
        refused = _refusal(client, run_id, parts)
        if refused:  # one part must not take the others with it
            each = [_refusal(client, run_id, {name: part}) for name, part in parts.items() if part]
            refused = next(filter(None, each), None)
        self._unsaid.pop(key, None)
        if refused:
            raise refused

    def _resolved(self, client: MlflowClient, run_id: str, text: str, tags: Mapping[str, str]) -> str:
        """A description of the run with those tags, with MLflow's addresses."""
        return resolve(text, self._delivery.experiment_id, run_id, tags, lambda other: self._id_of(client, other))

    def _find(self, client: MlflowClient, key: str) -> Run | None:
        """The run of a key; a search, whose time grows with the runs, only where there may be one."""
        if key not in self._tried and any(key.startswith(f"{root}/") for root in self._empty):
            return None
        runs = self._search(client, f"tags.`latentsweep.key` = '{key}'")
        if not runs:
            return None
        self._ids[key] = runs[0].info.run_id
        return runs[0]

    def _id_of(self, client: MlflowClient, key: str) -> str | None:
        """The run of a key, open or not; ``None`` where there is none."""
        return self._ids.get(key) or (run.info.run_id if (run := self._find(client, key)) else None)

    def _under(self, parent: str) -> str:
        """The condition of a search that holds for the runs under an open key."""
        return f"tags.`mlflow.parentRunId` = '{self._known(parent)}'"

    def _search(self, client: MlflowClient, query: str, most: int | None = None) -> list[Run]:
        """All runs that match, or so many of them, the oldest first."""
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = client.search_runs(
                [self._delivery.experiment_id],
                query,
                run_view_type=ViewType.ACTIVE_ONLY,
                max_results=most or 1000,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            runs += page
            token = page.token
            if most or not token:
                return runs

    def _known(self, key: str) -> str:
        """The run of an open key; raises :class:`RefusedError` where MLflow refused to open it."""
        if key not in self._ids:
            raise RefusedError("its run could not be opened")
        return self._ids[key]

    def _check_open(self, key: str) -> None:
        if key not in self._opened:
            raise KeyError(f"run {key!r} is not open")


def recorder_for(home: Path, experiment: str) -> MlflowRecorder:
    """The recorder of a home: its own database, or the server that MLFLOW_TRACKING_URI names."""
    return MlflowRecorder(tracking_uri(home), experiment, artifact_root(home))


def _without_secrets(values: Mapping[str, object]) -> dict[str, str]:
    """The values as text. The reason why a trial failed may quote an address with its password."""
    return {name: redact_lines(value) for name, value in values.items()}


def _points(records: Sequence[StepRecord]) -> tuple[list[Metric], set[str]]:
    """The finite points of records, and the names of the metrics of which some are not."""
    kept, lost = finite(records)
    return [Metric(m, v, r.time, r.step) for r in kept for m, v in r.metrics.items()], lost


def _refusal(client: MlflowClient, run_id: str, parts: Mapping[str, Any]) -> MlflowException | None:
    """Sends parameters, points and tags in one call; returns the error with which MLflow refuses them."""
    try:
        client.log_batch(run_id, **parts)
    except MlflowException as error:
        if is_refusal(error):
            return error
        raise
    return None


def _is_kept(metric: Metric, before: Mapping[str, float]) -> bool:
    """Whether a run has an end result already, but for its rounding."""
    return metric.key in before and math.isclose(metric.value, before[metric.key], rel_tol=1e-3)


def _now() -> int:
    return time.time_ns() // 1_000_000
