"""How an ablation's metrics, numbers and verdicts are written, in tables, charts and sentences alike."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from latentsweep.ablation.statistics.effect import Contrast, Effect, Summary
from latentsweep.metrics import metric_of

UNKNOWN = "–"

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


def arrow(metric: str) -> str:
    """Which way a metric is better, as a sign behind its name."""
    return {"lower": " ↓", "higher": " ↑", None: ""}[metric_of(metric).better]


def capitalised(text: str) -> str:
    """The text with its first letter large, and the others as they are."""
    return text[:1].upper() + text[1:]


def verdict_of(effect: Effect) -> str:
    """The verdict as it reads in the row of its contrast."""
    if effect.mean is None:
        return "not measured"
    return VERDICTS.get((effect.contrast.kind, effect.verdict), effect.verdict)


def title_of(contrast: Contrast) -> str:
    """A contrast's name, with its kind where it isn't that of an arm."""
    return contrast.name if contrast.kind == "arm" else f"{contrast.kind}: {contrast.name}"


def listed(names: Iterable[str]) -> str:
    """Names with commas between; those with a comma of their own in quotation marks."""
    return ", ".join(f"“{name}”" if "," in name else name for name in names)


def seeds_of(keys: Sequence[str]) -> str:
    """Runs by their keys, in short: those whose keys differ by the number at their end together."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        stem = key.rstrip("0123456789")
        groups.setdefault(stem, []).append(key.removeprefix(stem))
    return "; ".join(stem + ", ".join(numbers) for stem, numbers in groups.items())


def decimals(summaries: Sequence[Summary], effects: Sequence[Effect]) -> int:
    """Decimals for all numbers of a metric: two digits of its usual intervals and spreads, or four of its means."""
    widths = [(e.high - e.low) / 2 for e in effects if e.low is not None and e.high is not None]
    widths = sorted(width for width in [*widths, *(s.sd for s in summaries if s.sd is not None)] if width > 0)
    largest = max((abs(s.mean) for s in summaries if s.mean is not None), default=0.0)
    scale = widths[len(widths) // 2] if widths else largest / 100
    return min(6, max(0, 1 - math.floor(math.log10(scale)))) if scale > 0 else 1


def fixed(value: float | None, places: int, *, sign: bool = False) -> str:
    """A number at that many decimals, with a real minus; a dash for None."""
    if value is None:
        return UNKNOWN
    text = f"{round(value, places) + 0.0:{'+' if sign else ''}.{places}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def difference(effect: Effect, places: int) -> str:
    """The difference with its interval, where there is one."""
    ends = f" [{fixed(effect.low, places)}, {fixed(effect.high, places)}]" if effect.low is not None else ""
    return fixed(effect.mean, places, sign=True) + ends


def probability(p: float | None) -> str:
    """A p value."""
    return UNKNOWN if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def slug(name: str) -> str:
    """A name as it may stand in a key: letters, digits, points, dashes."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name.replace("×", "x")).strip("-")
