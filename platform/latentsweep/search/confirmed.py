"""What fresh seeds say of a sweep's best configurations: their order, and what another seed would score."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Confirmed:
    """A configuration that was trained again: the score that the search found, and a score for each fresh seed."""

    trial: int
    family: int
    """The trial whose denoiser it shares."""
    params: Mapping[str, Any]
    selection: float
    scores: tuple[float | None, ...]
    """In the order of the confirmation's seeds; None where that training or measurement failed."""
    failures: Mapping[int, str]
    """The reason of each failure, by seed."""
    refused: frozenset[int] = frozenset()
    """The seeds of those failures that are the guards' refusals."""

    @property
    def refusal(self) -> str:
        """Why the guards refuse it with a fresh seed, in words; empty where they don't."""
        return "; ".join(f"{self.failures[seed]} with the seed {seed}" for seed in sorted(self.refused))


@dataclass(frozen=True)
class Confirmation:
    """What the fresh seeds say, best first: the ranking of :func:`order_by_standing`."""

    seeds: tuple[int, ...]
    rows: tuple[Confirmed, ...]
    logs: bool
    """Whether means are geometric, which takes scores above 0; arithmetic otherwise."""

    @property
    def best(self) -> Confirmed | None:
        """The first; None where a seed of each of them failed."""
        return None if self.rows[0].failures else self.rows[0]

    @property
    def expected(self) -> float | None:
        """What a configuration that is chosen in this way scores with another seed, see :func:`expectation`."""
        whole = [row for row in self.rows if not row.failures]
        return expectation(
            [row.selection for row in whole], [without_failures(row.scores) for row in whole], self.logs
        )

    def mean(self, row: Confirmed) -> float | None:
        """The mean score of the fresh seeds; None where one failed."""
        return None if row.failures else centre(without_failures(row.scores), self.logs)

    def ranks_by(self, row: Confirmed) -> float | None:
        """The score that gives its rank, :func:`standing`; None where a seed failed."""
        return None if row.failures else standing([row.selection, *without_failures(row.scores)], self.logs)

    def row_of(self, trial: int) -> Confirmed | None:
        """The row of that trial, if it was confirmed."""
        return next((row for row in self.rows if row.trial == trial), None)

    @property
    def unrefused(self) -> list[Confirmed]:
        """The rows that the guards refuse with no seed."""
        return [row for row in self.rows if not row.refused]


def without_failures(scores: Sequence[float | None]) -> list[float]:
    """The scores of seeds that gave one."""
    return [score for score in scores if score is not None]


def centre(scores: Sequence[float], logs: bool) -> float:
    """The geometric mean of scores, or with ``logs`` False the arithmetic one."""
    return math.exp(statistics.fmean(map(math.log, scores))) if logs else statistics.fmean(scores)


def standing(scores: Sequence[float], logs: bool) -> float:
    """What ranks a configuration: the mean of all its seeds' scores, of three or more without the worst.

    One seed in ten or so ends far behind the others; left in, it would undo what the further seeds tell.
    """
    return centre(sorted(scores)[: max(2, len(scores) - 1)], logs)


def order_by_standing(selection: Sequence[float], fresh: Sequence[Sequence[float | None]]) -> tuple[list[int], bool]:
    """The places of configurations, best first, and whether their scores were taken as logarithms.

    ``selection`` is the score of each in the search, ``fresh`` those of its fresh seeds, None for a failure. All
    rank by :func:`standing`, which the search's score is a part of: it tells as much as a fresh one of which is
    better. Whoever failed with a seed is last, those with more failures behind. Where a score isn't above 0,
    arithmetic means rank all.
    """
    whole = [[one, *without_failures(more)] for one, more in zip(selection, fresh, strict=True)]
    logs = all(score > 0 for scores in whole for score in scores)
    failed = [sum(score is None for score in scores) for scores in fresh]
    return sorted(range(len(whole)), key=lambda place: (failed[place], standing(whole[place], logs))), logs


def expectation(selection: Sequence[float], fresh: Sequence[Sequence[float]], logs: bool) -> float | None:
    """What the choice scores with a seed that had no part in it: an estimate without the luck of the chosen.

    Each fresh seed in turn is left out, the other scores choose, and the seed's score of what they chose counts; the
    result is the mean over the seeds. None for fewer than two fresh seeds, or no configuration.
    """
    count = len(fresh[0]) if fresh else 0
    if count < 2:
        return None
    left_out = []
    for seed in range(count):
        others = [[one, *scores[:seed], *scores[seed + 1 :]] for one, scores in zip(selection, fresh, strict=True)]
        chosen = min(range(len(others)), key=lambda place: standing(others[place], logs))
        left_out.append(fresh[chosen][seed])
    return centre(left_out, logs)
