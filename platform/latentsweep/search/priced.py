"""Proposals and pruning by a Gaussian process that learns from every trial and knows what a configuration costs.

Next comes the configuration whose expected improvement on the best one is greatest for what it costs: a denoiser, and
an autoencoder, too, where no trial has asked for its autoencoder yet. A pruned trial costs only the rest of its
steps, since the store keeps what it trained. At a rung a trial ends where it can hardly be the best one.
``surrogate.py`` is the model.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from latentsweep.search.proposals import trained_part
from latentsweep.search.surrogate import Array, Surrogate
from latentsweep.search.trials import family_of, feasible, may_go_on, without_points
from trainables.errors import INFRASTRUCTURE
from trainables.space import THRESHOLD, stage_of

CANDIDATES, NEAR, STEP = 256, 64, 0.1
"""Configurations drawn at random, those drawn near the best of them, and how far away these are, in their ranges."""

BEST, LATEST = 20, 20
"""The trials that the model looks at: those that scored best, and the latest."""

LEAST_CHANCE = 0.3
"""A trial ends at a rung where the probability that it is better than the best other one is below this."""


@dataclass(frozen=True)
class Prices:
    """What a search knows of its trainings: the steps of a denoiser, and what an autoencoder costs, in denoisers."""

    steps: int = 0
    """Of a denoiser where the space searches no other number; 0 where that isn't known."""
    autoencoder: Callable[[], float] = lambda: 1.0

    def denoiser(self, params: Mapping[str, Any]) -> float:
        """What a denoiser costs, in those of the recipe's own steps."""
        return self._steps(params) / self.steps if self.steps else 1.0

    def share(self, params: Mapping[str, Any], step: int) -> float:
        """The part of its training that a trial has had at a rung, below 1."""
        return step / max(self._steps(params), step + 1)

    def _steps(self, params: Mapping[str, Any]) -> int:
        """The steps of a configuration's denoiser."""
        return int(params.get("diffusion.steps", self.steps))


