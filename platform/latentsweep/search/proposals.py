"""Which configuration a search tries next: Optuna's proposal, without those whose denoiser was asked for before."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from trainables.space import THRESHOLD, Choice, Dimension

ENUMERABLE = 100_000
"""Spaces up to this size are listed in full when redrawing finds nothing new."""


class WithoutRepeats(BaseSampler):
    """Lets a sampler of Optuna propose, and draws again while a denoiser of that configuration was already asked for.

    Seeded anew for every trial, since a seeded sampler starts over when its study is reopened.
    """

    def __init__(
        self,
        proposer: BaseSampler,
        space: Mapping[str, BaseDistribution],
        *,
        seen: Collection[tuple[tuple[str, Any], ...]],
        seed: int,
    ) -> None:
        self.space, self.seen = dict(space), seen
        self.random = RandomSampler(seed=seed)
        self.proposer = proposer

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All dimensions together."""
        return self.space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A configuration whose denoiser is new to the study."""
        for proposer in [self.proposer] * 20 + [self.random] * 20:
            params = proposer.sample_relative(study, trial, search_space)
            for name, dimension in search_space.items():
                if name not in params:
                    params[name] = proposer.sample_independent(study, trial, name, dimension)
            if trained_part(params) not in self.seen:
                return params
        return next((p for p in list_all(search_space) if trained_part(p) not in self.seen), params)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Not reached: every dimension is drawn together."""
        return self.random.sample_independent(study, trial, param_name, param_distribution)


def trained_part(params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """The parameters without the early-stop threshold: one trained denoiser measures all thresholds."""
    return tuple(sorted((name, value) for name, value in params.items() if name != THRESHOLD))


def distribution(dimension: Dimension) -> BaseDistribution:
    """Optuna's form of a dimension."""
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def list_all(space: Mapping[str, BaseDistribution]) -> list[dict[str, Any]]:
    """Every configuration of a small discrete space; nothing for another."""
    values = [
        d.choices if isinstance(d, CategoricalDistribution) else range(d.low, d.high + 1)
        for d in space.values()
        if isinstance(d, CategoricalDistribution | IntDistribution)
    ]
    if len(values) < len(space):
        return []
    choices = itertools.islice(itertools.product(*values), ENUMERABLE)
    return [dict(zip(space, choice, strict=True)) for choice in choices]
