"""What mattered, and how sure that is: fANOVA on the measured configurations, and on resamples of their passes.

The points of one pass share a denoiser, so a resample takes or leaves them together. A forest lays some of the
variance to any field, also to one that does nothing. How much, the noise floor, is found by permuting the field's
values among the passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import optuna
from optuna.trial import FrozenTrial, create_trial

from latentsweep.search import leaderboard
from latentsweep.search.study import Search
from latentsweep.search.trials import family_of

NOISE_FLOOR = (
    "The noise floor is what 90 % of the shares stay below when the field's values are permuted among the passes "
    "(inside each pass, where they differ there). A share at or below it is not distinguishable from noise."
)
DASHBOARD = (
    "optuna-dashboard shows other shares. It takes every threshold of a pass for a trial of its own, and asks which "
    "fields' values set the best tenth of the trials apart (PED-ANOVA, Watanabe et al. 2023), not what moved the "
    "score over the whole space. It has no noise floor."
)
"""What a page says of the shares; the dashboard's choices are its defaults and Optuna's."""

Shares = npt.NDArray[np.float64]
RESAMPLES = 24
TREES = 16
FEWEST = 4
"""Trees of a forest at least, and of those for permuted values, of which there are many."""

WORK = 2400
"""Trees times configurations that one resample may take, so that all of them end in seconds."""

ALONE = 3
"""How many of the largest fields have their values permuted one at a time; those of all others are permuted at once,
each field in an order of its own."""

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
    floor: float
    """What 90 % of the shares stay below when the field's values are permuted among the passes."""

    @property
    def noise(self) -> bool:
        """Whether it can't be told from a field that does nothing."""
        return self.share <= self.floor


def importances(search: Search) -> list[Importance]:
    """One for each searched field, the largest median first; empty where too few trials have ended."""
    kept = leaderboard.keep(search, "report/importances.json", lambda: [asdict(each) for each in _resampled(search)])
    return [Importance(**each) for each in kept]


def _resampled(search: Search) -> list[Importance]:
    shares = leaderboard.importances(search)
    if not shares:
        return []
    fields = list(shares)
    draws = resample_shares(search.measured(), fields)
    if not len(draws):
        return []
    low, high = np.percentile(draws, ENDS, axis=0)
    first = np.bincount(draws.argmax(axis=1), minlength=len(fields)) / len(draws)
    floors = noise_floors(search.measured(), sorted(fields, key=lambda field: -shares[field]))
    floor = [floors[field] for field in fields]
    columns = np.stack([np.median(draws, axis=0), low, high, first, floor], axis=1).tolist()
    found = [Importance(field, shares[field], *column) for field, column in zip(fields, columns, strict=True)]
    return sorted(found, key=lambda importance: -importance.median)


def resample_shares(trials: Sequence[FrozenTrial], fields: Sequence[str]) -> Shares:
    """Shares (resamples, fields) from passes drawn with replacement; draws without variance are left out."""
    families = passes(trials)
    generator = np.random.default_rng(0)
    trees = max(FEWEST, min(TREES, WORK // max(1, len(trials))))
    draws = []
    for seed in range(RESAMPLES):
        chosen = generator.integers(len(families), size=len(families))
        drawn = [trial for index in chosen for trial in families[index]]
        if len({trial.values[0] for trial in drawn}) > 1:
            draws.append(shares_of(drawn, fields, trees, seed))
    return np.array(draws).reshape(-1, len(fields))


def noise_floors(trials: Sequence[FrozenTrial], fields: Sequence[str]) -> dict[str, float]:
    """The 90 % point of each field's shares when its values are permuted, as often as there are resamples.

    ``fields`` are in the order of their shares, the largest first.
    """
    families, together = passes(trials), list(fields[ALONE:])
    floors = {}
    for group in [*([field] for field in fields[:ALONE]), *([together] if together else [])]:
        draws = []
        for seed in range(RESAMPLES):
            permuted = permute(families, group, np.random.default_rng(seed))
            draws.append(shares_of([trial for family in permuted for trial in family], fields, FEWEST, seed))
        ends = np.percentile(draws, ENDS[1], axis=0)
        floors.update({field: float(ends[fields.index(field)]) for field in group})
    return floors


def passes(trials: Sequence[FrozenTrial]) -> list[list[FrozenTrial]]:
    """The trials by the denoiser that they share, in the order of their numbers."""
    found: dict[int, list[FrozenTrial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        found.setdefault(family_of(trial), []).append(trial)
    return list(found.values())


def shares_of(trials: Sequence[FrozenTrial], fields: Sequence[str], trees: int, seed: int) -> list[float]:
    """The share of each field in the variance of the first objective of these trials."""
    study = optuna.create_study(directions=["minimize"] * len(trials[0].values))
    study.add_trials(trials)
    shares = optuna.importance.get_param_importances(
        study,
        evaluator=optuna.importance.FanovaImportanceEvaluator(n_trees=trees, seed=seed),
        target=lambda trial: trial.values[0],
    )
    return [float(shares.get(field, 0.0)) for field in fields]


def permute(
    families: Sequence[Sequence[FrozenTrial]], fields: Sequence[str], order: np.random.Generator
) -> list[list[FrozenTrial]]:
    """The same passes with the same scores, but the values of ``fields`` are those of other passes.

    A field whose values differ inside passes, as the early-stop threshold's do, is permuted inside each.
    """
    params = [[dict(trial.params) for trial in family] for family in families]
    for field in fields:
        values = [[point[field] for point in family] for family in params]
        if any(len(set(each)) > 1 for each in values):
            values = [[each[place] for place in order.permutation(len(each))] for each in values]
        else:
            other = order.permutation(len(values))
            values = [[values[place][0]] * len(each) for place, each in zip(other, values, strict=True)]
        for family, new in zip(params, values, strict=True):
            for point, value in zip(family, new, strict=True):
                point[field] = value
    return [
        [
            create_trial(params=point, distributions=trial.distributions, values=trial.values)
            for point, trial in zip(points, family, strict=True)
        ]
        for points, family in zip(params, families, strict=True)
    ]
