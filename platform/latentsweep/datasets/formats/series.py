"""Which DICOM images make a volume, and which are left out and why: tables of rules over what a header tells."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

SERIES_TAGS = ("SeriesNumber", "EchoTime", "EchoNumbers", "ImageType", "SOPClassUID", "Modality")
"""What is read of a header for these rules, beside the series' UID."""
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""The class of screenshots and scanned pages, and how the UIDs of its multi-frame kinds begin (PS3.4, B.5)."""
SEGMENTATION, PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.30"
MAPS = {"ADC", "FA", "COLFA", "TENSOR", "TRACEW", "CBF", "CBV", "RCBV", "RCBF", "MTT", "TTP", "TMAX", "T_MAP"}
PROJECTIONS = {"PROJECTION IMAGE", "MIP", "MPR_THICK"}
LEAST_SERIES = 3
"""So many images, each with a series UID of its own, are one series whose UIDs were made anew."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class SeriesFacts:
    """What a header tells of the series that its image belongs to; empty texts and 0 where it does not tell."""

    uid: str = ""
    number: str = ""
    echo: tuple[str, float] = ("", 0.0)
    stack: str = ""
    """A multi-frame image may hold several stacks of slices."""
    kinds: tuple[str, ...] = ()
    """The values of ImageType in capitals."""
    storage: str = ""
    modality: str = ""

    @property
    def contrast(self) -> tuple[Hashable, ...]:
        """Images of one contrast agree in it. The first two values of ImageType tell of the file, not of it."""
        return (self.number, self.stack, self.echo, self.kinds[2:])


LEFT_OUT: dict[str, Callable[[SeriesFacts], bool]] = {
    "a localizer": lambda facts: bool({"LOCALIZER", "SCOUT"} & set(facts.kinds)),
    "a mosaic, whose tiles are slices: convert it to NIfTI first": lambda facts: "MOSAIC" in facts.kinds,
    "a screenshot or another secondary capture": lambda facts: (
        facts.storage.startswith(SECONDARY_CAPTURE) or facts.modality in ("OT", "SC") or "SCREEN SAVE" in facts.kinds
    ),
    "a segmentation and no scan": lambda facts: facts.storage == SEGMENTATION or facts.modality == "SEG",
    "a map that was computed from other images": lambda facts: (
        bool(MAPS & set(facts.kinds)) or facts.storage == PARAMETRIC_MAP
    ),
    "a projection that was computed from other images": lambda facts: bool(PROJECTIONS & set(facts.kinds)),
}
"""The reason for which an image is left out → whether it holds."""


def reason_left_out(facts: SeriesFacts) -> str | None:
    """Why an image is no slice of a scan, or None."""
    return next((reason for reason, holds in LEFT_OUT.items() if holds(facts)), None)


def is_scattered(uids: Sequence[str], places: Sequence[Hashable | None]) -> bool:
    """Whether these images of one folder, contrast and orientation are one series under many UIDs.

    Each has a UID of its own, and each a place of its own.
    """
    told = [place for place in places if place is not None]
    distinct = len(uids) >= LEAST_SERIES and len(set(uids)) == len(uids)
    return distinct and len(set(told)) == len(uids)


def part_by_place(items: Sequence[Item], places: Sequence[Hashable]) -> list[list[Item]]:
    """Images in the order of their numbers → one list for each volume: the n-th at every place is of the n-th.

    Where the places do not hold equally many images, the second ones at a place are in no list.
    """
    counts = Counter(places)
    volumes = max(counts.values()) if len(set(counts.values())) == 1 else 1
    seen: Counter[Hashable] = Counter()
    parts: dict[int, list[Item]] = defaultdict(list)
    for item, place in zip(items, places, strict=True):
        if seen[place] < volumes:
            parts[seen[place]].append(item)
        seen[place] += 1
    return list(parts.values())
