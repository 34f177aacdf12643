"""Scans → slices: the files of one volume or series, read in this process or in several."""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from latentsweep.datasets.formats.limits import MAX_VOXELS, NO_MEMORY, name_failure
from latentsweep.datasets.formats.readers import READERS
from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.masks import Labels, cut_labels, read_labels
from latentsweep.datasets.phantom import phantom
from latentsweep.datasets.png import encode_stored, image_hash
from latentsweep.datasets.sources.annotations import LABEL_MAP, leave_out_labels
from latentsweep.datasets.spool import ScanResult, SliceImage, Spool
from latentsweep.datasets.volumes import Volume, plane_of, slices_of
from trainables.errors import DataError, LatentsweepError
from trainables.loop.machine import cores, memory

PHANTOM = "phantom"
"""The kind of a scan that has no files: its key is the number of a made-up patient."""
ALONE_SECONDS = 2.0
"""How long this process reads before it starts others, which take about a second to start."""
MEMORY_SHARE = 0.5
"""The share of the machine's memory that the processes that read may take together."""
ARRAY = "array"
LOOSE = ("picture", ARRAY)
"""Formats whose files may be one of many slices of a volume."""
MOST_IN_A_VOLUME = 320
"""A folder of more pictures than this is no volume: axial series have fewer."""


@dataclass(frozen=True)
class Scan:
    """One unit of work: the files of a volume (or of a folder of DICOM series), and whose it is."""

    kind: str
    """A name in :data:`latentsweep.datasets.formats.readers.READERS`, or :data:`PHANTOM`."""
    subject: str = field(repr=False)
    key: str = field(repr=False)
    files: tuple[Path, ...] = field(repr=False, default=())
    masks: tuple[Path | None, ...] = field(repr=False, default=())
    """The lesion mask of each of the files; empty where none has one."""
    channel: int | None = None
    """The channel that is taken of files that hold several; None where a file is one image."""


def part_loose_pictures(scans: Sequence[Scan]) -> tuple[Scan, ...]:
    """The scans, where a folder of more than MOST_IN_A_VOLUME pictures or arrays is a scan for each of them.

    So is a folder of arrays of more bytes than a volume may have voxels: they may be stacks. Each file then has a
    window of its own, and none is lost to the limit of a volume's voxels.
    """
    parted: list[Scan] = []
    for scan in scans:
        if scan.kind in LOOSE and (len(scan.files) > MOST_IN_A_VOLUME or _are_stacks(scan)):
            parted += [
                dataclasses.replace(
                    scan, key=f"{scan.key}\0{number}", files=(file,), masks=scan.masks[number : number + 1]
                )
                for number, file in enumerate(scan.files)
            ]
        else:
            parted.append(scan)
    return tuple(parted)


def list_scans(scans: Iterable[Scan], source: Path | None) -> str:
    """A text that changes when one of the scans, their order or whose they are does: to be sealed and never shown.

    Paths in it are those below ``source``, which may move.
    """
    root = f"{source.resolve()}{os.sep}" if source else ""

    def below(path: Path | None) -> str | None:
        return None if path is None else str(path).removeprefix(root)

    return json.dumps(
        [(scan.kind, scan.key, scan.subject, scan.channel, *map(below, (*scan.files, *scan.masks))) for scan in scans]
    )


def _are_stacks(scan: Scan) -> bool:
    return scan.kind == ARRAY and len(scan.files) > 1 and sum(map(os.path.getsize, scan.files)) > MAX_VOXELS


def read_scan(scan: Scan, size: int) -> ScanResult:
    """Read one scan and cut its slices.

    What cannot be used is among the rejects. Raises :class:`LatentsweepError` alone, where the installation is at
    fault and not the file.
    """
    found, rejected = _read_volumes(scan)
    rejects = [(reject.reason, reject.broken, 1) for reject in rejected]
    kept: list[list[SliceImage]] = []
    planes: list[str] = []
    dropped = 0
    found, label_maps = _without_label_maps(scan, found)
    rejects += [(LABEL_MAP, False, label_maps)] if label_maps else []
    labels, mask_rejects = _read_labels(scan, found)
    for volume in found:
        one_file = scan.kind != PHANTOM and READERS[scan.kind].one_file
        try:
            images, blank = slices_of(volume, size)
        except (Reject, MemoryError) as error:
            reject = error if isinstance(error, Reject) else Reject(NO_MEMORY, broken=False)
            rejects.append((reject.reason, reject.broken, 1 if one_file else volume.voxels.shape[2]))
            continue
        dropped += blank
        if not images:
            continue
        planes.append(plane_of(volume))
        masks = [None] * len(images) if labels is None else cut_labels(volume, labels, [i for i, _ in images], size)
        kept.append([_slice_image(*image, mask) for image, mask in zip(images, masks, strict=True)])
    return ScanResult(kept, rejects, dropped, mask_rejects, planes)


