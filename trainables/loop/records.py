"""The numbers that a training records, and who is told of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Record = dict[str, float]
"""Named numbers at a step: ``step`` (0: untrained), ``time`` (ms since the epoch, when it was made), and metrics."""

Report = Callable[[Sequence[Record]], None]
"""Called with new records right after the checkpoint that holds them was written; may raise to stop the run."""


def ignore_report(records: Sequence[Record]) -> None:
    """A :data:`Report` that does nothing."""


def without_scores(records: Sequence[Record]) -> list[Record]:
    """The records without what was measured for the pruner."""
    return [{name: value for name, value in r.items() if not name.startswith("rung/")} for r in records]


def even_steps(total: int, count: int) -> list[int]:
    """``count`` steps at equal distances, the last of them ``total``."""
    return sorted({math.ceil(total * (k + 1) / count) for k in range(count)}) if count else []
