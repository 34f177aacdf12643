"""The job behind ``data prepare``: find scans, read them in parallel, split, and write the dataset in one move."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import logging
import math
import multiprocessing
import os
import shutil
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from latentsweep.datasets import splits, volumes
from latentsweep.datasets.catalogue import KNOWN, check_name, how_to_get, namespace
from latentsweep.datasets.dicom import dicom_volumes
from latentsweep.datasets.nifti import read_nifti
from latentsweep.datasets.phantom import SEED, SUBJECTS, phantom
from latentsweep.datasets.pictures import picture_volumes
from latentsweep.datasets.pseudonyms import Pseudonyms, home_key
from latentsweep.datasets.slices import (
    VERSION,
    PreparedDataset,
    SliceRow,
    encode_stored,
    image_hash,
    open_dataset,
    write_manifest,
    write_shards,
)
from latentsweep.datasets.sources import Discovery, Scan, discover
from latentsweep.datasets.volumes import Reject, Volume
from trainables.config import fingerprint
from trainables.errors import DataError, LatentsweepError

logger = logging.getLogger(__name__)

#: Above this share of broken files a source is taken to be the wrong or a damaged one.
MAX_BROKEN_SHARE = 0.20
#: How many places of a reject the manifest lists.
MAX_PLACES = 20
#: How long this process reads before it starts others, which take about a second to start.
ALONE_SECONDS = 2.0
MIN_SIZE, MAX_SIZE = 16, 1024
#: Raised with every change of code after which the same source gives other slices, splits or subjects.
PREPARATION = 1

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SliceImage:
    """One kept slice: its index from the feet up, the SHA-256 of its pixels, and its PNG."""

    index: int
    digest: str
    png: bytes = dataclasses.field(repr=False)


@dataclass(frozen=True)
class ScanResult:
    """What a scan gave: the slices of each of its volumes, (reason, broken, files) of its rejects, dropped slices."""

    volumes: list[list[SliceImage]]
    rejects: list[tuple[str, bool, int]]
    dropped: int


def prepare(
    name: str,
    *,
    home: Path,
    source: Path | None = None,
    series: str | None = None,
    subject_from: str | None = None,
    size: int = 128,
    jobs: int | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> PreparedDataset:
    """Prepare the dataset ``name`` from ``source`` into ``home/datasets/name`` and open it.

    The same source and settings again answer at once; a demo of an older :data:`PREPARATION` is made anew.
    ``size`` is the slice's side in pixels, ``jobs`` the number of processes (all cores by default), ``progress``
    is told (scans done, scans in all). Raises :class:`~trainables.errors.DataError` where the source or the
    settings cannot be used, and for a name that was prepared otherwise unless ``replace``.

    Datasets of the same patients (``brats_flair`` and ``brats_t1ce``) split them alike, with one exception:
    subjects with an identical image are joined and share a split, and images may be identical in one modality
    alone. The manifest notes how many were joined.
    """
    home = Path(home)
    check_name(name)
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise DataError(f"the size of a slice must be {MIN_SIZE} to {MAX_SIZE} pixels, got {size}")
    if jobs is not None and jobs < 1:
        raise DataError(f"--jobs must be at least 1, got {jobs}")
    found = _found(name, source, series, subject_from, home)
    settings = _settings(name, found, size, series)
    pseudonyms = Pseudonyms(home_key(home), namespace(name))
    sealed = pseudonyms.seal(fingerprint({**settings, "subject_from": subject_from}) + found.listing)
    folder = home / "datasets" / name
    partial, retired = (folder.parent / f".{name}.{state}" for state in ("partial", "retired"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{name}.lock"):
            for leftover in (partial, retired):
                shutil.rmtree(leftover, ignore_errors=True)
            if folder.exists() and not replace:
                existing = open_dataset(folder.parent, name)
                if existing.manifest["source"] == sealed:
                    return existing
                _check_replaceable(existing, settings)
            partial.mkdir()
            try:
                _build(name, partial, found, settings, sealed, pseudonyms, jobs, progress)
                if folder.exists():
                    folder.rename(retired)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
                shutil.rmtree(retired, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"the datasets folder must be writable: {folder.parent}: {error.strerror or type(error).__name__}; "
            "make room there or choose another --home"
        ) from None
    return open_dataset(folder.parent, name)


def read_scan(scan: Scan, size: int) -> ScanResult:
    """Read one scan and cut its slices; what cannot be used is among the rejects, never an exception."""
    rejected: list[Reject] = []
    found: list[Volume] = []
    kept: list[list[SliceImage]] = []
    dropped = 0
    try:
        if scan.kind == "phantom":
            found = [phantom(int(scan.key))]
        elif scan.kind == "nifti":
            found = [read_nifti(scan.files[0])]
        elif scan.kind == "dicom":
            found, rejected = dicom_volumes(scan.files)
        else:
            found, rejected = picture_volumes(scan.files)
    except Reject as reject:
        rejected = [reject]
    except MemoryError:
        rejected = [Reject("too large for this machine's memory", broken=False)] * len(scan.files)
    except LatentsweepError:
        raise
    except Exception as error:  # a reader's own message may quote the file: only the error's type gets out
        rejected = [Reject(f"its reader failed with {type(error).__name__}", broken=True)] * len(scan.files)
    rejects = [(reject.reason, reject.broken, 1) for reject in rejected]
    for volume in found:
        files = 1 if scan.kind == "nifti" else volume.voxels.shape[2]
        try:
            images, blank = volumes.slices_of(volume, size)
        except Reject as reject:
            rejects.append((reject.reason, reject.broken, files))
            continue
        except MemoryError:
            rejects.append(("too large for this machine's memory", False, files))
            continue
        dropped += blank
        kept.append([SliceImage(index, image_hash(image), encode_stored(image)) for index, image in images])
    return ScanResult([images for images in kept if images], rejects, dropped)


def _found(name: str, source: Path | None, series: str | None, subject_from: str | None, home: Path) -> Discovery:
    if name != "demo":
        if source is None:
            raise DataError(f"{name} needs --source, the folder with its scans: {how_to_get(name, home)}")
        return discover(name, Path(source), series=series, subject_from=subject_from)
    if (source, series, subject_from) != (None, None, None):
        raise DataError("the demo is made on the spot: leave out --source, --series and --subject-from")
    scans = tuple(Scan("phantom", f"demo/{number}", str(number)) for number in range(SUBJECTS))
    rule = f"{SUBJECTS} phantom subjects, seed {SEED}"
    return Discovery(scans, frozenset(scan.subject for scan in scans), "demo", 0, rule)


def _settings(name: str, found: Discovery, size: int, series: str | None) -> dict[str, Any]:
    return {
        "preparation": PREPARATION,
        "size": size,
        "series": (series or "FLAIR") if name == "kaggle" else None,
        "modality": (KNOWN[name].modality or None) if name in KNOWN else None,
        "subject": found.subject_rule,
        "orientation": "axial, anterior up, the patient's left on the viewer's right",
        "intensity": volumes.WINDOW_RULE,
        "brain": volumes.BRAIN_RULE,
        "resize": "bicubic in true proportions, padded with 0 to a square",
        "split": {"shares": list(splits.SHARES), "seed": splits.SEED},
    }


def _check_replaceable(existing: PreparedDataset, settings: Mapping[str, Any]) -> None:
    """Raises :class:`DataError` but for a demo of an older preparation and the same size: it holds no one's data."""
    older = existing.manifest["settings"].get("preparation", 0) < PREPARATION
    if existing.name == "demo" and older and existing.size == settings["size"]:
        return
    cause = "by an older version of the code" if older else "from another source or with other settings"
    raise DataError(
        f"the dataset {existing.name} is already prepared {cause}: add --replace to prepare it anew, or choose "
        "another name"
    )


