"""Slices as tensors: which ones, at what size, and how training augments them."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.config import Config, setting


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
