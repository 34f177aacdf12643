"""Where each volume that was read goes: its subject, its splits, its place among the rows of the shards."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from latentsweep.datasets import splits
from latentsweep.datasets.pseudonyms import Pseudonyms
from latentsweep.datasets.scans import Scan
from latentsweep.datasets.shards import SliceRow
from latentsweep.datasets.sources.discovery import Discovery
from latentsweep.datasets.spool import ScanResult, SliceImage, Spool


@dataclass(frozen=True)
class FoundVolume:
    """A volume by its pseudonym: its slices without their pictures, its scan's number, and its own in the scan."""

    name: str
    slices: Sequence[SliceImage]
    scan: int
    number: int


@dataclass(frozen=True)
class PlacedVolume:
    """A volume with its subject's pseudonym and the split, and the split by slice, of each of its slices."""

    volume: FoundVolume
    subject: str
    labels: Sequence[tuple[str, str]]


def rows_with_pictures(volumes: Sequence[PlacedVolume], spool: Spool) -> Iterator[SliceRow]:
    """The rows of the shards, whose pictures are read from ``spool`` a volume at a time."""
    for placed in volumes:
        volume = placed.volume
        pictures = spool.pictures(volume.scan, volume.number)
        for image, labels, (png, mask) in zip(volume.slices, placed.labels, pictures, strict=True):
            yield SliceRow(placed.subject, volume.name, image.index, *labels, png, mask)


def arrange_rows(
    found: Discovery, results: Sequence[ScanResult], pseudonyms: Pseudonyms
) -> tuple[list[PlacedVolume], dict[str, Any], str]:
    """The volumes in the order of their content, the counts of their rows, and their fingerprint.

    Nothing in the order tells of an identifier: subjects come by their smallest image hash, volumes likewise.
    Subjects with an identical image are one before the split is drawn. One whose scans gave no slice has no place in
    it; one whose scans are all of another modality has, so that datasets of the same patients split them alike.
    """
    order = splits.rank_subjects(found.subjects)
    images: dict[str, set[str]] = defaultdict(set)
    for scan, result in zip(found.scans, results, strict=True):
        images[scan.subject].update(image.digest for volume in result.volumes for image in volume)
    group = splits.join_subjects(order, images)
    unusable = {subject for subject, here in images.items() if not here}
    split_of = splits.subject_splits([s for s in order if group[s] == s and s not in unusable])
    by_subject: dict[str, list[FoundVolume]] = defaultdict(list)
    for place, (scan, result) in enumerate(zip(found.scans, results, strict=True)):
        for number, volume in enumerate(result.volumes):
            name = pseudonyms.volume(volume_key(scan, number))
            by_subject[group[scan.subject]].append(FoundVolume(name, volume, place, number))
    ordered = sorted(
        (
            (subject, sorted(volumes, key=lambda volume: [image.digest for image in volume.slices]))
            for subject, volumes in by_subject.items()
        ),
        key=lambda entry: [sorted(image.digest for volume in entry[1] for image in volume.slices)],
    )
    total = sum(len(volume.slices) for _, volumes in ordered for volume in volumes)
    by_slice = splits.slice_splits(total)
    placed: list[PlacedVolume] = []
    count = 0
    digest = hashlib.sha256()
    for subject_ordinal, (subject, found_volumes) in enumerate(ordered):
        for volume_ordinal, found_volume in enumerate(found_volumes):
            slices = found_volume.slices
            labels = [(split_of[subject], by_slice[count + place]) for place in range(len(slices))]
            placed.append(PlacedVolume(found_volume, pseudonyms.subject(subject), labels))
            count += len(slices)
            for image, label in zip(slices, labels, strict=True):
                line = (image.digest, image.index, *label, subject_ordinal, volume_ordinal)
                digest.update("\t".join(map(str, line)).encode() + b"\n")
    by_subject_split = Counter(split_of[subject] for subject, _ in ordered)
    counts = {
        "slices": total,
        "subjects": len(ordered),
        "volumes": sum(len(volumes) for _, volumes in ordered),
        "subjects_joined_by_identical_images": len(images) - len(unusable) - len(ordered),
        "subjects_unusable": len(unusable),
        "slices_by_split": _by_split(split for volume in placed for split, _ in volume.labels),
        "slices_by_split_by_slice": _by_split(split for volume in placed for _, split in volume.labels),
        "subjects_by_split": {split: by_subject_split[split] for split in splits.SPLITS},
    }
    return placed, counts, digest.hexdigest()


def volume_key(scan: Scan, number: int) -> str:
    """What the pseudonym of a volume is made of: its scan's key, and its number in the scan."""
    return f"{scan.key}\0{number}"


def _by_split(labels: Iterator[str]) -> dict[str, int]:
    count = Counter(labels)
    return {split: count[split] for split in splits.SPLITS}