def _build(
    name: str,
    folder: Path,
    found: Discovery,
    settings: Mapping[str, Any],
    sealed: str,
    pseudonyms: Pseudonyms,
    jobs: int | None,
    progress: Progress | None,
) -> None:
    """Read all scans, then write shards and manifest into ``folder``."""
    results: list[ScanResult] = []
    with contextlib.closing(_read_all(found.scans, settings["size"], jobs)) as incoming:
        for result in incoming:
            results.append(result)
            if progress is not None:
                progress(len(results), len(found.scans))
    rejects = _rejects(found.scans, results, pseudonyms)
    files = sum(max(1, len(scan.files)) for scan in found.scans)
    broken = sum(reject["count"] for reject in rejects if reject["broken"])
    dropped = sum(result.dropped for result in results)
    reasons = "; ".join(f"{reject['count']} × {reject['reason']}" for reject in rejects)
    if broken > MAX_BROKEN_SHARE * files:
        raise DataError(
            f"at most {MAX_BROKEN_SHARE:.0%} of the files may be broken, got {broken} of {files} ({reasons}): "
            "check --source, or take the broken files out"
        )
    rows, counts, print_of_rows = _arranged(found, results, pseudonyms)
    if not rows:
        raise DataError(
            f"no usable slice is in the {files} files of the source ({reasons or 'no file refused'}; {dropped} "
            "slices hold too little brain): check --source"
        )
    notes = list(found.notes)
    notes += [
        f"the {split} split by subject is empty"
        for split, subjects in counts["subjects_by_split"].items()
        if not subjects
    ]
    if joined := counts["subjects_joined_by_identical_images"]:
        notes.append(
            f"subjects joined to others for identical images: {joined}; another dataset of the same patients, as one "
            "of another modality, may have them in another split"
        )
    shards = write_shards(folder, rows)
    write_manifest(
        folder,
        {
            "version": VERSION,
            "name": name,
            "created": datetime.date.today().isoformat(),
            "fingerprint": print_of_rows,
            "source": sealed,
            "settings": settings,
            "counts": {
                **counts,
                "files": files,
                "files_broken": broken,
                "files_ignored": found.ignored,
                "slices_with_too_little_brain": dropped,
            },
            "rejects": rejects,
            "notes": notes,
            "bytes": sum(shard["bytes"] for shard in shards),
            "shards": shards,
        },
    )
    logger.info("prepared %s: %d slices of %d subjects", name, counts["slices"], counts["subjects"])


