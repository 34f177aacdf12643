"""Lints of a prepared dataset under a rule of splitting, and of what it shares with others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from latentsweep.lints.finding import Finding, finding

if TYPE_CHECKING:
    from latentsweep.datasets.slices import PreparedDataset, Rule
    from latentsweep.lints.twins import Thumbnails

Bytes = npt.NDArray[np.uint8]

FOREGROUND = 25
"""Grey level above which a pixel is tissue and not background, as when slices are chosen."""
SATURATED_SHARE = 0.02
"""Share of tissue pixels at 255. A preparation clips 0.5 % of a volume; real and phantom slices have 0.2 to 0.4 %."""
RANGE_QUANTILE, LEAST_RANGE = 0.999, 180
"""The quantile of tissue pixels that should come near 255: real and phantom slices have 255."""


FEWEST_SUBJECTS = 3
"""Patients of the validation and of the test split. With fewer, the scores hang on who they are."""


@dataclass(frozen=True)
class Survey:
    """What the lints need of the N slices of a dataset. It keeps only a thumbnail of each image, and that in a file.

    ``levels`` (256,) counts the training split's grey levels.
    """

    splits: npt.NDArray[np.str_]
    subjects: npt.NDArray[np.str_]
    hashes: npt.NDArray[np.str_]
    thumbnails: Thumbnails
    levels: npt.NDArray[np.int64]


def dataset_lints(dataset: PreparedDataset, rule: Rule, others: Sequence[PreparedDataset] = ()) -> list[Finding]:
    """What in ``dataset`` would mislead under ``rule`` ('subject', 'slice' or a fold): subjects-across-splits,
    identical-across-splits, near-identical-across-splits, few-subjects, saturated-range, and shared-patients with
    each of ``others``.

    Reads every slice once, a shard at a time: about 0.5 ms a slice, and its thumbnail of 4 KiB in a temporary file.
    """
    own = survey(dataset, rule)
    findings = [_subjects(own, rule), _identical(own), _nearly_identical(own), _few(own), _range(own)]
    findings += [_shared(own, survey(other, rule), other.name) for other in others if other.folder != dataset.folder]
    return [found for found in findings if found]


def survey(dataset: PreparedDataset, rule: Rule) -> Survey:
    """Every slice of ``dataset``, in the order of its shards."""
    from latentsweep.datasets.png import image_hash
    from latentsweep.lints.twins import Thumbnails

    splits: list[str] = []
    subjects: list[str] = []
    hashes: list[str] = []
    small = Thumbnails()
    levels = np.zeros(256, dtype=np.int64)
    for images, of, where in _shards(dataset, rule):
        subjects += of
        splits += where
        hashes += [image_hash(image) for image in images]
        small.append(images)
        for place in np.flatnonzero(
            np.asarray(where) == "train"
        ):  # one at a time: numpy counts in eight bytes a pixel
            levels += np.bincount(images[place].ravel(), minlength=256)
    return Survey(np.asarray(splits), np.asarray(subjects), np.asarray(hashes), small, levels)


def _shards(dataset: PreparedDataset, rule: Rule) -> Iterator[tuple[Bytes, list[str], list[str]]]:
    """The images (n, S, S) of each shard, and each one's subject and split."""
    from latentsweep.datasets.shards import RULES

    columns = dataset.table(["subject", *RULES.values()])
    labels, start = dataset.labels(columns, rule), 0
    for slices in dataset.shards():
        yield slices.images, slices.subjects, labels[start : start + len(slices)]
        start += len(slices)


def _subjects(own: Survey, rule: Rule) -> Finding | None:
    places = _splits_by(own.subjects, own.splits)
    across = [subject for subject, splits in places.items() if len(splits) > 1]
    if not across:
        return None
    seen = np.isin(own.subjects, own.subjects[own.splits == "train"])
    tested = own.splits == "test"
    evidence = f"{len(across)} of {len(places)} subjects are in several splits under the split by {rule}"
    if tested.any():
        evidence += f"; {(seen & tested).sum()} of {tested.sum()} test slices are of patients that training has seen"
    return finding("subjects-across-splits", evidence)


