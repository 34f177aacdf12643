"""Which trials end early: Optuna's pruners by name, and a rule for two objectives, which these don't take."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from latentsweep.search.optuna_internals import shown
from latentsweep.search.trials import feasible


def behind(values: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    """Whether a trial's score of each objective at a rung is above the median of the others' there; lower is better.

    False where there are no others. A trial's best so far, which Optuna takes, says nothing of a score that grows
    while it trains, such as the share of near copies.
    """
    medians = [statistics.median(each) for each in zip(*others, strict=True)]
    return bool(medians) and all(own > median for own, median in zip(values, medians, strict=True))


class MedianOfFeasible(MedianPruner):
    """Optuna's pruner by the median, of feasible trials only: a copyist's low score would prune honest ones."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether ``trial`` is to end."""
        return super().prune(shown(study, _scored_on_the_way), trial)


def _scored_on_the_way(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those with rungs, which points don't have, that no guard refuses."""
    return [trial for trial in trials if trial.intermediate_values and feasible(trial)]


PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "median": partial(MedianOfFeasible, n_startup_trials=0, n_warmup_steps=0),
    "hyperband": HyperbandPruner,
    "gp": NopPruner,
    "none": NopPruner,
}
"""Optuna's pruners by the names that ``--pruner`` takes. By ``gp``, ``priced.py`` decides in its place."""
