"""What ``data prepare`` does: find the scans, read them in parallel, split them, and write the dataset."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from latentsweep.datasets import holds, splits, volumes
from latentsweep.datasets.arrangement import arrange_rows, rows_with_pictures, volume_key
from latentsweep.datasets.catalogue import BUILT_IN, Dataset, check_name, dataset_named, how_to_get
from latentsweep.datasets.finding import discover
from latentsweep.datasets.formats.readers import PLUGINS
from latentsweep.datasets.labels import Labels, place_labels, read_labels
from latentsweep.datasets.lesions import LEFT_OUT
from latentsweep.datasets.manifest import VERSION, write_manifest
from latentsweep.datasets.masks import MASK_RULE
from latentsweep.datasets.phantom import SEED, SUBJECTS
from latentsweep.datasets.pseudonyms import Pseudonyms, home_key
from latentsweep.datasets.scans import PHANTOM, ReadersDiedError, Scan, list_scans, part_loose_pictures, read_scans
from latentsweep.datasets.shards import write_shards
from latentsweep.datasets.slices import PreparedDataset, open_dataset
from latentsweep.datasets.sources.discovery import Discovery
from latentsweep.datasets.sources.selection import EVERYTHING, Selection
from latentsweep.datasets.spool import ScanResult, Spool
from latentsweep.storage.refusals import why
from trainables.config import fingerprint
from trainables.errors import DataError

logger = logging.getLogger(__name__)

MAX_BROKEN_SHARE = 0.20
"""Above this share of broken files a source is taken to be the wrong or a damaged one."""
MAX_PLACES = 20
"""How many places of a reject the manifest lists."""
MIN_SIZE, MAX_SIZE = 16, 1024
PREPARATION = 4
"""Raised with every change of code after which the same source gives other slices, splits or subjects."""

Progress = Callable[[int, int], None]


def prepare(
    name: str,
    *,
    home: Path,
    source: Path | None = None,
    series: str | None = None,
    subject_from: str | None = None,
    selection: Selection = EVERYTHING,
    labels: Path | None = None,
    size: int = 128,
    jobs: int | None = None,
    replace: bool = False,
    progress: Progress | None = None,
    tell: Callable[[Discovery], None] | None = None,
) -> PreparedDataset:
    """Prepare the dataset ``name`` from ``source`` into ``home/datasets/name`` and open it.

    The same source and settings again answer at once, and after an interruption go on from the scans that were read;
    a demo of an older :data:`PREPARATION` is made anew.
    ``size`` is the slice's side in pixels, ``jobs`` the number of processes (all cores by default), ``progress`` is
    called with (scans done, scans in all), ``tell`` with what was found, before it is read. ``labels`` is a table of
    the subjects' labels (:mod:`~latentsweep.datasets.labels`), with which the fingerprint changes. Raises
    :class:`~trainables.errors.DataError` where the source or the settings cannot be used, for a name that was
    prepared otherwise unless ``replace``, and for one that a job uses.

    Datasets of the same patients (``brats_flair`` and ``brats_t1ce``) split them alike, with two exceptions:
    subjects with an identical image are joined before the split is drawn, and one without a usable slice has no
    place in it. Both may hold in one modality alone; the manifest notes how many they were.
    """
    home = Path(home)
    check_options(name, size, jobs)
    dataset = dataset_named(name)
    found = find_scans(dataset, source, series, subject_from, home, selection)
    if tell is not None:
        tell(found)
    given = read_labels(labels, {scan.subject for scan in found.scans}) if labels else None
    settings = settings_of(dataset, found, size, series)
    pseudonyms = Pseudonyms(home_key(home), dataset.namespace)
    sealed = pseudonyms.seal(
        fingerprint({**settings, "subject_from": subject_from, **selection.sealed})
        + found.listing
        + list_scans(found.scans, source)
        + (given.listing if given else "")
    )
    folder = home / "datasets" / name
    partial, retired = (folder.parent / f".{name}.{state}" for state in ("partial", "retired"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as held:
            held.enter_context(FileLock(folder.parent / f".{name}.lock"))
            if retired.exists() and not folder.exists():  # a replacement was killed between its two renames
                retired.rename(folder)
            shutil.rmtree(retired, ignore_errors=True)
            if folder.exists() and not replace:
                existing = open_dataset(folder.parent, name)
                if existing.manifest["source"] == sealed:
                    return existing
                _check_replaceable(existing, settings)
            if folder.exists():
                held.enter_context(holds.replace(folder.parent, name))
            try:
                spool = Spool.at(partial, sealed)
                _build(name, partial, found, settings, sealed, pseudonyms, given, spool, jobs, progress)
                spool.close()
                if folder.exists():
                    folder.rename(retired)
                partial.rename(folder)
                shutil.rmtree(retired, ignore_errors=True)
            except (ReadersDiedError, OSError):  # as where the process was ended: what was read stays
                raise
            except Exception:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    except OSError as error:
        raise DataError(
            f"the datasets folder must be writable: {folder.parent}: {why(error)}, and run the same command again, "
            "which goes on from the scans that were read, or choose another --home"
        ) from None
    return open_dataset(folder.parent, name)


def check_options(name: str, size: int, jobs: int | None) -> None:
    """Raises :class:`DataError` for a name, a size of slices or a number of processes that can't be."""
    check_name(name)
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise DataError(f"the size of a slice must be {MIN_SIZE} to {MAX_SIZE} pixels, got {size}")
    if jobs is not None and jobs < 1:
        raise DataError(f"--jobs must be at least 1, got {jobs}")