def _identical(own: Survey) -> Finding | None:
    places = _splits_by(own.hashes, own.splits)
    across = [image for image, splits in places.items() if len(splits) > 1]
    if not across:
        return None
    slices = int(np.isin(own.hashes, across).sum())
    return finding(
        "identical-across-splits",
        f"{slices} of {len(own.hashes)} slices have a twin with equal pixels in another split ({len(across)} "
        "different images)",
    )


def _nearly_identical(own: Survey) -> Finding | None:
    """Of the subjects that are in one split alone, which other lints say nothing of, and of pixels that differ."""
    from latentsweep.lints.twins import ThumbnailsOf, twins

    across = [subject for subject, splits in _splits_by(own.subjects, own.splits).items() if len(splits) > 1]
    equal = [image for image, splits in _splits_by(own.hashes, own.splits).items() if len(splits) > 1]
    here = ~np.isin(own.subjects, across) & ~np.isin(own.hashes, equal)
    found, subjects = 0, set[str]()
    for held_out, seen in (("test", ("train", "validation")), ("validation", ("train",))):
        queries, keys = (np.flatnonzero(here & np.isin(own.splits, splits)) for splits in ([held_out], seen))
        twin = twins(ThumbnailsOf(own.thumbnails, queries), ThumbnailsOf(own.thumbnails, keys)) >= 0
        found += int(twin.sum())
        subjects.update(own.subjects[queries[twin]].tolist())
    if not found:
        return None
    held = here & np.isin(own.splits, ["validation", "test"])
    return finding(
        "near-identical-across-splits",
        f"{found} of {held.sum()} validation and test slices, of {len(subjects)} of {len(set(own.subjects[held]))} "
        "subjects, have a near-identical one of another subject in another split",
    )


def _few(own: Survey) -> Finding | None:
    subjects = {split: len(set(own.subjects[own.splits == split])) for split in ("validation", "test")}
    few = [f"the {split} split holds {n}" for split, n in subjects.items() if 0 < n < FEWEST_SUBJECTS]
    if not few:
        return None
    return finding(
        "few-subjects",
        f"of {len(set(own.subjects))} subjects, {' and '.join(few)}, fewer than {FEWEST_SUBJECTS}",
    )


def _range(own: Survey) -> Finding | None:
    tissue = own.levels.copy()
    tissue[: FOREGROUND + 1] = 0
    total = int(tissue.sum())
    if not total:
        return None
    saturated = tissue[255] / total
    top = int(np.searchsorted(np.cumsum(tissue), RANGE_QUANTILE * total))
    if saturated <= SATURATED_SHARE and top >= LEAST_RANGE:
        return None
    return finding(
        "saturated-range",
        f"of the training split's pixels brighter than {FOREGROUND}, {saturated:.1%} are at 255 (at most "
        f"{SATURATED_SHARE:.0%} is usual) and {RANGE_QUANTILE:.1%} are at most {top}",
    )


def _shared(own: Survey, other: Survey, name: str) -> Finding | None:
    from latentsweep.lints.twins import twins

    twin = twins(own.thumbnails, other.thumbnails)
    found = twin >= 0
    if not found.any():
        return None
    elsewhere = int((own.splits[found] != other.splits[twin[found]]).sum())
    subjects = len(set(own.subjects[found]))
    return finding(
        "shared-patients",
        f"{found.sum()} of {len(found)} slices, of {subjects} of {len(set(own.subjects))} subjects, have a "
        f"near-identical one in {name}; {elsewhere} of them are in another split than it",
        "warning" if elsewhere else "note",
    )


def _splits_by(keys: npt.NDArray[np.str_], splits: npt.NDArray[np.str_]) -> dict[str, set[str]]:
    """The splits that each key is in."""
    places: dict[str, set[str]] = defaultdict(set)
    for key, split in zip(keys.tolist(), splits.tolist(), strict=True):
        places[key].add(split)
    return places
