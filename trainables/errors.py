"""All errors of the project, in one tree. Each message states the rule, the value and the next step, in one line."""

from __future__ import annotations

import errno
import functools
import re

INFRASTRUCTURE = "infrastructure"
"""The class of a failure that has nothing to do with the configuration: it is tried again."""

_FULL_OR_READ_ONLY = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class LatentsweepError(Exception):
    """An error that a user can mend: the command line prints it as one line and ends with exit code 2.

    ``kind`` is the class of failure in the record of a trial that raises it.
    """

    kind = INFRASTRUCTURE


class ConfigError(LatentsweepError):
    """A configuration, search space or command-line value that breaks a stated rule."""

    kind = "configuration"


class CapacityError(LatentsweepError):
    """A training that doesn't fit the memory, even with one sample at a time and checkpointed activations."""

    kind = "memory"


class CardError(LatentsweepError):
    """A card that isn't here, or that the installed PyTorch can't use, since it or its driver is too old."""


class DataError(LatentsweepError):
    """A source folder, prepared dataset or image that cannot be used as it is."""

    kind = "data"


class ChangedDataError(DataError):
    """A prepared dataset that isn't the one that the work began with: with that one back, the work goes on."""

    kind = INFRASTRUCTURE


class StoreError(LatentsweepError):
    """The stage store or another folder of the home cannot be read, written or trusted."""


class DiskError(StoreError):
    """A disk that is full or read-only: until that is mended, whatever is tried again fails the same way."""

    kind = "disk"


class WeightsError(LatentsweepError):
    """The Inception weights that canonical FID and KID need are absent or not the right file."""


class PluginError(LatentsweepError):
    """A plug-in that a worker's machine lacks, or has in another version than the driver."""


class LostError(LatentsweepError):
    """The process or machine that did the work was lost, but not the work: the same command goes on with it."""


class StoppedError(LatentsweepError):
    """The user stopped a job; nothing is lost, and the same command goes on."""


class UnfinishedError(LatentsweepError):
    """A job ended before its end though nobody stopped it; nothing is lost, and the same command goes on."""


class DivergenceError(LatentsweepError):
    """A training whose loss is no longer finite; ``step`` is where that happened."""

    kind = "divergence"

    def __init__(self, message: str, *, step: int) -> None:
        super().__init__(message)
        self.step = step

    def __reduce__(self) -> tuple[object, ...]:
        return functools.partial(DivergenceError, str(self), step=self.step), ()


def system_number(error: BaseException) -> int | None:
    """The system's number of an error, which libraries in Rust give in their text alone; None where there is none."""
    if isinstance(error, OSError):
        return error.errno
    said = re.search(r"\(os error (\d+)\)", str(error))
    return int(said.group(1)) if said else None


def store_error(message: str, number: int | None) -> StoreError:
    """A :class:`StoreError`, or a :class:`DiskError` where the system's error ``number`` means that."""
    return (DiskError if number in _FULL_OR_READ_ONLY else StoreError)(message)
