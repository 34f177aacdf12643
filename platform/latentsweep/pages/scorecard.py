"""How good one model is, in one small table: each score beside its floor and its reconstructions, and in words.

The floor is what real slices score in place of the generated ones, and reconstructions are real slices after encoding
and decoding. The rows are the metrics of :data:`latentsweep.metrics.CARD`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from latentsweep.metrics import (
    CARD,
    KID,
    NEAR_COPIES,
    PRECISION,
    PSNR,
    RECALL,
    RECONSTRUCTED,
    REFERENCE_SAMPLES,
    SAMPLES,
    SSIM,
    Metric,
)
from latentsweep.pages.gap import DISTANCES, gap_of, gap_words
from latentsweep.pages.numbers import UNKNOWN
from latentsweep.pages.tables import Table
from latentsweep.stages.guards import refusal

FEW = 100
"""Below so many generated or real images, scores say little."""

HEADINGS = ("score", "value [95 %]", "floor", "reconstructions", "reading")
"""The columns of a card."""

AS_REAL = "as real slices"
"""The reading of a score that can't be told from that of real slices."""

Metrics = Mapping[str, float]


def scorecard(metrics: Metrics) -> Table:
    """A row for each metric of the card that was measured: value, interval, floor, reconstructions, reading."""
    rows = [_row(metric, metrics) for metric in CARD if metric.name in metrics]
    return Table.of(HEADINGS, rows, numbers=False)


def verdict(metrics: Metrics) -> list[str]:
    """What the whole card says, a sentence each: what the guards refuse, where it is lost, what to improve."""
    refused, gap = refusal(metrics), gap_of(metrics, KID.stem)
    worse = "denoiser" if gap and gap.denoiser > gap.autoencoder else "autoencoder"
    good = gap is None or _read_distance(KID, metrics) == AS_REAL
    said = (
        f"The guards refuse it: {refused}." if refused else "",
        gap_words(metrics),
        "" if good else f"What to improve first: the {worse}.",
    )
    return [sentence for sentence in said if sentence]


def compared(metrics: Metrics) -> str:
    """How many images were compared with how many, in words; empty where that was not recorded."""
    if SAMPLES.name not in metrics or REFERENCE_SAMPLES.name not in metrics:
        return ""
    generated, real = (metric.format(metrics[metric.name]) for metric in (SAMPLES, REFERENCE_SAMPLES))
    return f"{generated} images against {real} real slices"


def few_images(metrics: Metrics) -> str:
    """What to say where few images or few real slices were compared; empty where both are enough."""
    counts = {"images": metrics.get(SAMPLES.name, FEW), "real slices": metrics.get(REFERENCE_SAMPLES.name, FEW)}
    few = [f"{count:.0f} {noun}" for noun, count in counts.items() if count < FEW]
    if not few:
        return ""
    why = f"below {FEW}, KID and FID depend on which were drawn, and FID comes out too high"
    return f"{' and '.join(few)} are few: {why}"


def _row(metric: Metric, metrics: Metrics) -> tuple[str, ...]:
    """The cells of a metric; a score of reconstructions alone stands in their column."""
    value, ends = metric.format(metrics[metric.name]), metric.interval(metrics)
    if metric.name.startswith(RECONSTRUCTED):
        cells = [UNKNOWN, UNKNOWN, value]
    else:
        bounds = f" [{metric.format(ends[0])}, {metric.format(ends[1])}]" if ends else ""
        beside = (metric.format(metrics.get(name)) for name in (metric.floor, metric.reconstructed))
        cells = [value + bounds, *beside]
    return (metric.short or metric.label, *cells, READINGS[metric](metric, metrics))


def _read_distance(metric: Metric, metrics: Metrics) -> str:
    """Of a distance: whether it can be told from the floor, and how far it lies above it."""
    floor, ends = metrics.get(metric.floor), metric.interval(metrics)
    if floor is None:
        return ""
    value = metrics[metric.name]
    return AS_REAL if (ends[0] if ends else value) <= floor else f"{metric.format(value - floor)} above the floor"


def _read_share(metric: Metric, metrics: Metrics) -> str:
    """Of a share that is better high: how much of the floor it reaches."""
    floor = metrics.get(metric.floor)
    if not floor:
        return ""
    part = metrics[metric.name] / floor
    return AS_REAL if part >= 1 else f"{part:.0%} of the floor"


def _read_copies(metric: Metric, metrics: Metrics) -> str:
    """Of near copies: whether there are more than chance explains."""
    bound = metrics.get(metric.bound)
    if bound is None:
        return "no bound was measured"
    return "as few as by chance" if metrics[metric.name] <= bound else "too many: it copies"


READINGS: Mapping[Metric, Callable[[Metric, Metrics], str]] = {
    **dict.fromkeys(DISTANCES.values(), _read_distance),
    PRECISION: _read_share,
    RECALL: _read_share,
    SSIM: lambda metric, metrics: "1 is perfect",
    PSNR: lambda metric, metrics: "higher is better",
    NEAR_COPIES: _read_copies,
}
"""What the number of a row says, in words, by its metric."""