def _read_all(scans: Sequence[Scan], size: int, jobs: int | None) -> Generator[ScanResult, None, None]:
    """The result of each scan, in order, from this process or from ``jobs`` others.

    By default others are started when this one has read for a while, or a small dataset would wait for them longer
    than for its scans.
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
        # Or a result that was cut off in the middle is waited for without end.
        pool._result_queue._writer.close()  # type: ignore[attr-defined]
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _rejects(scans: Sequence[Scan], results: Sequence[ScanResult], pseudonyms: Pseudonyms) -> list[dict[str, Any]]:
    """The rejects by reason, each with its number of files and up to MAX_PLACES pseudonymous places."""
    counts: Counter[tuple[str, bool]] = Counter()
    places: dict[tuple[str, bool], dict[tuple[str, str], int]] = defaultdict(dict)
    for scan, result in zip(scans, results, strict=True):
        where = (pseudonyms.subject(scan.subject), pseudonyms.volume(_volume_key(scan, 0)))
        for reason, broken, files in result.rejects:
            counts[reason, broken] += files
            places[reason, broken][where] = places[reason, broken].get(where, 0) + files
    return [
        {
            "reason": reason,
            "broken": broken,
            "count": count,
            "places": [
                {"subject": subject, "volume": volume, "files": files}
                for (subject, volume), files in sorted(places[reason, broken].items())[:MAX_PLACES]
            ],
        }
        for (reason, broken), count in sorted(counts.items())
    ]


def _arranged(
    found: Discovery, results: Sequence[ScanResult], pseudonyms: Pseudonyms
) -> tuple[list[SliceRow], dict[str, Any], str]:
    """The rows in the order of their content, their counts, and their fingerprint.

    Nothing in the order tells of an identifier: subjects come by their smallest image hash, volumes likewise.
    """
    order = splits.ranked(found.subjects)
    images: dict[str, set[str]] = defaultdict(set)
    for scan, result in zip(found.scans, results, strict=True):
        images[scan.subject].update(image.digest for volume in result.volumes for image in volume)
    group = splits.joined(order, images)
    split_of = splits.subject_splits(order)
    by_subject: dict[str, list[tuple[str, list[SliceImage]]]] = defaultdict(list)
    for scan, result in zip(found.scans, results, strict=True):
        for number, volume in enumerate(result.volumes):
            by_subject[group[scan.subject]].append((pseudonyms.volume(_volume_key(scan, number)), volume))
    ordered = sorted(
        (
            (subject, sorted(volumes, key=lambda named: [image.digest for image in named[1]]))
            for subject, volumes in by_subject.items()
        ),
        key=lambda entry: [sorted(image.digest for _, volume in entry[1] for image in volume)],
    )
    total = sum(len(volume) for _, volumes in ordered for _, volume in volumes)
    by_slice = splits.slice_splits(total)
    rows: list[SliceRow] = []
    digest = hashlib.sha256()
    for subject_ordinal, (subject, named_volumes) in enumerate(ordered):
        for volume_ordinal, (name, volume) in enumerate(named_volumes):
            for image in volume:
                labels = (split_of[subject], by_slice[len(rows)])
                rows.append(SliceRow(pseudonyms.subject(subject), name, image.index, *labels, image.png))
                line = (image.digest, image.index, *labels, subject_ordinal, volume_ordinal)
                digest.update("\t".join(map(str, line)).encode() + b"\n")
    by_subject_split = Counter(split_of[subject] for subject, _ in ordered)
    counts = {
        "slices": total,
        "subjects": len(ordered),
        "volumes": sum(len(volumes) for _, volumes in ordered),
        "subjects_joined_by_identical_images": len({s for s, v in images.items() if v}) - len(ordered),
        "slices_by_split": _by_split(row.split for row in rows),
        "slices_by_split_by_slice": _by_split(row.split_by_slice for row in rows),
        "subjects_by_split": {split: by_subject_split[split] for split in splits.SPLITS},
    }
    return rows, counts, digest.hexdigest()


def _volume_key(scan: Scan, number: int) -> str:
    return f"{scan.key}\0{number}"


def _by_split(labels: Iterator[str]) -> dict[str, int]:
    count = Counter(labels)
    return {split: count[split] for split in splits.SPLITS}
