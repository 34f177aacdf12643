"""Every private name of Optuna that this project uses.

Optuna has no public way to put a trial that was interrupted back into the queue, to read one trial by its number, to
set attributes and constraints of a trial in another process than the one that asked for it, or to show a sampler or a
pruner some of a study's trials alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from optuna.study import Study
from optuna.study._constrained_optimization import _CONSTRAINTS_KEY
from optuna.trial import FrozenTrial, TrialState

CHECKED_WITH = "5.0.0"
"""The version of Optuna whose private names these are."""


def trial_of(study: Study, number: int) -> FrozenTrial:
    """The trial of that number as the study has it."""
    return study._storage.get_trial(_id(study, number))


def annotate(study: Study, number: int, attributes: Mapping[str, Any]) -> None:
    """Sets attributes of a trial that is not finished."""
    for name, value in attributes.items():
        study._storage.set_trial_user_attr(_id(study, number), name, value)


def constrain(study: Study, number: int, constraints: Mapping[str, float]) -> None:
    """Sets constraints of a trial that is not finished, which is infeasible where one is above 0."""
    for name, value in constraints.items():
        study._storage.set_trial_system_attr(_id(study, number), f"{_CONSTRAINTS_KEY}:{name}", value)


def put_back(study: Study, number: int) -> None:
    """Makes a trial that was running wait again."""
    study._storage.set_trial_state_values(_id(study, number), TrialState.WAITING)


def shown(study: Study, choose: Callable[[Sequence[FrozenTrial]], list[FrozenTrial]]) -> Study:
    """The study as a sampler or a pruner is to see it: of the trials that it asks for, those ``choose`` gives."""
    return cast("Study", _Shown(study, choose))


class _Shown:
    def __init__(self, study: Study, choose: Callable[[Sequence[FrozenTrial]], list[FrozenTrial]]) -> None:
        self.study, self.choose = study, choose

    def get_trials(self, *given: Any, **named: Any) -> list[FrozenTrial]:
        return self.choose(self.study.get_trials(*given, **named))

    def _get_trials(self, *given: Any, **named: Any) -> list[FrozenTrial]:
        return self.choose(self.study._get_trials(*given, **named))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.study, name)


def _id(study: Study, number: int) -> int:
    return study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
