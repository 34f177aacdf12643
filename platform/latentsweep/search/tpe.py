"""Optuna's TPE over what is trained: each denoiser counts once, with the best of its early-stop thresholds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from latentsweep.search.optuna_internals import shown
from latentsweep.search.trials import family_of, feasible
from trainables.space import THRESHOLD


class TPEOfDenoisers(TPESampler):
    """TPE for one objective, by the ``trials`` alone. It proposes no threshold: a pass measures each of them.

    The thresholds of a denoiser share the noise of their pass. Were each an observation, the few that TPE takes for
    good would be those of one or two denoisers. So TPE sees the best of each denoiser. The guards refuse that one
    only where they refuse all.
    """

    def __init__(self, trials: Iterable[FrozenTrial], *, startup: int, seed: int) -> None:
        """``startup`` denoisers are drawn at random."""
        super().__init__(multivariate=True, constant_liar=True, n_startup_trials=startup, seed=seed)
        self.random = RandomSampler(seed=seed)
        families, self.seen = dict[int, list[FrozenTrial]](), set[int]()
        """The numbers of the trials that TPE sees."""
        for trial in trials:
            if trial.state == TrialState.COMPLETE:
                families.setdefault(family_of(trial), []).append(trial)
            else:
                self.seen.add(trial.number)
        self.seen |= {_best_of(family).number for family in families.values()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """What a training has; nothing before ``startup`` denoisers have ended."""
        trained = {name: dimension for name, dimension in search_space.items() if name != THRESHOLD}
        return super().sample_relative(shown(study, self._choose), trial, trained)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A threshold, or one dimension of the first denoisers, at random."""
        return self.random.sample_independent(study, trial, param_name, param_distribution)

    def _choose(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        return [trial for trial in trials if trial.number in self.seen]


def _best_of(family: Sequence[FrozenTrial]) -> FrozenTrial:
    """The best of a denoiser's thresholds."""
    ranked = sorted(family, key=lambda trial: (trial.values, trial.number))
    return next(filter(feasible, ranked), ranked[0])
