"""The measured configurations as a report shows them: scores with intervals, and what can't be told from the best.

A configuration is indistinguishable from the best where the difference of their scores is within 1.96 standard errors
of that difference, taken as independent: the careful side, since all are measured against the same real slices.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from latentsweep.metrics import BOUNDED, ERROR, HIGH, LOW, OBJECTIVES, Metric
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
    measured = search.measured()
    chosen = {trial.number for trial in search.best()}
    metric = objective(search).name
    single = len(search.config.objectives) == 1
    return [
        Score(
            rank,
            trial.number,
            family_of(trial),
            trial.number in chosen,
            single and _alike(trial, measured[0], metric),
            dict(trial.params),
            tuple(trial.values),
            recorded(trial),
        )
        for rank, trial in enumerate(measured, start=1)
    ]


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
    text = io.StringIO()
    writer = csv.DictWriter(
        text,
        ["rank", "trial", "pass", "chosen", "indistinguishable", *fields, *metrics, *ends],
        lineterminator="\n",
    )
    writer.writeheader()
    for row in rows:
        line: dict[str, Any] = {
            "rank": row.rank,
            "trial": row.trial,
            "pass": row.family,
            "chosen": row.chosen,
            "indistinguishable": row.alike,
            **{field: row.params.get(field) for field in fields},
            **row.metrics,
        }
        for name in ends:
            found = row.interval(name.removesuffix(LOW).removesuffix(HIGH))
            line[name] = None if found is None else found[name.endswith(HIGH)]
        writer.writerow(line)
    return text.getvalue()


def _alike(trial: FrozenTrial, best: FrozenTrial, metric: str) -> bool:
    if trial.number == best.number:
        return True
    errors = [standard_error(recorded(each), metric) for each in (trial, best)]
    if any(error is None for error in errors):
        return bool(trial.values[0] == best.values[0])
    return bool(trial.values[0] - best.values[0] <= NORMAL_95 * math.hypot(*(error or 0.0 for error in errors)))