def find_scans(
    dataset: Dataset,
    source: Path | None,
    series: str | None,
    subject_from: str | None,
    home: Path,
    selection: Selection = EVERYTHING,
) -> Discovery:
    """The scans that a preparation reads; raises :class:`DataError`."""
    if dataset.layout is not None:
        if source is None or (dataset.getting and not Path(source).exists()):
            got = "" if source is None else f" ({source} does not exist)"
            raise DataError(f"{dataset.name} needs --source, its scans{got}: {how_to_get(dataset.name, home)}")
        found = discover(dataset.name, Path(source), series=series, subject_from=subject_from, selection=selection)
        return dataclasses.replace(found, scans=part_loose_pictures(found.scans))
    if (source, series, subject_from) != (None, None, None) or selection:
        raise DataError(
            f"the {dataset.name} is made on the spot: leave out --source, --series, --subject-from, --include and "
            "--exclude"
        )
    scans = tuple(Scan(PHANTOM, f"demo/{number}", str(number)) for number in range(SUBJECTS))
    return Discovery(
        scans=scans,
        subjects=frozenset(scan.subject for scan in scans),
        listing="demo",
        subject_rule=f"{SUBJECTS} phantom subjects, seed {SEED}",
    )


def settings_of(dataset: Dataset, found: Discovery, size: int, series: str | None) -> dict[str, Any]:
    """What a preparation does with them, as the manifest tells it."""
    added = {kind: plugin.identity for kind, plugin in PLUGINS.items() if any(s.kind == kind for s in found.scans)}
    return {
        "preparation": PREPARATION,
        "size": size,
        "series": series or dataset.series,
        "modality": dataset.modality,
        "subject": found.subject_rule,
        "orientation": "axial, anterior up, the patient's left on the viewer's right",
        "intensity": volumes.WINDOW_RULE,
        "brain": volumes.BRAIN_RULE,
        "resize": "bicubic in true proportions, padded with 0 to a square",
        "split": {"shares": list(splits.SHARES), "seed": splits.SEED},
        **({"mask": MASK_RULE} if any(scan.masks for scan in found.scans) else {}),
        **({"readers": added} if added else {}),
    }


