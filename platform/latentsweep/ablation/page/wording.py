"""How metrics and differences are written on a page; ``statistics/verdicts.py`` makes a verdict and its sentence."""

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
"""What a row shows in place of the verdict. A row of an arm speaks of the arm, so "helps" becomes "better"."""

ON_LOG_SCALE = {"better than the sum": "better than the product", "worse than the sum": "worse than the product"} | {
    "they add up": "they multiply"
}
"""What is said of an interaction where changes are shares, which multiply."""


def name_of(metric: str) -> str:
    """What a metric is called in text."""
    return metric_of(metric).label


def direction(metric: str) -> str:
    """Which way a metric is better."""
    better = metric_of(metric).better
    return f"{better} is better" if better else "neither way is better"


def verdict_of(effect: Effect) -> str:
    """The verdict as it reads in the row of its contrast."""
    if effect.mean is None and effect.verdict != "unstable":
        return "not measured"
    words = VERDICTS.get((effect.contrast.kind, effect.verdict), effect.verdict)
    return ON_LOG_SCALE.get(words, words) if effect.scale == "log" else words


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
    """The difference and the interval by which it is judged: its own, or that of the change in per cent."""
    text, changed = fixed(effect.mean, places, sign=True), change(effect)
    return f"{text}; {changed}" if changed else text + interval(effect.low, effect.high, places)


def change(effect: Effect) -> str:
    """The change in per cent with its interval, where the verdict rests on it; else empty."""
    each = effect.relative
    if effect.scale != "log" or not each:
        return ""
    places = 1 if max(abs(each.low), abs(each.high)) < 0.1 else 0
    ends = interval(100 * each.low, 100 * each.high, places)
    return f"{fixed(100 * each.change, places, sign=True)} %{ends}"


def probability(p: float | None) -> str:
    """A p value."""
    return UNKNOWN if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
