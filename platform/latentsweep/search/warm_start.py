"""What a new search tries first: the best configurations that earlier sweeps of the home found."""

from __future__ import annotations

import itertools
import logging
import operator
from collections.abc import Iterator, Mapping
from typing import Any

from latentsweep.search.plan import SweepPlan
from latentsweep.search.proposals import trained_part
from latentsweep.search.sweeps import open_search, sweeps
from latentsweep.search.trials import run_key
from latentsweep.storage.home import Home
from trainables.config import as_scalar
from trainables.errors import LatentsweepError
from trainables.space import THRESHOLD

log = logging.getLogger(__name__)

MOST = 1 / 4
"""The part of a search's trials that earlier sweeps may choose: what they found needn't hold here."""

Configurations = dict[str, dict[str, Any]]
"""Parameters by the key of the run that they come from."""


def first_configurations(home: Home, plan: SweepPlan, trials: int) -> Configurations:
    """What a search of so many ``trials`` tries first, at most ``plan.search.warm_start`` configurations.

    They are the best of each earlier sweep with the same first objective, those of the same dataset before others,
    the last run first; then the second best of each, and so on. A value that the space doesn't have becomes the
    nearest that it has. A sweep that can't be read is passed over, with a warning.
    """
    wanted = plan.search.warm_start if plan.search.sampler != "random" else 0
    count, found, known = min(wanted, int(trials * MOST)), Configurations(), set()
    earlier = [folder for folder in reversed(sweeps(home)) if folder.name != plan.name]
    same = {folder.name for folder in sweeps(home, plan.dataset)}
    ranked: list[list[tuple[str, dict[str, Any]]]] = []
    for folder in sorted(earlier, key=lambda folder: folder.name not in same) if count else []:
        try:
            theirs = SweepPlan.read(folder)
            if theirs.search.objectives[0] == plan.search.objectives[0]:
                best = open_search(folder, home.study).feasible()
                named = [(run_key(folder.name, trial.number), trial.params) for trial in best]
                ranked.append([(key, here) for key, params in named if (here := _here(plan, theirs, params))])
        except LatentsweepError as error:
            log.warning("%s is passed over: %s", folder.name, error)
    for key, params in _in_turn(ranked):
        if len(found) < count and trained_part(params) not in known:
            known.add(trained_part(params))
            found[key] = params
    return found


def _here(plan: SweepPlan, theirs: SweepPlan, params: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of another sweep in the space of ``plan``; empty where it tells nothing of it."""
    searched = plan.space.dimensions.keys() & params.keys()
    if not searched - {THRESHOLD}:
        return {}
    recipe, here = theirs.recipe_of(params), {}
    for field, dimension in plan.space.dimensions.items():
        try:
            nearest = dimension.nearest(as_scalar(operator.attrgetter(field)(recipe)))
        except AttributeError:  # a field of a plug-in that their recipe doesn't use
            nearest = None
        if nearest is None:
            return {}
        here[field] = nearest
    return here


def _in_turn(ranked: list[list[tuple[str, dict[str, Any]]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The first of each, then the second of each, and so on."""
    return (each for row in itertools.zip_longest(*ranked) for each in row if each is not None)
