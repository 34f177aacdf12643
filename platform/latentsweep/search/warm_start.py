"""What a new search tries first: the best configurations that earlier sweeps of the home found."""

from __future__ import annotations

import itertools
import logging
import operator
from collections.abc import Iterator
from typing import Any

from optuna.trial import FrozenTrial

from latentsweep.search import confirmation
from latentsweep.search.databases import translate_errors
from latentsweep.search.plan import SweepPlan
from latentsweep.search.proposals import trained_part
from latentsweep.search.study import Search
from latentsweep.search.sweeps import open_search, sweeps
from latentsweep.search.trials import run_key
from latentsweep.stages import guards
from latentsweep.storage.home import Home
from trainables.config import as_scalar
from trainables.errors import LatentsweepError
from trainables.space import THRESHOLD

log = logging.getLogger(__name__)

MOST = 1 / 4
"""The part of a search's trials that earlier sweeps may choose: what they found needn't hold here."""

Configurations = dict[str, dict[str, Any]]
"""Parameters by the key of the run that they come from."""


def most_configurations(plan: SweepPlan, trials: int) -> int:
    """How many configurations a search of so many trials takes from earlier sweeps; a random search takes none."""
    return min(plan.search.warm_start, int(trials * MOST)) if plan.search.sampler != "random" else 0


def first_configurations(home: Home, plan: SweepPlan, trials: int) -> Configurations:
    """What a search of so many ``trials`` tries first.

    They are the best of each earlier sweep with the same first objective, those of the same dataset before others,
    the last run first; then the second best of each, and so on. What fresh seeds confirmed comes before what one seed
    found. A number that the space doesn't have becomes the nearest that it has. A sweep that can't be read is passed
    over, with a warning.
    """
    count, found, known = most_configurations(plan, trials), Configurations(), set()
    near, far = list[list[tuple[str, dict[str, Any]]]](), list[list[tuple[str, dict[str, Any]]]]()
    for folder in reversed(sweeps(home)) if count else ():
        try:
            with translate_errors(home.study):
                theirs = SweepPlan.read(folder)
                if folder.name != plan.name and theirs.search.objectives[0] == plan.search.objectives[0]:
                    best = _ranked(plan, open_search(folder, home.study))
                    named = [(run_key(folder.name, trial.number), _here(plan, theirs, trial)) for trial in best]
                    (near if theirs.dataset == plan.dataset else far).append([each for each in named if each[1]])
        except LatentsweepError as error:
            log.warning("%s is passed over: %s", folder.name, error)
    for key, params in _in_turn([*near, *far]):
        if len(found) < count and trained_part(params) not in known:
            known.add(trained_part(params))
            found[key] = params
    return found


def _ranked(plan: SweepPlan, search: Search) -> list[FrozenTrial]:
    """The configurations of an earlier search, best first, without what its guards or those of ``plan`` refuse."""
    first = confirmation.choice(search)
    numbers = {trial.number for trial in first}
    return [
        trial
        for trial in [*first, *(trial for trial in search.feasible() if trial.number not in numbers)]
        if not confirmation.refusal(search, trial)
        and not (plan.search.guarded and guards.refusal(trial.user_attrs["metrics"]))
    ]


def _here(plan: SweepPlan, theirs: SweepPlan, trial: FrozenTrial) -> dict[str, Any]:
    """A configuration of another sweep in the space of ``plan``; empty where it tells nothing of it."""
    searched, here = plan.space.dimensions.keys() & trial.params.keys(), dict[str, Any]()
    if not searched - {THRESHOLD}:
        return {}
    for field, dimension in plan.space.dimensions.items():
        value = trial.params[field] if field in searched else as_scalar(operator.attrgetter(field)(theirs.recipe))
        nearest = dimension.nearest(value)
        if nearest is None:
            return {}
        here[field] = nearest
    return here


def _in_turn(ranked: list[list[tuple[str, dict[str, Any]]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The first of each, then the second of each, and so on."""
    return (each for row in itertools.zip_longest(*ranked) for each in row if each is not None)
