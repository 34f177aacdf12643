"""What is sent to MLflow, in order: at once where it answers, later where it is away, never where it refuses."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mlflow import MlflowClient

from latentsweep.records.redaction import redact
from latentsweep_mlflow.tracking import connect, experiment_id

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 600.0
_REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"}

_log = logging.getLogger(__name__)


class RefusedError(Exception):
    """A call that cannot succeed however often it is made."""


def check_readable(path: Path) -> None:
    """Raises :class:`RefusedError` for a file that can't be read here: a later call could not send it either."""
    if not path.is_file():
        raise RefusedError("there is no such file")
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise RefusedError(f"it can't be read ({error.strerror})") from error


@dataclass(frozen=True)
class _Call:
    what: str
    send: Callable[[MlflowClient], None]


class Delivery:
    """A queue of calls to the MLflow at ``tracking_uri``, and the experiment that they are for.

    Every call goes to the end of the queue, and the queue is sent at once. When MLflow does not answer, the queue
    waits (30 seconds at first, then longer, up to ten minutes) and the work goes on. The first call after that time
    tries again. What MLflow refuses for good is left out. A warning tells the first time of each. ``artifact_root``
    is a URI, for a home's own store only.
    """

    def __init__(self, tracking_uri: str, experiment: str, artifact_root: str | None = None) -> None:
        self.experiment = experiment
        self.experiment_id = ""
        """Known to every call while it is made."""
        self._uri = tracking_uri
        self._artifact_root = artifact_root
        self._client: MlflowClient | None = None
        self._waiting: deque[_Call] = deque()
        self._pause = _FIRST_PAUSE
        self._next_try = 0.0
        self._away = False
        self._refused = 0

    @property
    def complete(self) -> bool:
        """Whether all has arrived."""
        return not self._waiting and not self._refused

    def flush(self) -> None:
        """Try once more, now, to send what is still waiting."""
        self._next_try = 0.0
        self._drain()

    def send(self, what: str, send: Callable[[MlflowClient], None]) -> None:
        """Make a call, or let it wait; ``what`` names it in the warning that it was left out."""
        self._waiting.append(_Call(what, send))
        self._drain()

    def ask(self, question: Callable[[MlflowClient], T], otherwise: T) -> T:
        """The answer to ``question``, or ``otherwise`` where MLflow is away."""
        answers: list[T] = []
        self._drain()
        if not self._waiting and self._due():
            self._attempt(_Call("a search", lambda client: answers.append(question(client))))
        return answers[0] if answers else otherwise

    def _drain(self) -> None:
        """Send what waits, in order, until all is sent or MLflow does not answer."""
        while self._waiting and self._due() and self._attempt(self._waiting[0]):
            self._waiting.popleft()

    def _due(self) -> bool:
        return time.monotonic() >= self._next_try

    def _attempt(self, call: _Call) -> bool:
        """Make one call. Returns whether it is done with: it succeeded, or MLflow refused it for good."""
        try:
            call.send(self._connected())
        except Exception as error:  # stores and artifact stores are plug-ins, each with errors of its own
            if self._client is None or not is_refusal(error):
                self._postpone(error)
                return False
            self._refuse(call, error)
            return True
        if self._away:
            self._away, self._pause = False, _FIRST_PAUSE
            _log.info("MLflow answers again; what had waited is being sent")
        return True

    def _postpone(self, error: Exception) -> None:
        self._next_try = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        text = f"MLflow at {redact(self._uri)} does not take the record, the work goes on without: {redact(error)}"
        _log.log(logging.DEBUG if self._away else logging.WARNING, "%s", text)
        self._away = True

    def _refuse(self, call: _Call, error: Exception) -> None:
        text = f"left out of the record: {call.what}, {redact(error)}"
        _log.log(logging.DEBUG if self._refused else logging.WARNING, "%s", text)
        self._refused += 1

    def _connected(self) -> MlflowClient:
        if self._client is None:
            client = connect(self._uri)
            self.experiment_id = experiment_id(client, self.experiment, self._artifact_root)
            self._client = client
        return self._client


def is_refusal(error: Exception) -> bool:
    """Whether the same call would fail again however often it is made."""
    return isinstance(error, RefusedError) or getattr(error, "error_code", None) in _REFUSALS
