"""What mattered, and how sure that is: fANOVA on the measured configurations, and on resamples of their passes.

The points of one pass share a denoiser, so a resample takes or leaves them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from latentsweep.search import leaderboard
from latentsweep.search.study import Search, family_of

RESAMPLES = 24
TREES = 16
WORK = 2400
"""Trees times configurations that one resample may take, so that all of them end in seconds."""

ENDS = (10, 90)
"""Percentiles of the resampled shares that are shown."""


@dataclass(frozen=True)
class Importance:
    """Share of the variance of the first objective that a random forest lays to one field (Hutter et al. 2014)."""

    field: str
    share: float
    """On all configurations, as MLflow has it."""
    median: float
    low: float
    high: float
    """Median, 10 % and 90 % of the shares over the resamples."""
    first: float
    """Share of the resamples in which no field has more."""


def importances(search: Search) -> list[Importance]:
    """One for each searched field, the largest median first; empty where too few trials have ended."""
    shares = leaderboard.importances(search)
    if not shares:
        return []
    fields = list(shares)
    draws = resample_shares(search.measured(), fields)
    if not len(draws):
        return []
    low, high = np.percentile(draws, ENDS, axis=0)
    first = np.bincount(draws.argmax(axis=1), minlength=len(fields)) / len(draws)
    columns = np.stack([np.median(draws, axis=0), low, high, first], axis=1).tolist()
    found = [Importance(field, shares[field], *column) for field, column in zip(fields, columns, strict=True)]
    return sorted(found, key=lambda importance: -importance.median)


def resample_shares(trials: Sequence[FrozenTrial], fields: Sequence[str]) -> np.ndarray:
    """Shares (resamples, fields) on draws of as many passes with replacement; draws without variance are left out."""
    passes: dict[int, list[FrozenTrial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        passes.setdefault(family_of(trial), []).append(trial)
    families = list(passes.values())
    generator = np.random.default_rng(0)
    trees = max(4, min(TREES, WORK // max(1, len(trials))))
    draws = []
    for seed in range(RESAMPLES):
        chosen = generator.integers(len(families), size=len(families))
        drawn = [trial for index in chosen for trial in families[index]]
        if len({trial.values[0] for trial in drawn}) < 2:
            continue
        study = optuna.create_study(directions=["minimize"] * len(drawn[0].values))
        study.add_trials(drawn)
        shares = optuna.importance.get_param_importances(
            study,
            evaluator=optuna.importance.FanovaImportanceEvaluator(n_trees=trees, seed=seed),
            target=lambda trial: trial.values[0],
        )
        draws.append([float(shares.get(field, 0.0)) for field in fields])
    return np.array(draws).reshape(-1, len(fields))
