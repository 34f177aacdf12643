"""The measured configurations as a report shows them: scores with intervals, and what can't be told from the best.

A configuration is indistinguishable from the best where the difference of their scores is within 1.96 standard errors
of that difference. Of KID the error is paired: both have the same real subjects and the same noise, and it covers
other subjects and other noise (``search/pairing.py``). Where what that needs is not recorded, and of other
objectives, the two scores are taken as independent: the careful side, since all are measured against the same real
slices. Neither error covers another seed of the training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from latentsweep.metrics import BOUNDED, ERROR, HIGH, KID, NORMAL_95, Metric, interval, objective_of
from latentsweep.pages.tables import as_csv as write_csv
from latentsweep.search.confirmation import choice
from latentsweep.search.study import Search
from latentsweep.search.trials import family_of
from latentsweep.stages import guards


@dataclass(frozen=True)
class Score:
    """One measured configuration: ``values`` as Optuna has them, ``metrics`` as they were recorded."""

    rank: int
    trial: int
    family: int
    """The trial whose denoiser it shares."""
    chosen: bool
    """Whether export takes it; with two objectives, whether it is on the Pareto front."""
    alike: bool
    """Whether it can't be told from the lowest score; False for every row with two objectives."""
    difference_error: float | None
    """Standard error of its difference to the lowest score; None where none is known, or with two objectives."""
    paired: bool
    """Whether that error is paired; else the two scores are taken as independent."""
    refused: str
    """Why the guards refuse it, in words; empty where they don't. Such rows stand last."""
    said: str
    """What the guards say of it, in words, whether or not the search heeds them; empty where they say nothing."""
    params: Mapping[str, Any]
    values: tuple[float, ...]
    metrics: Mapping[str, float]

    def interval(self, metric: str) -> tuple[float, float] | None:
        """The 95 % interval of a metric; None where no uncertainty was recorded."""
        return interval(self.metrics, metric)


def scores(search: Search) -> list[Score]:
    """Every measured configuration, the lowest first objective first; what the guards refuse is last.

    What they refuse is compared with nothing.
    """
    measured = search.measured()
    best = {trial.number for trial in choice(search)}
    single = len(search.config.objectives) == 1
    found = []
    for rank, trial in enumerate(measured, start=1):
        refused = search.refusal(trial)
        compared = single and not refused
        error, paired = difference_error(search, trial, measured[0]) if compared else (None, False)
        alike = compared and trial.values[0] - measured[0].values[0] <= NORMAL_95 * (error or 0.0)
        metrics = recorded(trial)
        told = alike, error, paired, refused, guards.refusal(metrics)
        given = rank, trial.number, family_of(trial), trial.number in best, *told
        found.append(Score(*given, dict(trial.params), tuple(trial.values), metrics))
    return found


def difference_error(search: Search, trial: FrozenTrial, other: FrozenTrial) -> tuple[float | None, bool]:
    """Standard error of the difference of two scores, None where none is known, and whether it is paired."""
    paired = search.paired_error(trial, other)
    if paired is not None or trial.number == other.number:
        return paired or 0.0, paired is not None
    errors = [standard_error(recorded(each), objective(search).name) for each in (trial, other)]
    known = [error for error in errors if error is not None]
    return (math.hypot(*known) if len(known) == len(errors) else None), False


def chosen(rows: Sequence[Score]) -> Score:
    """The configuration that export takes, or the first of the Pareto front; the lowest where none is chosen."""
    return next((row for row in rows if row.chosen), rows[0])


def unpaired_words(rows: Sequence[Score], metric: Metric) -> str:
    """Of which configurations the errors are not paired, and why; nothing where all are."""
    unpaired = sum(not row.paired and row.difference_error is not None for row in rows[1:])
    if not unpaired:
        return ""
    what = (
        "All others are"
        if unpaired == len(rows) - 1
        else f"Of the others {unpaired} {'is' if unpaired == 1 else 'are'}"
    )
    why = "what pairing needs was not recorded with them, or they don't share noise and real slices with it"
    if metric != KID:
        why = f"errors are paired for {KID.label} alone"
    return f"{what} compared with the lowest as if independent, which calls more of them alike: {why}"


def recorded(trial: FrozenTrial) -> dict[str, float]:
    """The metrics that were recorded with a trial."""
    return dict(trial.user_attrs.get("metrics", {}))


def objective(search: Search) -> Metric:
    """The metric of the first objective."""
    return objective_of(search.config.objectives[0])


def standard_error(metrics: Mapping[str, float], metric: str) -> float | None:
    """The recorded standard error of a metric, or the one that its interval means; None without either."""
    if metric + ERROR in metrics:
        return metrics[metric + ERROR]
    found = interval(metrics, metric)
    return None if found is None else (found[1] - found[0]) / (2 * NORMAL_95)


def as_csv(rows: Sequence[Score], fields: Sequence[str]) -> str:
    """All rows with every recorded metric, unrounded; intervals that were not recorded are added as such.

    What is refused has no rank.
    """
    metrics = sorted({name for row in rows for name in row.metrics})
    uncertain = [name.removesuffix(ERROR) for name in metrics if name.endswith(ERROR)]
    ends = [name + end for name in uncertain for end in BOUNDED if name + end not in metrics]
    first = ["rank", "trial", "pass", "chosen", "refused", "guards"]
    first += ["indistinguishable", "difference_se", "paired", *fields]
    lines = []
    for row in rows:
        bounds = {metric: row.interval(metric) or (None, None) for metric in uncertain}
        told = row.chosen, row.refused, row.said, row.alike, row.difference_error, row.paired
        rank = None if row.refused else row.rank
        own = [rank, row.trial, row.family, *told, *(row.params.get(field) for field in fields)]
        added = {end: bounds[end.rpartition("_")[0]][end.endswith(HIGH)] for end in ends}
        lines.append({**dict(zip(first, own, strict=True)), **row.metrics, **added})
    return write_csv([*first, *metrics, *ends], lines)
