"""What runs of a study are paired by where it has folds: a seed in one fold."""

from __future__ import annotations

from collections.abc import Iterable

MOST_SEEDS = 10**6
"""Seeds are below it, so that fold and seed make one number."""


class Replicate(int):
    """The number of a seed in one fold: replicates sort fold by fold, and it reads as "1, fold 0".

    Statistics go over replicates as they go over the seeds of a study without folds.
    """

    @classmethod
    def of(cls, seed: int, fold: int) -> Replicate:
        """The replicate of ``seed``, below :data:`MOST_SEEDS`, in ``fold``, from 0 on."""
        return cls(fold * MOST_SEEDS + seed)

    @property
    def fold(self) -> int:
        """The fold, from 0 on."""
        return int(self) // MOST_SEEDS

    @property
    def seed(self) -> int:
        """The seed."""
        return int(self) % MOST_SEEDS

    def __str__(self) -> str:
        return f"{self.seed}, fold {self.fold}"


def fold_of(seed: int) -> int:
    """The fold of a replicate; 0 for a seed of a study without folds."""
    return seed.fold if isinstance(seed, Replicate) else 0


def listed_seeds(seeds: Iterable[int]) -> str:
    """Seeds or replicates in one line."""
    found = list(seeds)
    return ("; " if any(isinstance(each, Replicate) for each in found) else ", ").join(map(str, found))
