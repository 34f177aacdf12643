"""Scans → slices: the files of one volume or series, read in this process or in several."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from latentsweep.datasets.limits import NO_MEMORY
from latentsweep.datasets.phantom import phantom
from latentsweep.datasets.readers import READERS
from latentsweep.datasets.slices import encode_stored, image_hash
from latentsweep.datasets.volumes import Reject, Volume, slices_of
from trainables.errors import DataError, LatentsweepError

PHANTOM = "phantom"
"""The kind of a scan that has no files: its key is the number of a made-up patient."""
ALONE_SECONDS = 2.0
"""How long this process reads before it starts others, which take about a second to start."""


@dataclass(frozen=True)
class Scan:
    """One unit of work: the files of a volume (or of a folder of DICOM series), and whose it is."""

    kind: str
    """A name in :data:`latentsweep.datasets.readers.READERS`, or :data:`PHANTOM`."""
    subject: str = field(repr=False)
    key: str = field(repr=False)
    files: tuple[Path, ...] = field(repr=False, default=())


@dataclass(frozen=True)
class SliceImage:
    """One kept slice: its index from the feet up, the SHA-256 of its pixels, and its PNG."""

    index: int
    digest: str
    png: bytes = field(repr=False)


@dataclass(frozen=True)
class ScanResult:
    """What a scan gave: the slices of each of its volumes, (reason, broken, files) of its rejects, dropped slices."""

    volumes: list[list[SliceImage]]
    rejects: list[tuple[str, bool, int]]
    dropped: int


def read_scan(scan: Scan, size: int) -> ScanResult:
    """Read one scan and cut its slices.

    What cannot be used is among the rejects. Raises :class:`LatentsweepError` alone, where the installation is at
    fault and not the file.
    """
    found, rejected = _read_volumes(scan)
    rejects = [(reject.reason, reject.broken, 1) for reject in rejected]
    kept: list[list[SliceImage]] = []
    dropped = 0
    for volume in found:
        one_file = scan.kind != PHANTOM and READERS[scan.kind].one_file
        try:
            images, blank = slices_of(volume, size)
        except (Reject, MemoryError) as error:
            reject = error if isinstance(error, Reject) else Reject(NO_MEMORY, broken=False)
            rejects.append((reject.reason, reject.broken, 1 if one_file else volume.voxels.shape[2]))
            continue
        dropped += blank
        kept.append([SliceImage(index, image_hash(image), encode_stored(image)) for index, image in images])
    return ScanResult([images for images in kept if images], rejects, dropped)


def _read_volumes(scan: Scan) -> tuple[list[Volume], list[Reject]]:
    try:
        if scan.kind == PHANTOM:
            return [phantom(int(scan.key))], []
        return READERS[scan.kind].read(scan.files)
    except Reject as reject:
        return [], [reject]
    except MemoryError:
        reason, broken = NO_MEMORY, False
    except LatentsweepError:
        raise
    except Exception as error:  # a reader's own message may quote the file: only the error's type gets out
        reason, broken = f"its reader failed with {type(error).__name__}", True
    return [], [Reject(reason, broken=broken)] * len(scan.files)


def read_scans(scans: Sequence[Scan], size: int, jobs: int | None) -> Generator[ScanResult, None, None]:
    """The result of each scan, in order, from this process or from ``jobs`` others.

    By default others are started when this one has read for a while, or a small dataset would wait for them longer
    than for its scans. Raises :class:`DataError` where one of them dies.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = jobs or cores
    until = math.inf if workers == 1 else time.monotonic() + (0 if jobs else ALONE_SECONDS)
    done = 0
    while done < len(scans) and time.monotonic() < until:
        yield read_scan(scans[done], size)
        done += 1
    scans = scans[done:]
    if not scans:
        return
    workers = min(workers, len(scans))
    chunk = max(1, min(16, len(scans) // (4 * workers)))
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),  # Ctrl-C ends this process, which ends them
    )
    try:
        yield from pool.map(read_scan, scans, [size] * len(scans), chunksize=chunk)
    except BrokenProcessPool:
        raise DataError("a process that read scans died, perhaps for want of memory: try --jobs 1") from None
    except BaseException:  # Ctrl-C, also twice: an orderly end would wait for the workers, and can wait for ever
        for process in list(pool._processes.values()):
            process.kill()
        # A result that was cut off in the middle would be waited for without end.
        pool._result_queue._writer.close()  # type: ignore[attr-defined]
        raise
    finally:
        pool.shutdown(cancel_futures=True)
