"""Every limit of what reading a file may cost, and the guards that hold the readers to it.

A file above a limit becomes a :class:`~latentsweep.datasets.volumes.Reject` before memory is taken for it. If the
header states a size, that size is checked. With these limits a process that reads scans stays below 2 GB.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from PIL import Image

from latentsweep.datasets.formats.reject import Reject
from trainables.errors import LatentsweepError

MAX_VOXELS = 2**27
"""Voxels of a volume, and of all images of one series or folder together: 512×512×512."""
MAX_NIFTI_BYTES = 4 * MAX_VOXELS + 2**20
"""Bytes of a NIfTI file's header and voxels, inflated: four for each voxel that is allowed, and a header."""
MAX_SIDE = 4096
"""A picture or DICOM image may have no more pixels than a square of this side."""
MAX_PIXELS = MAX_SIDE**2
MAX_DICOM_BYTES = 2**28
"""Bytes of a DICOM file, as it lies and inflated."""
MAX_RLE_BYTES = 2**24
"""Bytes of a DICOM image in run-length encoding, which grows 64 times at most."""
MAX_STREAM_SHARE, MAX_STREAM_HEAD = 2, 2**16
"""A compressed DICOM image may have so many times the bytes of its pixels, and so many more: no decoder in C can be
stopped, and the slowest one takes 3 seconds for as many bytes as 4096×4096 pixels have."""
MAX_SECONDS = 10.0
"""Seconds of processor time that reading one file may take."""
MAX_DEPTH = 64
"""Folders below one another in a source."""
MOST_INFLATION = 1032
"""DEFLATE makes at most this many bytes of one (zlib's technical notes)."""

STANDARD_ERROR = 2
"""The number of its descriptor."""
STAND_IN_BYTES = 256
"""So many first bytes tell what lies in the place of a scan."""

NO_MEMORY = "too large for this machine's memory"
TOO_MANY_VOXELS = f"beyond {MAX_VOXELS:,} voxels in one series or folder"
TOO_SLOW = f"takes more than {MAX_SECONDS:g} s to read"

UNREADABLE = (OSError, EOFError, ValueError, TypeError, KeyError, OverflowError, struct.error, zlib.error)
"""What every library raises for a damaged file; each reader adds what its own raises beside."""


class _OutOfTime(BaseException):
    """Not an :class:`Exception`, so that no reader takes it for a fault of the file."""


@contextlib.contextmanager
def guard_reading() -> Iterator[None]:
    """Reading one file: a :class:`Reject` where it takes more than ``MAX_SECONDS``, where there is no memory for it,
    and where its reader fails. So one damaged file costs no other file of its folder.

    Processor time, so that a slow disk or a busy machine rejects nothing. Only the main thread of a process can
    be interrupted, and on POSIX systems alone; elsewhere the time is not limited.
    """
    try:
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
            yield
            return
        before = signal.signal(signal.SIGPROF, _stop)
        try:
            signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS, 1.0)  # again each second, should a reader swallow it
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)
    except _OutOfTime:
        raise Reject(TOO_SLOW, broken=True) from None
    except MemoryError:
        raise Reject(NO_MEMORY, broken=False) from None
    except (Reject, LatentsweepError):
        raise
    except Exception as error:
        raise Reject(name_failure(error), broken=True) from None


def name_failure(error: Exception) -> str:
    """The reason of a file whose reader failed: its own message may quote the file, so it is the error's type."""
    return f"its reader failed with {type(error).__name__}"


def _stop(number: int, frame: FrameType | None) -> None:
    raise _OutOfTime


def open_regular(path: Path) -> BinaryIO:
    """The file to read; raises :class:`OSError` for a pipe, device or socket, at once."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("not a regular file")
    return os.fdopen(descriptor, "rb")


def open_scan(path: Path) -> BinaryIO:
    """The file of a scan to read, at its beginning; raises :class:`Reject` for what a failed download left in its
    place, and :class:`OSError` as :func:`open_regular` does."""
    file = open_regular(path)
    stand_in = name_stand_in(file.read(STAND_IN_BYTES))
    if stand_in:
        file.close()
        raise Reject(stand_in, broken=True)
    file.seek(0)
    return file


def name_stand_in(head: bytes) -> str | None:
    """What a failed download left in the place of a scan, by the file's first bytes, or None."""
    if not head:
        return "an empty file: download it again"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer and not the scan itself: run `git lfs pull`"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page and not a scan: download it again"
    return None


@contextlib.contextmanager
def silence(logger_name: str) -> Iterator[None]:
    """No warning, and nothing of this logger, gets out of the block: readers quote headers, which name patients."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def silence_native() -> Iterator[None]:
    """Nothing that a library in C writes to the standard error gets out of the block, nor what others write there."""
    try:
        kept = os.dup(STANDARD_ERROR)
    except OSError:  # it is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, STANDARD_ERROR)
        yield
    finally:
        os.dup2(kept, STANDARD_ERROR)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def limit_pixels() -> Iterator[None]:
    """Pillow raises :data:`TOO_MANY_PIXELS` on opening a picture of more than ``MAX_PIXELS``, whoever opens it."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


TOO_MANY_PIXELS = (Image.DecompressionBombWarning, Image.DecompressionBombError)
"""What Pillow raises within :func:`limit_pixels`: up to twice the limit, and above."""


def inflates_beyond(data: bytes, limit: int) -> bool:
    """Whether a raw DEFLATE stream holds more than ``limit`` bytes; takes a few KiB of memory.

    Raises :class:`zlib.error` for a stream that is none.
    """
    inflating = zlib.decompressobj(-zlib.MAX_WBITS)
    total, rest, step = 0, data, 2**16
    while rest and not inflating.eof and total <= limit:
        total += len(inflating.decompress(rest, step))
        rest = inflating.unconsumed_tail
    return total > limit
