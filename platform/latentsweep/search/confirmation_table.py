"""What a confirmation found, as rows and in words, the same in a terminal, in files and in reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from latentsweep.metrics import Metric
from latentsweep.search.confirmation import STRIDE, choice, confirmation, last_extent, metric_of
from latentsweep.search.confirmed import Confirmation, Confirmed
from latentsweep.search.study import Search
from latentsweep.search.trials import family_of


def rows(found: Confirmation) -> list[dict[str, Any]]:
    """A row for each configuration, best first: its trial, the score that the search found, and those confirmed."""
    return [
        {
            "rank": rank,
            "trial": row.trial,
            "pass": row.family,
            "best": row is found.best,
            "ranked_by": found.ranks_by(row),
            "found_with": row.selection,
            "mean": found.mean(row),
            **{
                f"seed_{seed}": end(row, seed) if score is None else score
                for seed, score in zip(found.seeds, row.scores, strict=True)
            },
        }
        for rank, row in enumerate(found.rows, start=1)
    ]


def rounded(table: Sequence[Mapping[str, Any]], metric: Metric) -> list[dict[str, Any]]:
    """The rows with their scores as ``metric`` is written."""
    return [
        {name: metric.format(value) if isinstance(value, float) else value for name, value in row.items()}
        for row in table
    ]


def words(search: Search) -> list[str]:
    """What the confirmation of a sweep says, a sentence each; none where nothing was to be confirmed."""
    found = confirmation(search)
    if found is None:
        begun = last_extent(search).configurations > 0
        return ["The best are not confirmed yet: run the sweep's command again to go on."] if begun else []
    metric, count = metric_of(search), len(found.seeds)
    named = f"the {'seed' if count == 1 else 'seeds'} {' and '.join(map(str, found.seeds))}"
    said = []
    if found.best:
        own = metric.format(found.mean(found.best))
        alone = f"{'That seed' if count == 1 else 'These seeds'} alone {'gives' if count == 1 else 'give'} {own}"
        worst = " but the worst" if count > 1 else ""
        said.append(
            f"Trained again with {named}, which the search never used, configuration {found.best.trial} ranks first "
            f"of {len(found.rows)}: {metric.label} {metric.format(found.ranks_by(found.best))}, the mean of all its "
            f"seeds{worst}, the search's own among them. {alone}; the search had found "
            f"{metric.format(found.best.selection)}."
        )
        if found.expected is not None:
            said.append(
                f"A further seed can be expected to give {metric.format(found.expected)}: each fresh seed is left "
                "out in turn, the other scores choose a configuration, and this is the mean of what the seeds left "
                "out score there."
            )
        elif count < 2:
            said.append("What a further seed would give can't be said: that takes two fresh seeds.")
    else:
        said.append(f"Each of the best failed with a seed that the search never used: {taken_instead(search)}.")
    for row in found.rows:
        for seed, reason in row.failures.items():
            was = "was refused by the guards" if seed in row.refused else "failed"
            said.append(f"Configuration {row.trial} {was} with the seed {seed}: {reason}.")
    if not found.logs:
        said.append("A score is not above 0, so means are arithmetic and not geometric.")
    leader = search.leader()
    if family_of(leader) not in {row.family for row in found.rows}:
        said.append(
            f"Configuration {leader.number} has come to the front since and isn't confirmed; run the sweep again for "
            "that."
        )
    return said


def end(row: Confirmed, seed: int) -> str:
    """How a seed without a score ended, in a word."""
    return "refused" if seed in row.refused else "failed"


def taken_instead(search: Search) -> str:
    """What is taken where a seed of each of the best failed."""
    taken = choice(search)
    if not taken:
        return "the guards refuse all, and none is taken"
    return "its own best is taken" if taken == search.best() else f"configuration {taken[0].number} is taken"


def extent_words(found: Confirmation | None) -> str:
    """What was trained again, for the facts of a sweep; empty where nothing was."""
    if found is None:
        return ""
    seeds = ", ".join(map(str, found.seeds))
    return f"; the best {len(found.rows)} again with {seeds} (the sweep's seed + {STRIDE:,}·k)"
