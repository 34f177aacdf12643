"""Train, validation and test: 70/15/15 by subject, the paper's shuffle of slices, and folds of subjects."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np

SPLITS = ("train", "validation", "test")
SHARES = (0.70, 0.15, 0.15)
SEED = 42
VALIDATION_SHARE = 0.15
"""Of the subjects that a fold does not test, the share that it validates on."""


def split_sizes(count: int) -> tuple[int, int, int]:
    """How many of ``count`` things go to each split: at least one each from three on, train first below that."""
    if count < 3:
        return min(count, 1), max(count - 1, 0), 0
    validation = max(1, round(count * SHARES[1]))
    test = max(1, round(count * SHARES[2]))
    return count - validation - test, validation, test


def rank_subjects(subjects: Collection[str], seed: int = SEED) -> list[str]:
    """The distinct subjects in an order that depends on nothing but their identifiers and the seed."""
    return sorted(set(subjects), key=lambda subject: _rank(subject, seed))


def subject_splits(order: Sequence[str]) -> dict[str, str]:
    """The split of every subject of a ranking."""
    return dict(zip(order, _labels(len(order)), strict=True))


def slice_splits(count: int, seed: int = SEED) -> list[str]:
    """The split of each of ``count`` slices after a shuffle that ignores subjects, as the paper made it."""
    labels = np.array(_labels(count), dtype=object)
    splits = np.empty(count, dtype=object)
    splits[np.random.default_rng(seed).permutation(count)] = labels
    return [str(split) for split in splits]


def parts_of(slices: Sequence[int], folds: int, seed: int = SEED) -> list[int]:
    """The part, 0 to ``folds`` - 1, of each subject by its number of ``slices``: parts of about equal slices.

    The largest subject first, and those of one size in an order drawn from the seed, each goes to the part with the
    fewest slices so far. Graham (1969): the fullest part then has at most 4/3 of the slices that the best partition
    would give it.
    """
    filled, parts = [0] * folds, [0] * len(slices)
    order = rank_subjects([str(place) for place in range(len(slices))], seed)
    for place in sorted(map(int, order), key=lambda place: -slices[place]):
        part = min(range(folds), key=filled.__getitem__)
        parts[place] = part
        filled[part] += slices[place]
    return parts


def fold_splits(slices: Sequence[int], fold: int, folds: int, seed: int = SEED) -> list[str]:
    """The split of each subject in a fold: part ``fold`` tests, and VALIDATION_SHARE of the rest validate.

    ``slices`` are the subjects' numbers of slices, in the order of their content: what a fold holds depends on
    nothing else, so that it is the same under every key of pseudonyms.
    """
    parts = parts_of(slices, folds, seed)
    others = [str(place) for place, part in enumerate(parts) if part != fold]
    chosen = rank_subjects(others, seed + 1 + fold)[: max(1, round(VALIDATION_SHARE * len(others)))]
    held = {int(place) for place in chosen}
    return [
        "test" if part == fold else "validation" if place in held else "train" for place, part in enumerate(parts)
    ]


def join_subjects(order: Sequence[str], images: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Subject → the first-ranked subject that it shares an image with, directly or through others.

    ``images`` holds the hashes of each subject's images; subjects that share none stand for themselves.
    """
    parent = {subject: subject for subject in order}

    def root(subject: str) -> str:
        while parent[subject] != subject:
            parent[subject] = parent[parent[subject]]
            subject = parent[subject]
        return subject

    place = {subject: rank for rank, subject in enumerate(order)}
    first: dict[str, str] = {}
    for subject in order:
        for image in images.get(subject, ()):
            one, other = sorted((root(first.setdefault(image, subject)), root(subject)), key=place.__getitem__)
            parent[other] = one
    return {subject: root(subject) for subject in order}


def _labels(count: int) -> list[str]:
    return [split for split, size in zip(SPLITS, split_sizes(count), strict=True) for _ in range(size)]


def _rank(subject: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{subject}".encode("utf-8", "surrogateescape")).digest()
