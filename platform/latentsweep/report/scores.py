"""The measured configurations as a report shows them: scores with intervals, and what can't be told from the best.

A configuration is indistinguishable from the best where the difference of their scores is within 1.96 standard errors
of that difference, taken as independent: the careful side, since all are measured against the same real slices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from latentsweep.metrics import BOUNDED, ERROR, HIGH, LOW, OBJECTIVES, Metric
from latentsweep.pages.tables import as_csv as write_csv
from latentsweep.search.confirmation import choice
from latentsweep.search.study import Search, family_of

NORMAL_95 = 1.96
"""Standard errors to either side that a 95 % normal interval takes."""


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
    params: Mapping[str, Any]
    values: tuple[float, ...]
    metrics: Mapping[str, float]

    def interval(self, metric: str) -> tuple[float, float] | None:
        """The 95 % interval of a metric; None where no uncertainty was recorded."""
        return interval(self.metrics, metric)


def scores(search: Search) -> list[Score]:
    """Every measured configuration, the lowest first objective first."""
    measured, metric = search.measured(), objective(search).name
    best = {trial.number for trial in choice(search)}
    single = len(search.config.objectives) == 1
    found = []
    for rank, trial in enumerate(measured, start=1):
        alike = single and _alike(trial, measured[0], metric)
        given = rank, trial.number, family_of(trial), trial.number in best, alike
        found.append(Score(*given, dict(trial.params), tuple(trial.values), recorded(trial)))
    return found


def chosen(rows: Sequence[Score]) -> Score:
    """The configuration that export takes, or the first of the Pareto front; the lowest where none is chosen."""
    return next((row for row in rows if row.chosen), rows[0])


def recorded(trial: FrozenTrial) -> dict[str, float]:
    """The metrics that were recorded with a trial."""
    return dict(trial.user_attrs.get("metrics", {}))


def objective(search: Search) -> Metric:
    """The metric of the first objective."""
    return OBJECTIVES[search.config.objectives[0]]


def interval(metrics: Mapping[str, float], metric: str) -> tuple[float, float] | None:
    """The recorded 95 % interval of a metric, or 1.96 standard errors around it; None without either."""
    low, high = metrics.get(metric + LOW), metrics.get(metric + HIGH)
    if low is not None and high is not None:
        return low, high
    value, error = metrics.get(metric), metrics.get(metric + ERROR)
    if value is None or error is None:
        return None
    return value - NORMAL_95 * error, value + NORMAL_95 * error


def standard_error(metrics: Mapping[str, float], metric: str) -> float | None:
    """The recorded standard error of a metric, or the one that its interval means; None without either."""
    if metric + ERROR in metrics:
        return metrics[metric + ERROR]
    found = interval(metrics, metric)
    return None if found is None else (found[1] - found[0]) / (2 * NORMAL_95)


def as_csv(rows: Sequence[Score], fields: Sequence[str]) -> str:
    """All rows with every recorded metric, unrounded; intervals that were not recorded are added as such."""
    metrics = sorted({name for row in rows for name in row.metrics})
    uncertain = [name.removesuffix(ERROR) for name in metrics if name.endswith(ERROR)]
    ends = [name + end for name in uncertain for end in BOUNDED if name + end not in metrics]
    first = ["rank", "trial", "pass", "chosen", "indistinguishable", *fields]
    lines = []
    for row in rows:
        bounds = {metric: row.interval(metric) or (None, None) for metric in uncertain}
        own = [row.rank, row.trial, row.family, row.chosen, row.alike, *(row.params.get(field) for field in fields)]
        added = {end: bounds[end.rpartition("_")[0]][end.endswith(HIGH)] for end in ends}
        lines.append({**dict(zip(first, own, strict=True)), **row.metrics, **added})
    return write_csv([*first, *metrics, *ends], lines)


def _alike(trial: FrozenTrial, best: FrozenTrial, metric: str) -> bool:
    if trial.number == best.number:
        return True
    errors = [standard_error(recorded(each), metric) for each in (trial, best)]
    known = [error for error in errors if error is not None]
    if len(known) < len(errors):
        return bool(trial.values[0] == best.values[0])
    return bool(trial.values[0] - best.values[0] <= NORMAL_95 * math.hypot(*known))
