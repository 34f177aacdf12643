"""Train, validation and test: 70/15/15 by subject, and the paper's shuffle of slices."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np

SPLITS = ("train", "validation", "test")
SHARES = (0.70, 0.15, 0.15)
SEED = 42


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
