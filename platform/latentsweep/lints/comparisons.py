"""The lint of scores that are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from latentsweep.lints.finding import Finding, finding


@dataclass(frozen=True)
class Measurement:
    """What a FID depends on beside the images: their number, the reference's number and hash, the extractor."""

    name: str
    samples: int
    reference_samples: int
    extractor: str
    reference: str


ASPECTS = {
    "samples": "generated images",
    "reference_samples": "reference images",
    "reference": "reference",
    "extractor": "extractor",
}
SHOWN = 3


def comparison_lints(measurements: Sequence[Measurement]) -> list[Finding]:
    """fid-incomparable where the measurements differ in anything but the model; empty for one or none."""
    differences = []
    for field, aspect in ASPECTS.items():
        names: dict[str, list[str]] = {}
        for measurement in measurements:
            names.setdefault(str(getattr(measurement, field)), []).append(measurement.name)
        if len(names) > 1:
            differences.append(f"{aspect}: " + ", ".join(f"{value} ({_listed(of)})" for value, of in names.items()))
    return [finding("fid-incomparable", "; ".join(differences))] if differences else []


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
