"""How numbers, intervals, times and names are written, the same in tables, charts and sentences."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

UNKNOWN = "–"


def fixed(value: float | None, places: int, *, sign: bool = False) -> str:
    """A number at that many decimals, with a real minus; a dash for None."""
    if value is None:
        return UNKNOWN
    text = f"{round(value, places) + 0.0:{'+' if sign else ''}.{places}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def interval(low: float | None, high: float | None, places: int) -> str:
    """An interval as it stands behind its number, with a space before it; empty for None."""
    return "" if low is None else f" [{fixed(low, places)}, {fixed(high, places)}]"


def spread(sd: float | None, places: int) -> str:
    """A standard deviation as it stands behind its mean, with a space before it; empty for None."""
    return "" if sd is None else f" ± {fixed(sd, places)}"


def number(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def duration(seconds: float) -> str:
    """Wall time in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def capitalised(text: str) -> str:
    """The text with its first letter large, and the others as they are."""
    return text[:1].upper() + text[1:]


def listed(names: Iterable[str]) -> str:
    """Names with commas between; those with a comma of their own in quotation marks."""
    return ", ".join(f"“{name}”" if "," in name else name for name in names)


def lints_raised(count: int) -> str:
    """How many lints were raised."""
    return f"{number(count, 'lint')} {'was' if count == 1 else 'were'} raised; see below."


def now() -> str:
    """The present minute."""
    return datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
