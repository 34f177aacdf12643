"""Optuna's TPE over what is trained: each denoiser counts once, with the best of its early-stop thresholds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from latentsweep.search.optuna_internals import shown
from latentsweep.search.trials import family_of, feasible
from trainables.space import THRESHOLD


class BestOfDenoisers:
    """Of each denoiser that a study measured the threshold that scored best, as far as the study was read.

    A trial that has ended never changes, so each is looked at once. The study has one objective.
    """

    def __init__(self) -> None:
        self._best: dict[int, FrozenTrial] = {}
        self._read: set[int] = set()

    def choose(self, trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
        """One of the ``trials`` for each denoiser that is measured, and those that aren't, by number.

        What the guards refuse comes after what they don't. ``trials`` must hold all that are measured.
        """
        others = []
        for trial in trials:
            if trial.state != TrialState.COMPLETE:
                others.append(trial)
            elif trial.number not in self._read:
                self._read.add(trial.number)
                known = self._best.get(family_of(trial), trial)
                self._best[family_of(trial)] = min(known, trial, key=_rank)
        return sorted([*self._best.values(), *others], key=lambda trial: trial.number)


class TPEOfDenoisers(TPESampler):
    """TPE for one objective, which proposes all but the threshold, of which each is measured anyway.

    The thresholds of a denoiser are measured in one pass and share its noise. Were each an observation, the few that
    TPE takes for good would be those of one or two denoisers.
    """

    def __init__(self, best: BestOfDenoisers, *, startup: int, seed: int) -> None:
        super().__init__(multivariate=True, constant_liar=True, n_startup_trials=startup, seed=seed)
        self.best, self.random = best, RandomSampler(seed=seed)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """What a training has; nothing before ``startup`` denoisers have ended."""
        trained = {name: dimension for name, dimension in search_space.items() if name != THRESHOLD}
        return super().sample_relative(shown(study, self.best.choose), trial, trained)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A threshold, or one dimension of the first denoisers, at random."""
        return self.random.sample_independent(study, trial, param_name, param_distribution)


def _rank(trial: FrozenTrial) -> tuple[bool, float, int]:
    return not feasible(trial), trial.values[0], trial.number
