"""The clock of a sweep that was given hours, on a clock that the tests move: what begins, and when it ends."""

from __future__ import annotations

import heapq

import pytest

from latentsweep.search.clock import CLOSING, Clock
from latentsweep.search.schedule import Parts, Schedule


class Time:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def schedule(seconds: float, *, trial: float = 50.0, configurations: int = 3, seeds: int = 2) -> Schedule:
    parts = Parts(reference=10.0, autoencoder=20.0, trial=trial, fresh=trial)
    return Schedule(seconds, trials=10, configurations=configurations, seeds=seeds, autoencoders=2, parts=parts)


def needs(configurations: int, seeds: int) -> tuple[int, int]:
    """All is still to be trained."""
    return seeds * min(configurations, 2), seeds * configurations


def search(clock: Clock, time: Time, took: float) -> int:
    """Runs trials of so many seconds until the clock begins no more; returns how many there were."""
    number, ends = 0, list[tuple[float, int]]()
    while True:
        while len(clock.running) < clock.slots and clock.another():
            clock.begin(number)
            heapq.heappush(ends, (time() + took, number))
            number += 1
        if not ends:
            return number
        time.seconds, ended = heapq.heappop(ends)
        clock.end(ended, whole=True)


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("took", [30.0, 50.0, 70.0])
def test_a_sweep_whose_trials_take_other_than_planned_ends_in_time_with_its_confirmation(
    slots: int, took: float
) -> None:
    time = Time()
    clock = Clock(schedule(3600), slots, 0.0, now=time)
    assert search(clock, time, took) > 10
    configurations, seeds = clock.extent(needs)
    assert configurations == 3
    assert seeds >= 2
    time.seconds += clock.confirmation(*needs(configurations, seeds))
    assert time() + CLOSING == pytest.approx(3600, rel=0.05)
    assert clock.spent == time()


def test_no_trial_begins_that_could_not_end_before_the_confirmation_must() -> None:
    time = Time()
    clock = Clock(schedule(1000), 1, 0.0, now=time)
    needed = clock.confirmation(*needs(3, 2))
    time.seconds = 1000 - CLOSING - needed - 50
    assert clock.another()
    time.seconds += 50
    assert not clock.another()


def test_a_trial_that_may_need_an_autoencoder_begins_only_where_both_end_in_time() -> None:
    time = Time()
    clock = Clock(schedule(1000), 1, 0.0, now=time)
    time.seconds = 1000 - CLOSING - clock.confirmation(*needs(3, 2)) - clock.trial
    assert clock.another()
    assert not clock.another(without_autoencoder=True), "its autoencoder takes 20 seconds, and 15 are near enough"
    time.seconds -= clock.autoencoder
    assert clock.another(without_autoencoder=True)


def test_less_time_confirms_with_fewer_seeds_and_then_fewer_configurations_and_at_least_once() -> None:
    time, found = Time(), []
    for configurations, seeds in ((3, 2), (3, 1), (2, 1), (1, 1)):
        clock = Clock(schedule(1000), 1, 0.0, now=time)
        time.seconds = 1000 - CLOSING - clock.confirmation(*needs(configurations, seeds))
        found.append(clock.extent(needs))
    assert found == [(3, 2), (3, 1), (2, 1), (1, 1)]
    time.seconds = 5000
    assert Clock(schedule(1000), 1, 0.0, now=time).extent(needs) == (1, 1)
    assert not clock.another()


def test_time_that_is_left_after_the_confirmation_gives_more_seeds_to_the_same_configurations() -> None:
    time = Time()
    clock = Clock(schedule(1000, configurations=2, seeds=1), 1, 0.0, now=time)

    def lacking(configurations: int, seeds: int) -> tuple[int, int]:
        return max(0, seeds - 1) * 2, max(0, seeds - 1) * 2

    time.seconds = 1000 - CLOSING - clock.confirmation(4, 4)
    assert clock.extent(lacking, done=(2, 1)) == (2, 3)
    time.seconds = 1000 - CLOSING
    assert clock.extent(lacking, done=(2, 1)) == (2, 1)


@pytest.mark.parametrize(("slower", "corrected"), [(1.5, 1.5), (0.8, 0.8), (9.0, 2.0)])
def test_what_a_part_of_the_confirmation_took_corrects_what_the_next_one_may_take(
    slower: float, corrected: float
) -> None:
    time = Time()
    clock = Clock(schedule(10_000), 1, 0.0, now=time)
    before = clock.confirmation(2, 2)
    done = clock.extent(needs)
    time.seconds += slower * clock.confirmation(*needs(*done))
    clock.extent(lambda *_: (0, 0), done)
    assert clock.confirmation(2, 2) == pytest.approx(corrected * before)


def test_earlier_runs_of_the_driver_count_and_the_time_between_them_does_not() -> None:
    time = Time()
    time.seconds = 50_000.0
    clock = Clock(schedule(1000), 1, 50_000.0, before=600.0, now=time)
    time.seconds += 100
    assert clock.spent == 700
    assert clock.left == 300 - CLOSING


def test_a_pruned_trial_tells_nothing_of_what_whole_ones_take() -> None:
    time = Time()
    clock = Clock(schedule(1000), 1, 0.0, now=time)
    clock.begin(0)
    time.seconds = 5
    clock.end(0, whole=False)
    assert clock.trial == 50
    clock.begin(1)
    time.seconds = 75
    clock.end(1, whole=True)
    assert clock.trial == 70


def test_the_first_trials_which_start_workers_tell_nothing_once_there_are_others() -> None:
    clock = Clock(schedule(1000), 2, 0.0, now=Time(), trials=[90.0, 80.0])
    assert clock.trial == 85
    clock.trials.append(50.0)
    assert clock.trial == 50


def test_two_objectives_confirm_nothing_and_their_trials_fill_the_time() -> None:
    time = Time()
    clock = Clock(schedule(1000, configurations=0, seeds=0), 2, 0.0, now=time)
    search(clock, time, 50)
    assert clock.extent(needs) == (0, 0)
    assert time() + CLOSING == pytest.approx(1000, rel=0.05)