class Priced(BaseSampler):
    """Proposes the next configuration of a search with one objective, by its ``trials``; draws by ``seed``.

    What failed and what the guards refuse count as the worst score. ``seen`` are configurations that aren't proposed
    again.
    """

    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        trials: Sequence[FrozenTrial],
        prices: Prices,
        *,
        seen: Collection[tuple[tuple[str, Any], ...]] = (),
        seed: int = 0,
    ) -> None:
        self.space = {name: d for name, d in space.items() if name != THRESHOLD}
        self.chosen = np.array([isinstance(d, CategoricalDistribution) for d in self.space.values()], bool)
        self.together = np.array([stage_of(name) in ("data", "vae") for name in self.space], bool)
        self.trials, self.prices, self.seen = trials, prices, seen
        self.proposed: Array | None = None
        """A row that was drawn and not taken yet."""
        self.random = np.random.default_rng(seed)
        self.own = [
            trial
            for trial in without_points(trials)
            if trial.user_attrs.get("class") != INFRASTRUCTURE
            and self.space.keys() <= trial.params.keys()  # a kill may have left some of them
        ]
        self.begun = [trial for trial in self.own if trial.state != TrialState.WAITING]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All dimensions that a training has."""
        return self.space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next configuration, without its threshold."""
        row, self.proposed = self._propose() if self.proposed is None else self.proposed, None
        return self._params(row)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """One of the thresholds, all of which are measured."""
        assert isinstance(param_distribution, CategoricalDistribution)
        return param_distribution.choices[self.random.integers(len(param_distribution.choices))]

    def find_to_thaw(self) -> FrozenTrial | None:
        """The pruned trial whose rest promises more for what it costs than any new configuration; None for none.

        Only trials that the model looks at are taken.
        """
        pruned = [trial for trial in self.looked_at if may_go_on(trial)]
        if not pruned:
            return None
        left = [
            self.prices.denoiser(trial.params) * (1 - self.prices.share(trial.params, trial.user_attrs["pruned_at"]))
            for trial in pruned
        ]
        promises = self._promise(self._rows([trial.params for trial in pruned]), np.array(left))
        self.proposed = self._propose()
        new = self._promise(self.proposed[None], self._costs(self.proposed[None]))
        return pruned[np.argmax(promises)] if promises.max() > new[0] else None

    def can_hardly_win(self, number: int) -> bool:
        """Whether trial ``number``, which has reported at a rung, is to end there."""
        rows = {trial.number: self._rows([trial.params]) for trial in self.tried}
        own, others = rows.pop(number), [*rows.values()]
        if not others:
            return False
        best = self.model.least(np.concatenate(others))
        return float(self.model.chance(own, best)[0]) < LEAST_CHANCE

    @functools.cached_property
    def autoencoder(self) -> float:
        """What an autoencoder costs, in denoisers."""
        return self.prices.autoencoder()

    @functools.cached_property
    def asked(self) -> set[tuple[float, ...]]:
        """The autoencoders that trials have asked for."""
        asked = [trial.params for trial in self.own if trial.state != TrialState.FAIL]
        return {tuple(row[self.together]) for row in self._rows(asked)}

    @functools.cached_property
    def scores(self) -> Mapping[int, float]:
        """The score of each trial that ended with one: the best of its thresholds; the worst where it isn't sound."""
        scores: dict[int, float] = {}
        for trial in self.trials:
            if trial.state == TrialState.COMPLETE and feasible(trial):
                family = family_of(trial)
                scores[family] = min(trial.values[0], scores.get(family, math.inf))
        if scores:
            worst = max(scores.values())
            scores |= {t.number: worst for t in self.begun if not _sound(t) and t.number not in scores}
        return scores

    @functools.cached_property
    def looked_at(self) -> Sequence[FrozenTrial]:
        """The trials that the model learns from, by number."""
        ranked = sorted(self.begun, key=lambda trial: self.scores.get(trial.number, math.inf))
        running = [trial for trial in self.begun if trial.state == TrialState.RUNNING]
        chosen = {trial.number: trial for trial in (*ranked[:BEST], *self.begun[-LATEST:], *running)}
        return [chosen[number] for number in sorted(chosen)]

    @functools.cached_property
    def tried(self) -> Sequence[FrozenTrial]:
        """Those of them that can be the best; all, where none can."""
        return [trial for trial in self.looked_at if _sound(trial)] or self.looked_at

    @functools.cached_property
    def model(self) -> Surrogate:
        """What the trials tell."""
        seen, waiting = list[tuple[Mapping[str, Any], float, float]](), list[Mapping[str, Any]]()
        for trial in self.looked_at:
            rungs = sorted(trial.intermediate_values.items()) if _sound(trial) else []
            seen += [(trial.params, self.prices.share(trial.params, step), score) for step, score in rungs]
            if trial.number in self.scores:
                seen.append((trial.params, 1.0, self.scores[trial.number]))
            elif trial.state == TrialState.RUNNING and not rungs:
                waiting.append(trial.params)
        seen = [each for each in seen if math.isfinite(each[2])]
        shares, scores = (np.array([each[place] for each in seen]) for place in (1, 2))
        x, pending = self._rows([params for params, *_ in seen]), self._rows(waiting)
        return Surrogate(self.chosen, self.together, x, shares, scores, pending)

    def _propose(self) -> Array:
        """A row that promises most for what it costs, of some that are drawn and of some near the best of these."""
        drawn = self.random.random((CANDIDATES, len(self.space)))
        counts = [len(d.choices) if isinstance(d, CategoricalDistribution) else 1 for d in self.space.values()]
        drawn = np.where(self.chosen, np.floor(drawn * counts), drawn)
        if not self.begun:
            return np.asarray(np.where(self.chosen, drawn[0], 0.5))
        new = [row for row in drawn if trained_part(self._params(row)) not in self.seen]
        first = self._best_of(np.array(new or drawn))
        near = first + STEP * self.random.standard_normal((NEAR, len(first)))
        return self._best_of(np.array([first, *np.where(self.chosen, first, np.clip(near, 0, 1))]))

    def _best_of(self, rows: Array) -> Array:
        """The row that promises most for what it costs."""
        return np.asarray(rows[np.argmax(self._promise(rows, self._costs(rows)))])

    def _promise(self, rows: Array, costs: Array) -> Array:
        """The expected improvement at rows on the best trial that isn't pruned, over what each costs in denoisers."""
        best = [trial for trial in self.tried if trial.state != TrialState.PRUNED] or self.tried
        return self.model.improvement(rows, self.model.least(self._rows([trial.params for trial in best]))) / costs

    def _costs(self, rows: Array) -> Array:
        """What new rows cost, in denoisers."""
        denoisers = np.array([self.prices.denoiser(self._params(row)) for row in rows])
        return denoisers + self.autoencoder * np.array([tuple(row[self.together]) not in self.asked for row in rows])

    def _rows(self, configurations: Sequence[Mapping[str, Any]]) -> Array:
        """Configurations as the model takes them."""
        rows = [[_place(d, params[name]) for name, d in self.space.items()] for params in configurations]
        return np.array(rows, dtype=np.float64).reshape(-1, len(self.space))

    def _params(self, row: Array) -> dict[str, Any]:
        """The inverse of :meth:`_rows` for one row."""
        return {name: _value(d, float(place)) for (name, d), place in zip(self.space.items(), row, strict=True)}


def _sound(trial: FrozenTrial) -> bool:
    """Whether a trial neither failed nor is refused by a guard."""
    return trial.state != TrialState.FAIL and feasible(trial)


def _ends(dimension: FloatDistribution | IntDistribution) -> tuple[float, float]:
    """Both ends of a range, as logarithms where it is logarithmic."""
    low, high = float(dimension.low), float(dimension.high)
    return (math.log(low), math.log(high)) if dimension.log else (low, high)


def _place(dimension: BaseDistribution, value: Any) -> float:
    """The number that stands for a value."""
    if isinstance(dimension, CategoricalDistribution):
        return dimension.to_internal_repr(value)
    assert isinstance(dimension, FloatDistribution | IntDistribution)
    low, high = _ends(dimension)
    return ((math.log(value) if dimension.log else value) - low) / (high - low or 1.0)


def _value(dimension: BaseDistribution, place: float) -> Any:
    """The value that a number stands for."""
    if isinstance(dimension, CategoricalDistribution):
        return dimension.choices[int(place)]
    assert isinstance(dimension, FloatDistribution | IntDistribution)
    low, high = _ends(dimension)
    value = low + place * (high - low)
    value = min(max(math.exp(value) if dimension.log else value, dimension.low), dimension.high)
    return round(value) if isinstance(dimension, IntDistribution) else value
