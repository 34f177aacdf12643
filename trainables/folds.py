"""One fold of a cross-validation: which part of the subjects is held out as the test split."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fold:
    """One of ``folds`` partitions of the subjects: part number ``fold`` of them, from 0 on, is the test split."""

    fold: int
    folds: int

    def __str__(self) -> str:
        return f"subject, fold {self.fold} of {self.folds} (counted from 0)"
