"""The simulated sweeps of the benchmarks: a search on a clock of its own, by the real study and scheduler."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest
from autoencoders import DENOISER, SPACES, ManyAutoencoders
from optuna.trial import FrozenTrial
from simulation import SPACE, Costs, World, plan_of, swept
from warm_start import Another, best_of, until_found

from latentsweep.search.choice import SearchConfig
from latentsweep.search.priced import Priced
from latentsweep.search.study import Search
from latentsweep.search.trials import REPLACES
from trainables.space import Choice, Range, SearchSpace

COSTS = dataclasses.replace(Costs(), vae=Costs().denoiser)


def test_a_search_runs_its_trials_and_pays_for_what_they_share_once() -> None:
    plan = plan_of(SPACE, SearchConfig(sampler="random", pruner="none"), 0)
    lazy, eager = (swept(plan, 4, 2, World(0), COSTS, eager=each) for each in (False, True))
    assert (lazy.trials, lazy.pruned) == (4, 0)
    assert lazy.found == eager.found
    assert 4 * COSTS.denoiser < lazy.compute <= eager.compute + 1e-9 < 4 * (COSTS.denoiser + COSTS.vae) + 10
    assert lazy.wall < lazy.compute, "two at once"


def test_what_is_pruned_and_gone_on_with_costs_what_it_costs_at_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    space = SearchSpace({"diffusion.frequency_weight": Range(0.0, 0.3)})
    plan = plan_of(space, SearchConfig(sampler="gp", pruner="gp"), 0)
    world = ManyAutoencoders(0, SPACES[8])
    monkeypatch.setattr(ManyAutoencoders, "truth", lambda self, params: 10.0)
    monkeypatch.setattr(Priced, "can_hardly_win", lambda self, number: False)
    whole = swept(plan, 3, 1, world, COSTS)
    monkeypatch.setattr(Priced, "can_hardly_win", lambda self, number: REPLACES not in _of(self, number).user_attrs)
    monkeypatch.setattr(
        Priced, "find_to_thaw", lambda self: next((t for t in self.begun if t.state.name == "PRUNED"), None)
    )
    parted = swept(plan, 3, 1, world, COSTS)
    assert (whole.trials, whole.pruned) == (3, 0)
    assert (parted.trials, parted.pruned) == (3, 1), "the last is pruned when no more are asked for"
    last = 0.75 * COSTS.denoiser
    assert whole.compute - parted.compute == pytest.approx(last, abs=2)


def _of(priced: Priced, number: int) -> FrozenTrial:
    return next(trial for trial in priced.begun if trial.number == number)


def test_what_is_tried_first_is_tried_first() -> None:
    asked = list[dict[str, object]]()

    def over(search: Search) -> bool:
        asked[:] = [trial.params for trial in search.run_trials() if trial.params]
        return False

    world = ManyAutoencoders(3, SPACES[8])
    first = best_of(world)
    assert len(first) == SearchConfig.warm_start
    plan = plan_of(SPACES[8], SearchConfig(), 3)
    swept(plan, 8, 2, world, COSTS, over=over, warm_start=first)
    assert asked[: len(first)] == list(first.values())


def test_a_world_of_full_likeness_is_the_first_one_but_for_its_noise() -> None:
    first = ManyAutoencoders(3, SPACES[8])
    same, other = (Another(1003, SPACES[8], 3, likeness) for likeness in (1.0, 0.0))
    (params, *_) = best_of(first).values()
    assert same.truth(params) == first.truth(params)
    assert same.measured(params) != first.measured(params)
    assert other.truth(params) != first.truth(params)
    best = optimum(first)
    assert same.truth(best) == pytest.approx(10)
    found = until_found(same, {"earlier/trial-0": best})
    assert math.isfinite(found)
    assert found <= until_found(same, {})


def optimum(world: ManyAutoencoders) -> dict[str, Any]:
    """The best configuration: a search that begins with it has found it, however a machine rounds."""
    vae = {
        field: choice.values for field, choice in world.space.touching("vae").items() if isinstance(choice, Choice)
    }
    denoiser = dict(zip(DENOISER, world.best, strict=True))
    return min(
        (dict(zip(vae, values, strict=True)) | denoiser for values in itertools.product(*vae.values())),
        key=world.truth,
    )
