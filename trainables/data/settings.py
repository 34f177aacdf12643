"""Which slices a run sees, and whether prepared ones can be those."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.config import Config, setting
from trainables.errors import ConfigError


@dataclass(frozen=True)
class Fold:
    """One of ``folds`` partitions of the subjects: part number ``fold`` of them, from 0 on, is the test split."""

    fold: int
    folds: int

    def __str__(self) -> str:
        return f"subject, fold {self.fold} of {self.folds} (counted from 0)"


@dataclass(frozen=True, kw_only=True)
class DataConfig(Config):
    """Which slices a run sees."""

    image_size: int = setting(
        128, "side of the square slice in pixels; prepared slices are reduced to it by area", low=16, high=512
    )
    split: str = setting(
        "subject",
        "'subject' keeps every patient in one split; 'slice' shuffles slices as the paper did, so that "
        "the test set has seen the patients",
        choices=("subject", "slice"),
    )
    folds: int = setting(
        1,
        "parts of about equal slices into which all subjects are divided; 1: the dataset's own split",
        later=True,
        low=1,
    )
    fold: int = setting(0, "which part, from 0 on, is the test split; of the rest, 15 % validate", later=True, low=0)

    mask: bool = setting(
        False,
        "whether the lesion mask of each slice is learned and drawn with it, as a second channel; every slice of the "
        "dataset then needs a mask, which is empty where there is no lesion",
        later=True,
    )
    mask_label: int = setting(
        0,
        "the label of the masks that is lesion, such as 4 for BraTS's enhancing tumour; 0: all labels together",
        later=True,
        low=0,
        high=255,
    )

    def idle(self) -> dict[str, Any]:
        return {} if self.mask else {"mask_label": 0}

    def check(self) -> None:
        if self.fold >= self.folds:
            raise ConfigError(
                f"data.fold must be below data.folds ({self.folds}), since it counts from 0, got {self.fold}; set "
                "data.folds=5 for five folds, 0 to 4 (ablate --folds sets both by itself)"
            )
        if self.folds > 1 and self.split != "subject":
            raise ConfigError(
                f"folds divide subjects, so data.folds={self.folds} needs data.split=subject, got {self.split}; set "
                "data.split=subject, or leave data.folds at 1"
            )

    @property
    def rule(self) -> str | Fold:
        """By what slices are split, as a prepared dataset takes it: ``split``, or a fold."""
        return Fold(self.fold, self.folds) if self.folds > 1 else self.split

    @property
    def channels(self) -> int:
        """Channels of what an autoencoder learns: the slice, and its mask."""
        return 2 if self.mask else 1

    def shape(self, count: int, side: int) -> tuple[int, ...]:
        """The shape of ``count`` such images as bytes: (N, S, S), or with masks (N, 2, S, S)."""
        return (count, 2, side, side) if self.mask else (count, side, side)


def check_size(size: int, prepared: int, field: str = "data.image_size") -> None:
    """Raises :class:`ConfigError` where ``size`` is larger than the prepared slices, which are never enlarged."""
    if size > prepared:
        raise ConfigError(f"{field} must be at most the prepared {prepared} pixels, got {size}")


def check_label(masks: np.ndarray, label: int) -> None:
    """Raises :class:`ConfigError` where no mask has ``label``, unless that is 0."""
    if label and not (masks == label).any():
        has = ", ".join(str(each) for each in np.unique(masks) if each) or "none"
        raise ConfigError(
            f"data.mask_label must be a label of the masks of the training split, which have {has}, got {label}; "
            "choose one of these, or 0 for all together"
        )
