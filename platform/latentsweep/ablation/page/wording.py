"""How a study's metrics, differences and verdicts are written, in tables, charts and sentences alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

from latentsweep.ablation.statistics.effect import Contrast, Effect, Summary
from latentsweep.metrics import metric_of
from latentsweep.pages.numbers import UNKNOWN, fixed, interval

VERDICTS = {
    ("arm", "helps"): "better",
    ("arm", "hurts"): "worse",
    ("interaction", "helps"): "better than the sum",
    ("interaction", "hurts"): "worse than the sum",
    ("interaction", "no difference"): "they add up",
}
"""How a kind of contrast's verdict reads in its row, where not as it is: of an arm it is said of the arm itself."""


def name_of(metric: str) -> str:
    """What a metric is called in text."""
    return metric_of(metric).label


def direction(metric: str) -> str:
    """Which way a metric is better."""
    better = metric_of(metric).better
    return f"{better} is better" if better else "neither way is better"


def verdict_of(effect: Effect) -> str:
    """The verdict as it reads in the row of its contrast."""
    if effect.mean is None:
        return "not measured"
    return VERDICTS.get((effect.contrast.kind, effect.verdict), effect.verdict)


def title_of(contrast: Contrast) -> str:
    """A contrast's name, with its kind where it isn't that of an arm."""
    return contrast.name if contrast.kind == "arm" else f"{contrast.kind}: {contrast.name}"


def with_reference(arm: str, reference: str | None) -> str:
    """An arm's name, with a word where it is the reference."""
    return f"{arm} (reference)" if arm == reference else arm


def decimals(summaries: Sequence[Summary], effects: Sequence[Effect]) -> int:
    """Decimals for all numbers of a metric: two digits of its usual intervals and spreads, or four of its means."""
    widths = [(e.high - e.low) / 2 for e in effects if e.low is not None and e.high is not None]
    widths = sorted(width for width in [*widths, *(s.sd for s in summaries if s.sd is not None)] if width > 0)
    largest = max((abs(s.mean) for s in summaries if s.mean is not None), default=0.0)
    scale = widths[len(widths) // 2] if widths else largest / 100
    return min(6, max(0, 1 - math.floor(math.log10(scale)))) if scale > 0 else 1


def difference(effect: Effect, places: int) -> str:
    """The difference with its interval, where there is one."""
    return fixed(effect.mean, places, sign=True) + interval(effect.low, effect.high, places)


def probability(p: float | None) -> str:
    """A p value."""
    return UNKNOWN if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