def _check_replaceable(existing: PreparedDataset, settings: Mapping[str, Any]) -> None:
    """Raises :class:`DataError`, except for a demo of this size by an older version: it is nobody's data."""
    older = existing.manifest["settings"].get("preparation", 0) < PREPARATION
    if existing.name == BUILT_IN and older and existing.size == settings["size"]:
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
    labels: Labels | None,
    spool: Spool,
    jobs: int | None,
    progress: Progress | None,
) -> None:
    """Read the scans that ``spool`` lacks, then write shards and manifest into ``folder``."""
    by_number: dict[int, ScanResult] = {}
    with contextlib.closing(read_scans(found.scans, settings["size"], jobs, spool)) as incoming:
        for number, result in incoming:
            by_number[number] = result
            if progress is not None:
                progress(len(by_number), len(found.scans))
    results = [by_number[number] for number in range(len(found.scans))]
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
    volumes, counts, print_of_rows = arrange_rows(found, results, pseudonyms)
    if not volumes:
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
    joined, unusable = counts["subjects_joined_by_identical_images"], counts["subjects_unusable"]
    without_place = {"joined to others for identical images": joined, "without a usable slice": unusable}
    notes += [
        f"subjects {what}: {count}; they hold no place in the split, so another dataset of the same patients, as one "
        "of another modality, may split some patients otherwise"
        for what, count in without_place.items()
        if count
    ]
    notes += plane_notes(results)
    notes += mask_notes(results)
    lesions = [image.lesion for placed in volumes for image in placed.volume.slices if image.lesion is not None]
    masks = {"slices_with_mask": len(lesions), "slices_with_lesion": sum(map(bool, lesions))} if lesions else {}
    told: dict[str, list[int]] = {}
    if labels:
        told, print_of_labels = place_labels(labels, found.scans, volumes)
        print_of_rows = fingerprint([print_of_rows, print_of_labels], length=64)
        counts["subjects_by_label"] = labels.counts(told)
    shards = write_shards(folder, rows_with_pictures(volumes, spool), bool(lesions))
    write_manifest(
        folder,
        {
            "version": VERSION,
            "name": name,
            "created": datetime.date.today().isoformat(),
            "fingerprint": print_of_rows,
            **({"labels": {"categories": labels.categories, "subjects": told}} if labels else {}),
            "source": sealed,
            "settings": settings,
            "counts": {
                **counts,
                **masks,
                "files": files,
                "files_broken": broken,
                "files_ignored": found.ignored,
                "slices_with_too_little_brain": dropped,
            },
            "rejects": rejects,
            "notes": notes,
            "bytes": sum(shard["bytes"] + shard.get("masks", {}).get("bytes", 0) for shard in shards),
            "shards": shards,
        },
    )
    logger.info("prepared %s: %d slices of %d subjects", name, counts["slices"], counts["subjects"])


def plane_notes(results: Iterable[ScanResult]) -> list[str]:
    """A note on the volumes whose files do not tell their plane."""
    count = sum(plane.endswith("taken for axial") for result in results for plane in result.planes)
    return [f"volumes whose plane is unknown, taken for axial: {count}; look at them"] if count else []


def mask_notes(results: Iterable[ScanResult]) -> list[str]:
    """A note on the masks that were left out, for each reason."""
    left_out = Counter(reason for result in results for reason in result.mask_rejects)
    return [f"{LEFT_OUT}: {count} × {reason}" for reason, count in sorted(left_out.items())]


def _rejects(scans: Sequence[Scan], results: Sequence[ScanResult], pseudonyms: Pseudonyms) -> list[dict[str, Any]]:
    """The rejects by reason, each with its number of files and up to MAX_PLACES pseudonymous places."""
    places: dict[tuple[str, bool], Counter[tuple[str, str]]] = defaultdict(Counter)
    for scan, result in zip(scans, results, strict=True):
        where = (pseudonyms.subject(scan.subject), pseudonyms.volume(volume_key(scan, 0)))
        for reason, broken, files in result.rejects:
            places[reason, broken][where] += files
    return [
        {
            "reason": reason,
            "broken": broken,
            "count": found.total(),
            "places": [
                {"subject": subject, "volume": volume, "files": files}
                for (subject, volume), files in sorted(found.items())[:MAX_PLACES]
            ],
        }
        for (reason, broken), found in sorted(places.items())
    ]
