"""A sweep that was given hours: one name for all its runs, one schedule, and what its deadline lets begin."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from latentsweep.jobs.deadline import Deadline
from latentsweep.jobs.scheduling import kept_plan
from latentsweep.report.source import Source
from latentsweep.report.summary import schedule_words
from latentsweep.search import confirmation
from latentsweep.search.choice import SearchConfig
from latentsweep.search.clock import spent_seconds
from latentsweep.search.confirmation import Extent
from latentsweep.search.plan import SweepPlan
from latentsweep.search.schedule import Parts, Schedule, checked_seconds
from latentsweep.search.study import Search
from latentsweep.search.trials import Point
from latentsweep.storage.costs import COST
from latentsweep.storage.home import Home, write_json
from latentsweep.storage.store import Store
from trainables.errors import ConfigError
from trainables.recipes import SMOKE
from trainables.space import Choice, SearchSpace

SPACE = SearchSpace({"vae.latent_channels": Choice((4, 8)), "diffusion.learning_rate": Choice((1e-4, 2e-4, 5e-4))})
SCHEDULE = Schedule(
    1000.0,
    {"diffusion.steps": 300, "vae.max_steps": 400},
    {"diffusion.steps": SMOKE.diffusion.steps, "vae.max_steps": SMOKE.vae.max_steps},
    trials=6,
    configurations=2,
    seeds=1,
    autoencoders=2,
    parts=Parts(10.0, 20.0, 50.0, 50.0),
)
ASKED = SweepPlan("scans", "f" * 64, "smoke", SMOKE, SPACE, SearchConfig(sampler="random"), 0, "a" * 64)


class Time:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def deadline(tmp_path: Path, time: Time) -> Deadline:
    """Of a sweep that has just begun."""
    home, plan = Home(tmp_path / "runs"), ASKED.scheduled(SCHEDULE)
    folder = home.writable(home.sweeps / plan.name)
    write_json(folder / "sweep.json", {**plan.to_plain(), "threads": 1})
    search = Search(folder, plan.space, plan.search, plan.seed)
    made = Deadline(plan, SCHEDULE, search, Store.of(home), folder, 1, 0.0)
    made.clock.now = time
    return made


def run_trial(deadline: Deadline, time: Time, took: float, *, begun: float | None = None) -> int:
    """A trial of so many seconds that scores as many."""
    asked = deadline.search.ask()
    assert asked
    number, params = asked
    keys = deadline.plan.keys(params)
    if begun is not None:  # an earlier driver trained it for so long
        workspace = deadline.store.workspace(keys.denoiser.name)
        workspace.mkdir(parents=True)
        write_json(workspace / COST, {"seconds": begun})
    deadline.begin(number, keys)
    time.seconds += took
    deadline.search.tell(number, [Point(params, {"gen/kid": took, "gen/steps_mean": 9.0})], {"keys": keys.names()})
    deadline.end(number, complete=True)
    return number


def test_the_schedule_changes_the_recipe_and_not_the_name_which_only_the_seconds_do() -> None:
    planned = ASKED.scheduled(SCHEDULE)
    assert planned.recipe.diffusion.steps == 300
    assert planned.name == dataclasses.replace(ASKED, schedule=Schedule(1000.0)).name
    other = ASKED.scheduled(dataclasses.replace(SCHEDULE, sizes={"diffusion.steps": 200}, trials=9))
    assert other.name == planned.name
    assert len({ASKED.name, planned.name, dataclasses.replace(ASKED, schedule=Schedule(999.0)).name}) == 3
    set_by_hand = dataclasses.replace(ASKED, recipe=ASKED.recipe.replace(**{"diffusion.dropout": 0.3}))
    assert dataclasses.replace(set_by_hand, schedule=Schedule(1000.0)).name != planned.name


def test_the_same_command_goes_on_with_the_schedule_of_its_first_start(tmp_path: Path, deadline: Deadline) -> None:
    home = Home(tmp_path / "runs")
    assert kept_plan(home, ASKED, 1000.0) == deadline.plan == SweepPlan.read(deadline.folder)
    assert kept_plan(home, ASKED, 999.0) is None


def test_the_seconds_that_the_driver_ran_are_kept_for_its_next_run(deadline: Deadline, time: Time) -> None:
    run_trial(deadline, time, 60)
    assert spent_seconds(deadline.folder) == 60
    again = Deadline(deadline.plan, SCHEDULE, deadline.search, deadline.store, deadline.folder, 1, 5000.0)
    again.clock.now = lambda: 5010.0
    assert again.clock.spent == 70


def test_a_trial_that_goes_on_where_it_was_interrupted_tells_nothing_of_the_time_of_others(
    deadline: Deadline, time: Time
) -> None:
    run_trial(deadline, time, 5, begun=55.0)
    assert deadline.clock.trials == []
    run_trial(deadline, time, 60)
    assert deadline.clock.trials == [60]


def test_a_trial_that_continues_a_pruned_one_tells_nothing_either_where_other_machines_train(
    deadline: Deadline, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline.search, "pruned_before", lambda trial: trial)
    run_trial(deadline, time, 5)
    assert deadline.clock.trials == []


def test_a_trial_that_waits_for_its_autoencoder_takes_the_time_of_both(deadline: Deadline, time: Time) -> None:
    asked = deadline.search.ask()
    assert asked
    number, params = asked
    deadline.expect(number, deadline.plan.keys(params))
    assert deadline.clock.running == {number: 20}, "its autoencoder takes 20 seconds"
    time.seconds = 26
    deadline.begin(number, deadline.plan.keys(params))
    assert deadline.clock.running == {number: 26}


def test_trials_end_where_the_space_or_the_time_does_or_the_confirmation_begins(
    deadline: Deadline, time: Time
) -> None:
    assert deadline.another()
    assert not deadline.undecided, "nothing is measured yet"
    run_trial(deadline, time, 50)
    assert deadline.undecided
    time.seconds = 900
    assert not deadline.another()
    time.seconds = 100
    assert deadline.another()
    wanted = confirmation.wanted(deadline.search, deadline.plan, Extent(1, 1))
    confirmation.begin(deadline.search, wanted.finalists, wanted.seeds)
    assert not deadline.another()
    assert not deadline.undecided


def test_a_trial_counts_with_an_autoencoder_until_all_of_the_space_are_trained(
    deadline: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, first, second = [], *(deadline.plan.keys({"vae.latent_channels": value}).vae for value in (4, 8))

    def another(*, without_autoencoder: bool) -> bool:
        asked.append(without_autoencoder)
        return True

    monkeypatch.setattr(deadline.clock, "another", another)
    for key in (first, second):
        assert deadline.another()
        deadline.store.obtain(key, lambda _: {})
    assert deadline.another()
    assert asked == [True, True, False]


def test_a_space_that_is_exhausted_has_no_more_trials(deadline: Deadline, time: Time) -> None:
    for _ in range(6):
        run_trial(deadline, time, 1)
    assert not deadline.another()


def test_the_confirmation_has_the_extent_that_the_time_holds_and_grows_when_more_is_left(
    deadline: Deadline, time: Time
) -> None:
    for took in (50, 51, 52):
        run_trial(deadline, time, took)
    time.seconds = 850
    found = deadline.next_extent()
    assert (found.configurations, found.seeds) == (2, 1)
    wanted = confirmation.wanted(deadline.search, deadline.plan, found)
    confirmation.begin(deadline.search, wanted.finalists, wanted.seeds)
    for run in wanted.missing:
        confirmation.note(deadline.search, run, 20.0)
    time.seconds = 995
    assert deadline.next_extent() == found, "nothing more fits"
    time.seconds = 600
    more = deadline.next_extent()
    assert more.configurations == 2
    assert more.seeds > 1


def test_the_report_says_what_the_hours_became(tmp_path: Path, deadline: Deadline, time: Time) -> None:
    run_trial(deadline, time, 130)
    source = Source(Home(tmp_path / "runs"), deadline.folder, deadline.plan, deadline.search, deadline.store)
    assert schedule_words(source) == (
        "The search was given 17 min. By the time that steps took on this machine it planned 6 trials, and 2 × 1 "
        "fresh trainings, and set diffusion.steps = 300, vae.max_steps = 400. It ran for 2 min: 1 trial."
    )
    assert schedule_words(dataclasses.replace(source, plan=ASKED)) == ""


def test_hours_are_seconds_to_the_thousandth_and_exclude_what_they_plan() -> None:
    assert checked_seconds(7 / 60, None, None) == 420
    for hours, trials, confirm in ((0, None, None), (float("inf"), None, None), (1, 5, None), (1, None, 0)):
        with pytest.raises(ConfigError):
            checked_seconds(hours, trials, confirm)
