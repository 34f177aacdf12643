"""What hours become: the planned sizes, trials and confirmation, and the refusal of too little time."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any

import numpy as np
import pytest

from latentsweep.search.planner import EXTENTS, LEAST, LONGEST, MOST, SHARE, Costs, Planner
from latentsweep.search.schedule import Schedule, asked_autoencoders
from trainables.autoencoder.training import vae_steps
from trainables.errors import ConfigError
from trainables.recipes import IMPROVED, SMOKE, Recipe

COSTS = Costs(vae_step=0.1, denoiser_step=0.05, reference=20.0, encoding=10.0, rung=5.0, ending=20.0)
SLICES = 700


def planner(recipe: Recipe = SMOKE, **changes: Any) -> Planner:
    usual: dict[str, Any] = {"fixed": (), "slices": SLICES, "autoencoders": 2, "reachable": 100_000, "slots": 2}
    return Planner(recipe, COSTS, **(usual | changes))


def end_of(schedule: Schedule) -> float:
    return sum(schedule.taken.values())


@pytest.mark.parametrize("hours", [0.15, 0.25, 0.5, 1, 2, 8, 24])
@pytest.mark.parametrize("slots", [1, 2, 4])
def test_what_is_planned_fills_the_time_and_no_more(hours: float, slots: int) -> None:
    found = planner(slots=slots).plan(3600 * hours)
    assert 0.85 * 3600 * hours - 20 < end_of(found) <= 3600 * hours


def test_trials_and_sizes_grow_together() -> None:
    plans = [planner().plan(3600 * hours) for hours in (0.2, 0.5, 1, 2, 4)]
    for less, more in itertools.pairwise(plans):
        assert less.trials <= more.trials
        assert less.sizes["diffusion.steps"] <= more.sizes["diffusion.steps"]
    assert plans[0].trials < plans[-1].trials


def test_a_few_trials_ask_for_some_of_many_autoencoders() -> None:
    assert [asked_autoencoders(trials, 16) for trials in (0, 1, 8, 24, 1000)] == [0, 1, 6, 13, 16]
    assert asked_autoencoders(5, 1) == 1
    assert asked_autoencoders(5, 0) == 0
    draws = np.random.default_rng(0).integers(16, size=(4000, 24))
    assert np.mean([len(set(each)) for each in draws]) == pytest.approx(13, abs=0.5)
    many, few = (planner(autoencoders=kinds).plan(900) for kinds in (16, 2))
    assert (many.asked, few.asked) == (asked_autoencoders(many.trials, 16), 2)


def test_short_time_is_not_spent_on_trainings_that_draw_nothing() -> None:
    found = planner(autoencoders=16).plan(900)
    assert float(found.sizes["diffusion.steps"]) >= SMOKE.diffusion.steps / 2


@pytest.mark.parametrize("hours", [0.25, 1.0, 8.0])
@pytest.mark.parametrize("slots", [1, 2, 4, 16])
def test_no_trial_takes_so_long_that_the_end_depends_on_it(hours: float, slots: int) -> None:
    found = planner(slots=slots).plan(3600 * hours)
    assert found.parts.fresh <= 3600 * hours * LONGEST


def test_a_dear_measurement_shortens_no_training_below_the_recipes_own_steps() -> None:
    dear = dataclasses.replace(planner(slots=4, autoencoders=16), costs=dataclasses.replace(COSTS, ending=290.0))
    assert float(dear.plan(3600).sizes["diffusion.steps"]) >= 0.99 * SMOKE.diffusion.steps
    fixed = planner(fixed=("diffusion.steps",)).plan(3600)
    assert float(fixed.sizes["vae.max_steps"]) > vae_steps(SMOKE.vae, SLICES), "no denoiser gets longer by that"


def test_an_autoencoder_trains_a_third_as_long_as_a_denoiser() -> None:
    sizes = planner().plan(1800).sizes
    autoencoder = float(sizes["vae.max_steps"]) * COSTS.vae_step
    assert autoencoder == pytest.approx(SHARE * float(sizes["diffusion.steps"]) * COSTS.denoiser_step, rel=0.01)


@pytest.mark.parametrize("recipe", [SMOKE, IMPROVED])
@pytest.mark.parametrize("hours", [0.15, 30, 3000])
def test_the_steps_keep_within_their_bounds(recipe: Recipe, hours: float) -> None:
    try:
        sizes = planner(recipe, reachable=24).plan(3600 * hours).sizes
    except ConfigError:
        assert recipe is IMPROVED
        return
    own = {"diffusion.steps": recipe.diffusion.steps, "vae.max_steps": vae_steps(recipe.vae, SLICES)}
    for name, steps in own.items():
        assert max(100, LEAST * steps) <= float(sizes[name]) <= MOST * steps
    changed = recipe.replace(**sizes)
    assert vae_steps(changed.vae, SLICES) == sizes["vae.max_steps"], "its epochs hold the steps"
    assert changed.diffusion.warmup_steps <= changed.diffusion.steps / 10


def test_where_the_sizes_can_grow_no_more_the_trials_fill_the_time() -> None:
    found = planner(fixed=("diffusion.steps", "vae.max_steps")).plan(8 * 3600)
    assert set(found.sizes) == {"diffusion.warmup_steps", "evaluation.rungs"}
    assert end_of(found) > 0.95 * 8 * 3600


def test_what_the_user_set_and_what_is_searched_stays() -> None:
    fixed = ("diffusion.steps", "vae.epochs", "diffusion.warmup_steps", "evaluation.rungs")
    assert planner(fixed=fixed).plan(3600).sizes == {}


def test_a_space_holds_no_more_trials_than_it_has_denoisers() -> None:
    assert planner(reachable=8).plan(8 * 3600).trials == 8


def test_more_is_confirmed_of_more_trials() -> None:
    for trials, extent in ((30, (5, 2)), (12, (3, 2)), (8, (2, 1)), (5, (1, 1))):
        assert planner()._extent(trials) == extent == next(each for few, each in EXTENTS if trials >= few)
    assert planner(confirms=False).plan(3600).configurations == 0


def test_a_rung_that_costs_as_much_as_the_training_is_left_out() -> None:
    dear = dataclasses.replace(COSTS, rung=15.0)
    assert dataclasses.replace(planner(), costs=dear).plan(400).sizes["evaluation.rungs"] == 0
    assert planner().plan(3600).sizes["evaluation.rungs"] == SMOKE.evaluation.rungs


def test_too_little_time_is_refused_with_the_time_that_would_do() -> None:
    with pytest.raises(
        ConfigError, match=r"must hold 4 trials .*: got 2 minutes, and it takes \S+ minutes here"
    ) as told:
        planner().plan(120)
    minutes = float(str(told.value).partition("it takes ")[2].split()[0])
    assert planner().plan(60 * minutes).trials >= 4
    with pytest.raises(ConfigError):
        planner().plan(60 * minutes / 1.2)


def test_time_that_has_passed_is_not_planned_again() -> None:
    assert end_of(planner().plan(1800, elapsed=300)) <= 1500


def test_a_schedule_is_read_as_it_was_written() -> None:
    found = planner().plan(3600)
    assert Schedule.from_plain(json.loads(json.dumps(found.to_plain()))) == found