def _without_label_maps(scan: Scan, found: Sequence[Volume]) -> tuple[list[Volume], int]:
    """The volumes that are no maps of labels, and how many files are. DICOM headers tell them by themselves."""
    reader = READERS.get(scan.kind)
    if reader is None or reader.patient is not None or scan.masks:
        return list(found), 0
    parted = [leave_out_labels(volume, not reader.one_file) for volume in found]
    return [volume for volume, _ in parted if volume is not None], sum(count for _, count in parted)


def _slice_image(index: int, image: Labels, mask: Labels | None) -> SliceImage:
    png, digest = encode_stored(image), image_hash(image)
    if mask is None:
        return SliceImage(index, digest, png)
    return SliceImage(index, digest, png, encode_stored(mask), int(np.count_nonzero(mask)))


def _read_labels(scan: Scan, found: Sequence[Volume]) -> tuple[Labels | None, list[str]]:
    """The labels of a scan that has masks and gave a volume, and why there are none."""
    if not scan.masks or not found:
        return None, []
    try:
        return read_labels(scan.kind, scan.masks, found), []
    except Reject as reject:
        return None, [reject.reason]
    except MemoryError:
        return None, [NO_MEMORY]
    except LatentsweepError:
        raise
    except Exception as error:
        return None, [name_failure(error)]


def _read_volumes(scan: Scan) -> tuple[list[Volume], list[Reject]]:
    try:
        if scan.kind == PHANTOM:
            return [phantom(int(scan.key))], []
        return _read(scan)
    except Reject as reject:
        return [], [reject]
    except MemoryError:
        reason, broken = NO_MEMORY, False
    except LatentsweepError:
        raise
    except Exception as error:
        reason, broken = name_failure(error), True
    return [], [Reject(reason, broken=broken)] * len(scan.files)


def _read(scan: Scan) -> tuple[list[Volume], list[Reject]]:
    reader = READERS[scan.kind]
    if scan.channel is None or reader.read_channel is None:
        return reader.read(scan.files)
    return reader.read_channel(scan.files, scan.channel)


def keep_scan(scan: Scan, size: int, spool: Spool, number: int) -> ScanResult:
    """Reads one scan, puts its slices on the spool under its ``number``, and returns the result without pictures."""
    return spool.put(number, read_scan(scan, size))


def read_scans(
    scans: Sequence[Scan], size: int, jobs: int | None, spool: Spool
) -> Generator[tuple[int, ScanResult], None, None]:
    """The number and the result of each scan, whose pictures are on ``spool``: first of those that it has already.

    Reads in this process or in ``jobs`` others. By default others are started when this one has read for a while, or
    a small dataset would wait for them longer than for its scans. There are then as many as there are cores,
    and fewer where its memory would not do. Raises :class:`ReadersDiedError` where one of them dies.
    """
    missing: list[int] = []
    for number in range(len(scans)):
        if (kept := spool.get(number)) is not None:
            yield number, kept
        else:
            missing.append(number)
    workers = jobs or cores()
    until = math.inf if workers == 1 else time.monotonic() + (0 if jobs else ALONE_SECONDS)
    done = 0
    while done < len(missing) and time.monotonic() < until:
        yield missing[done], keep_scan(scans[missing[done]], size, spool, missing[done])
        done += 1
    missing = missing[done:]
    if not missing:
        return
    workers = min(workers if jobs else min(workers, _workers_in_memory()), len(missing))
    chunk = max(1, min(16, len(missing) // (16 * workers)))
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),  # Ctrl-C ends this process, which ends them
    )
    count = len(missing)
    try:
        wanted = [scans[number] for number in missing]
        results = pool.map(keep_scan, wanted, [size] * count, [spool] * count, missing, chunksize=chunk)
        yield from zip(missing, results, strict=True)
    except BrokenProcessPool:
        raise ReadersDiedError(
            "a process that read scans died, perhaps for want of memory: run the same command again with --jobs 1, "
            "which goes on from the scans that were read"
        ) from None
    except BaseException:  # Ctrl-C, also twice: an orderly end would wait for the workers, and can wait for ever
        for process in list(pool._processes.values()):
            process.kill()
        # A result that was cut off in the middle would be waited for without end.
        pool._result_queue._writer.close()  # type: ignore[attr-defined]
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class ReadersDiedError(DataError):
    """A process that read scans was killed; what was read is kept."""


def _workers_in_memory() -> int:
    """How many processes that read as this one did have room in MEMORY_SHARE of the memory that there is."""
    if sys.platform == "win32":
        return cores()
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return max(1, int(MEMORY_SHARE * memory() / most))
