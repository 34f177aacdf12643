"""The rounds of a sweep of hours: all trials end before it asks Ray Tune for more. It notes its time meanwhile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from latentsweep.execution import tuning
from latentsweep.execution.packing import Packing
from latentsweep.execution.shared_stages import Work
from latentsweep.execution.tuning import Searcher, StudySearcher
from latentsweep.execution.view import View
from latentsweep.jobs.deadline import Deadline
from latentsweep.jobs.job import Runtime
from latentsweep.jobs.sweep import Sweep, _ending
from latentsweep.jobs.sweep_listener import SweepListener
from latentsweep.records.recorder import MemoryRecorder
from latentsweep.search.choice import SearchConfig
from latentsweep.search.clock import spent_seconds
from latentsweep.search.plan import SweepPlan
from latentsweep.search.schedule import Parts, Schedule
from latentsweep.search.trials import Point
from latentsweep.storage.entries import StageKey
from latentsweep.storage.home import Home
from trainables.errors import DiskError, StoreError, UnfinishedError
from trainables.measures.weights import InceptionWeights
from trainables.recipes import SMOKE
from trainables.space import Choice, Range, SearchSpace

SPACE = SearchSpace({"vae.latent_channels": Choice((4, 8)), "diffusion.learning_rate": Range(1e-4, 1e-3)})
SCHEDULE = Schedule(1000.0, trials=6, configurations=1, seeds=1, autoencoders=2, parts=Parts(1.0, 1.0, 5.0, 5.0))
MOST_ROUNDS = 5
DIVERGED = {"reason": "the loss is no longer finite", "class": "divergence", "log": "step 3"}

Round = Callable[[StudySearcher], None]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Of hours of which nearly all are left."""
    plan = SweepPlan("scans", "f" * 64, "smoke", SMOKE, SPACE, SearchConfig(sampler="random"), 0, "a" * 64)
    plan = plan.scheduled(SCHEDULE)
    made = Sweep(Home(tmp_path / "runs"), plan, InceptionWeights(Path("none"), "a" * 64), MemoryRecorder())
    monkeypatch.setattr(Sweep, "brief", lambda *_, **__: None)
    monkeypatch.setattr(Sweep, "check_dataset", lambda _: None)
    made.deadline = Deadline(plan, SCHEDULE, made.search, made.store, made.folder, 1, time.monotonic())
    return made


def rounds(sweep: Sweep, monkeypatch: pytest.MonkeyPatch, one: Round) -> int:
    """How often the sweep gave its trials to Tune, which does ``one`` each time; at most :data:`MOST_ROUNDS`."""
    done = 0

    def run_trials(_: object, searcher: StudySearcher, **__: object) -> None:
        nonlocal done
        done += 1
        if done < MOST_ROUNDS:
            one(searcher)

    monkeypatch.setattr(tuning, "run_trials", run_trials)
    packing = Packing(concurrent=1, threads=1, gpu_share=0.0, vae_share=0.0)
    sweep._trials(View(Console(quiet=True), "a sweep", 6), 6, packing)
    return done


def score(searcher: StudySearcher) -> None:
    asked = searcher.search.ask()
    assert asked
    searcher.search.tell(asked[0], [Point(asked[1], {"gen/kid": 1.0, "gen/steps_mean": 9.0})], {})


def test_while_time_is_left_another_round_begins_when_all_trials_have_ended(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rounds(sweep, monkeypatch, score) == MOST_ROUNDS, "the last round ends no trial"


def test_another_round_begins_after_one_in_which_a_pruned_trial_was_only_continued(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned, _ = sweep.search.ask() or (0, {})
    sweep.search.prune(pruned, {"pruned_at": 1})

    def go_on(searcher: StudySearcher) -> None:
        if not sweep.search.thawed():
            sweep.search._go_on_with(sweep.search.trial(pruned))
            score(searcher)

    assert rounds(sweep, monkeypatch, go_on) == 2, "the second ends no trial"


def test_ctrl_c_which_leaves_a_trial_running_ends_the_rounds(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(searcher: StudySearcher) -> None:
        score(searcher)
        searcher.search.ask()

    assert rounds(sweep, monkeypatch, stopped) == 1
    assert sweep._unfinished(6), "the sweep says that it was stopped"


def test_a_sweep_whose_autoencoders_all_fail_ends_and_says_why(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    def diverge(_: object, searcher: StudySearcher, **__: object) -> None:
        ended.append(searcher)
        for number in map(str, range(100)):
            config: Any = searcher.suggest(number)
            if config == Searcher.FINISHED:
                return
            if config:
                assert "stages" in config, "no trial begins"
                searcher.on_trial_complete(number, DIVERGED)
        raise AssertionError("it asks for ever")

    monkeypatch.setattr(tuning, "run_trials", diverge)
    monkeypatch.setattr("latentsweep.jobs.sweep.targets.lint_plan", lambda *_: [])
    runtime = Runtime(Packing(1, 1, 0.0, 0.0), Console(quiet=True), joined=True)
    with pytest.raises(
        UnfinishedError, match=r"with 8 of .* share failed each time, at last with: .* no longer finite"
    ):
        sweep.run(6, runtime)
    assert len(ended) == 1


def test_the_time_is_noted_while_trials_and_works_report_but_not_at_each_report(sweep: Sweep) -> None:
    deadline, listener = sweep.deadline, SweepListener(sweep, View(Console(quiet=True), "a sweep", 6))
    assert deadline
    seconds, noted = 0.0, []
    deadline.clock.began, deadline.clock.now = 0.0, lambda: seconds
    work = Work("autoencoder", (StageKey("vae", 1, {}),), {})
    for seconds in (4.0, 9.0, 13.0, 15.0, 21.0, 24.0):
        if int(seconds) % 2:
            listener.heard(0, {})
        else:
            listener.work_heard(work, {})
        noted.append(spent_seconds(sweep.folder))
    assert noted == [0, 0, 13, 13, 13, 24]


@pytest.mark.parametrize("fails", [False, True])
def test_a_full_disk_ends_the_rounds_with_its_own_line(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    def fill(searcher: StudySearcher) -> None:
        score(searcher)
        searcher.no_disk = "No space left on device; make room there"
        if fails:
            raise RuntimeError("Tune: the study can't be written")

    with pytest.raises(DiskError, match=r"^the sweep was stopped with 1 ended trial: No space left on device; make"):
        rounds(sweep, monkeypatch, fill)


def test_what_cannot_be_written_at_the_end_hides_no_full_disk_and_nothing_else() -> None:
    def close() -> None:
        raise StoreError("study.db must be there")

    def end(first: Exception) -> None:
        with contextlib.ExitStack() as ending:
            ending.push(_ending(close))
            raise first

    with pytest.raises(DiskError):
        end(DiskError("full"))
    with pytest.raises(StoreError, match=r"study\.db must be there"):
        end(UnfinishedError("lost"))
