"""Configurations that wait for what they share with others: who gets a slot, when, and what a failure ends."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.experiment import Trial

from latentsweep.execution.shared_stages import Work
from latentsweep.execution.tuning import RETRIES, Searcher, StudyScheduler, StudySearcher, TrialListener
from latentsweep.search.choice import SearchConfig
from latentsweep.search.plan import SweepPlan
from latentsweep.search.study import Search
from latentsweep.stages.table import SHARED
from latentsweep.storage.entries import StageKey
from trainables.errors import INFRASTRUCTURE
from trainables.recipes import SMOKE
from trainables.space import Choice, SearchSpace

CHANNELS, WEIGHTS = (2, 4, 6, 8), (0.0, 0.1, 0.3)
SPACE = SearchSpace({"vae.latent_channels": Choice(CHANNELS), "diffusion.frequency_weight": Choice(WEIGHTS)})
DIVERGED = {"reason": "the loss is no longer finite", "class": "divergence", "log": "step 3"}


def autoencoder(channels: int) -> Work:
    return Work(f"autoencoder {channels}", (StageKey("vae", 1, {"channels": channels}),), {"channels": channels})


REAL = Work("real features", (StageKey("reference", 1, {}),), {})


class Watcher(TrialListener):
    """Notes what it is told. ``stored`` are the names of works that the store has."""

    def __init__(self, *stored: str, real: bool = False) -> None:
        self.stored, self.real = set(stored), real
        self.began: list[str] = []
        self.started_trials: list[int] = []
        self.ended_trials: list[int] = []
        self.asked_trials: list[int] = []
        self.most = 100

    def wanted(self) -> bool:
        return True

    def another(self) -> bool:
        return len(self.asked_trials) < self.most

    def asked(self, number: int, params: Mapping[str, Any]) -> None:
        self.asked_trials.append(number)

    def started(self, number: int, params: Mapping[str, Any]) -> None:
        self.started_trials.append(number)

    def ended(self, number: int) -> None:
        self.ended_trials.append(number)

    def shared(self, params: Mapping[str, Any]) -> Sequence[Work]:
        return [autoencoder(params["vae.latent_channels"]), *([REAL] if self.real else [])]

    def has(self, work: Work) -> bool:
        return work.name in self.stored

    def work_began(self, work: Work) -> None:
        self.began.append(work.label)


class Queue:
    """Asks the searcher as Tune does: for one more while fewer than ``concurrent`` are live."""

    def __init__(
        self, folder: Path, listener: Watcher, *, target: int = 6, concurrent: int = 2, wide: bool = False
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.search = Search(folder, SPACE, SearchConfig(sampler="random", pruner="none"), seed=0)
        self.searcher = StudySearcher(self.search, target, listener, wide=wide)
        self.searcher.set_max_concurrency(concurrent)
        self.listener, self.concurrent = listener, concurrent
        self.names = map(str, itertools.count())
        self.live: dict[str, dict[str, Any]] = {}
        self.finished = False

    def fill(self) -> None:
        while len(self.live) < self.concurrent and not self.finished:
            name = next(self.names)
            config: Any = self.searcher.suggest(name)
            self.finished = config == Searcher.FINISHED
            if config is None or self.finished:
                return
            self.live[name] = config

    def hear(self, name: str) -> None:
        trial: Any = SimpleNamespace(trial_id=name, config=self.live[name])
        StudyScheduler(self.searcher).on_trial_result(None, trial, {"records": []})  # type: ignore[arg-type]

    def end(self, name: str, result: Mapping[str, Any] | None = None) -> None:
        """Ends what is live under that name: well, or with ``result``."""
        config = self.live.pop(name)
        good: dict[str, Any] = {"computed": True}
        if "number" in config:
            good = {"points": [{"params": config["params"], "metrics": {"gen/kid": 1.0}}], "keys": []}
        self.searcher.on_trial_complete(name, dict(good if result is None else result))

    def lose_before_it_begins(self, name: str) -> None:
        """Ends what is live under that name as Tune does where its worker ends while it is given the trial."""
        del self.live[name]
        trial: Any = SimpleNamespace(trial_id=name, status=Trial.PENDING, get_error=lambda: None)
        StudyScheduler(self.searcher).on_trial_error(None, trial)  # type: ignore[arg-type]
        self.searcher.on_trial_complete(name, error=True)

    def run(self, order: random.Random) -> None:
        """Ends what is live in any order, until nothing is left."""
        self.fill()
        while self.live or not self.finished:
            if self.live:
                self.end(order.choice([*self.live]))
            self.fill()

    def works(self) -> dict[str, dict[str, Any]]:
        return {name: config for name, config in self.live.items() if "stages" in config}

    def states(self) -> list[str]:
        return [trial.state.name for trial in self.search.run_trials()]


def test_a_trial_that_waits_when_no_more_may_be_asked_for_still_runs(tmp_path: Path) -> None:
    queue = Queue(tmp_path, Watcher(), concurrent=1)
    queue.listener.most = 1
    queue.run(random.Random(0))
    assert queue.states() == ["COMPLETE"]
    assert queue.finished


def test_a_trial_begins_once_its_autoencoder_is_trained_and_holds_no_slot_before(tmp_path: Path) -> None:
    queue = Queue(tmp_path, Watcher(), concurrent=1)
    queue.fill()
    assert [config["stages"] for config in queue.live.values()] == [["vae"]]
    assert (queue.states(), queue.listener.started_trials) == (["RUNNING"], [])
    queue.end("0")
    queue.fill()
    (trial,) = queue.live.values()
    assert (trial["number"], queue.listener.started_trials) == (0, [0])
    assert autoencoder(trial["params"]["vae.latent_channels"]).label == queue.listener.began[0]


@pytest.mark.slow
@pytest.mark.parametrize("concurrent", [1, 2, 3, 8])
@pytest.mark.parametrize("real", [False, True])
def test_whatever_ends_first_all_trials_end_and_each_autoencoder_is_trained_once(
    tmp_path: Path, concurrent: int, real: bool
) -> None:
    queue = Queue(tmp_path, Watcher(real=real), target=8, concurrent=concurrent)
    queue.run(random.Random(concurrent))
    assert queue.finished
    assert queue.states() == ["COMPLETE"] * 8
    used = {autoencoder(trial.params["vae.latent_channels"]).label for trial in queue.search.run_trials()}
    assert sorted(queue.listener.began) == sorted([*used, *([REAL.label] if real else [])])


@pytest.mark.parametrize("of", ["a trial", "a work"])
def test_a_full_disk_fails_nothing_and_nothing_begins_after_it(tmp_path: Path, of: str) -> None:
    stored = [autoencoder(channels).name for channels in CHANNELS] if of == "a trial" else []
    queue = Queue(tmp_path, Watcher(*stored), concurrent=2)
    queue.fill()
    assert len(queue.live) == 2
    assert len(queue.works()) == (0 if stored else 2)
    queue.end("0", {"reason": "No space left on device", "class": "disk", "log": ""})
    assert queue.searcher.suggest("next") == Searcher.FINISHED  # type: ignore[comparison-overlap]
    queue.end("1", {"reason": "No space left on device", "class": "disk", "log": ""})
    assert queue.searcher.no_disk == "No space left on device"
    assert set(queue.states()) == {"RUNNING"}, "the study may lie on that disk"
    queue.search.requeue()
    assert set(queue.states()) == {"WAITING"}


def test_only_autoencoders_of_trials_are_trained(tmp_path: Path) -> None:
    queue = Queue(tmp_path, Watcher(), target=2)
    queue.run(random.Random(0))
    assert len(queue.listener.began) <= 2 < len(CHANNELS)


def test_no_more_is_proposed_ahead_than_runs_at_once(tmp_path: Path) -> None:
    queue = Queue(tmp_path, Watcher(), target=12, concurrent=3)
    for _ in range(10):
        queue.fill()
        assert len([state for state in queue.states() if state == "RUNNING"]) <= 3
        queue.end(next(iter(queue.live)))


def test_where_all_wait_tune_gets_nothing_and_the_search_is_not_over(tmp_path: Path) -> None:
    everything = Queue(tmp_path, Watcher(), target=1, concurrent=2)
    everything.fill()
    assert len(everything.live) == 1
    assert everything.searcher.suggest("later") is None
    everything.end("0")
    assert "number" in (everything.searcher.suggest("later") or {})
    assert everything.searcher.suggest("last") == Searcher.FINISHED  # type: ignore[comparison-overlap]


def test_what_the_store_has_is_not_computed(tmp_path: Path) -> None:
    stored = [autoencoder(channels).name for channels in CHANNELS]
    queue = Queue(tmp_path, Watcher(*stored), target=4)
    queue.run(random.Random(0))
    assert (queue.listener.began, queue.states()) == ([], ["COMPLETE"] * 4)


def test_an_autoencoder_that_diverges_fails_the_trials_that_need_it_and_the_others_go_on(tmp_path: Path) -> None:
    queue = Queue(tmp_path, Watcher(), target=12, concurrent=2)
    queue.fill()
    bad = queue.live["0"]["params"]["channels"]
    queue.end("0", DIVERGED)
    queue.run(random.Random(0))
    trials = queue.search.run_trials()
    failed = [trial for trial in trials if trial.params["vae.latent_channels"] == bad]
    assert [trial.state for trial in failed] == [TrialState.FAIL] * 3
    assert {trial.user_attrs["reason"] for trial in failed} == {DIVERGED["reason"]}
    assert {trial.user_attrs["class"] for trial in failed} == {"divergence"}
    assert queue.states().count("COMPLETE") == 9
    assert sorted(queue.listener.ended_trials) == list(range(12)), "the record hears of each"
    assert queue.listener.began.count(autoencoder(bad).label) == 1


def test_where_every_autoencoder_fails_no_more_trials_are_asked_for_soon(tmp_path: Path) -> None:
    queue = Queue(tmp_path, Watcher(), target=24, concurrent=1)
    for _ in range(60):
        queue.fill()
        assert len(queue.states()) <= 8
        for name in [*queue.works()]:
            queue.end(name, DIVERGED)
    assert queue.finished
    assert queue.states() == ["FAIL"] * 8
    assert DIVERGED["reason"] in queue.searcher.given_up


def test_each_call_of_tune_fails_one_trial_at_most(tmp_path: Path) -> None:
    queue = Queue(tmp_path, Watcher(), target=12, concurrent=1)
    queue.searcher.failed = {autoencoder(channels).name: DIVERGED for channels in CHANNELS}
    for count in (1, 2, 3):
        assert queue.searcher.suggest("next") is None
        assert queue.states() == ["FAIL"] * count


def test_trials_that_can_begin_go_on_however_many_others_fail_with_their_autoencoder(tmp_path: Path) -> None:
    queue = Queue(tmp_path, Watcher(autoencoder(2).name), target=12, concurrent=1)
    queue.searcher.failed = {autoencoder(channels).name: DIVERGED for channels in CHANNELS[1:]}
    queue.searcher.begun = 1
    queue.run(random.Random(0))
    assert sorted(queue.states()) == ["COMPLETE"] * 3 + ["FAIL"] * 9
    assert not queue.searcher.given_up


def test_after_an_autoencoder_was_lost_what_runs_ends_and_no_more_is_asked_for(tmp_path: Path) -> None:
    queue = Queue(tmp_path, Watcher(), target=12, concurrent=2)
    queue.fill()
    assert len(queue.live) == 2
    del queue.live["0"]
    queue.searcher.errors["0"] = "the node is gone"
    queue.searcher.on_trial_complete("0", error=True)
    queue.run(random.Random(0))
    assert sorted(queue.states()) == ["COMPLETE", "FAIL"]
    assert "the node is gone" in queue.searcher.given_up


def test_an_autoencoder_that_is_lost_again_and_again_leaves_its_trials_to_the_next_run(tmp_path: Path) -> None:
    queue = Queue(tmp_path, Watcher(), target=1)
    queue.fill()
    del queue.live["0"]
    queue.searcher.errors["0"] = "the node is gone"
    queue.searcher.on_trial_complete("0", error=True)
    (trial,) = queue.search.run_trials()
    assert (trial.user_attrs["class"], trial.user_attrs["reason"]) == (INFRASTRUCTURE, "the node is gone")
    assert Queue(tmp_path, Watcher(), target=1).search.requeue() == 1


def test_what_is_lost_before_it_begins_is_asked_for_again_and_not_for_ever(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "again", Watcher(), target=4)
    queue.fill()
    first = queue.works()["0"]
    queue.lose_before_it_begins("0")
    queue.fill()
    assert [*queue.works().values()][-1] == first, "an autoencoder"
    while not any("number" in config for config in queue.live.values()):
        queue.end(next(iter(queue.live)))
        queue.fill()
    name, config = next((name, config) for name, config in queue.live.items() if "number" in config)
    queue.lose_before_it_begins(name)
    queue.fill()
    assert config in queue.live.values(), "a trial"
    queue.run(random.Random(0))
    assert queue.states() == ["COMPLETE"] * 4

    hopeless = Queue(tmp_path / "hopeless", Watcher(), target=1)
    for _ in range(1 + RETRIES):
        hopeless.fill()
        hopeless.lose_before_it_begins(next(iter(hopeless.live)))
    hopeless.fill()
    assert (hopeless.live, hopeless.finished, hopeless.states()) == ({}, True, ["FAIL"])


def test_configurations_that_waited_when_a_sweep_was_stopped_come_first_when_it_goes_on(tmp_path: Path) -> None:
    stopped = Queue(tmp_path, Watcher(), concurrent=2)
    stopped.fill()
    for name in [*stopped.live]:
        stopped.end(name, {"records": []})
    before = [trial.params for trial in stopped.search.run_trials()]
    again = Queue(tmp_path, Watcher(*(autoencoder(channels).name for channels in CHANNELS)), concurrent=2)
    assert again.search.requeue() == len(before)
    again.fill()
    assert [config["params"] for config in again.live.values()] == before
    assert [config["number"] for config in again.live.values()] == [0, 1]


def test_no_trial_takes_the_room_that_a_wide_autoencoder_waits_for(tmp_path: Path) -> None:
    queue = Queue(tmp_path, Watcher(), target=12, concurrent=3, wide=True)
    queue.fill()
    assert len(queue.live) == 1, "Ray hasn't found room for it yet"
    queue.hear("0")
    queue.fill()
    assert len(queue.live) == 2
    queue.run(random.Random(0))
    assert queue.states() == ["COMPLETE"] * 12


def test_a_work_is_an_autoencoder_with_what_follows_or_the_real_features() -> None:
    params = {"vae.latent_channels": 4, "diffusion.frequency_weight": 0.1}
    plan = SweepPlan("tiny", "f", "smoke", SMOKE, SPACE, SearchConfig(), 0, "w")
    alone = {"vae.latent_channels": 4}
    first, second = Work.of(plan.keys(params), plan.keys(alone), alone)
    assert first.config == {
        "stages": ["vae", "latents", "reconstruction"],
        "params": {"vae.latent_channels": 4},
        "section": "vae",
    }
    assert second.config == {"stages": ["reference"], "params": {}, "section": "diffusion"}
    assert {key.stage for work in (first, second) for key in work.keys} == {
        each.name for each in SHARED if each.wanted(SMOKE)
    }
    assert (first.label, second.label) == ("autoencoder, channels 4", "real features and floor")
    assert Work.of(plan.keys({**params, "diffusion.frequency_weight": 0.3}), plan.keys(alone), alone) == [
        first,
        second,
    ]


def test_latents_that_depend_on_other_searched_values_are_a_trials_own_and_the_autoencoder_is_one_work() -> None:
    flip, alone = "diffusion.flip_probability", {"vae.latent_channels": 4}
    space = SearchSpace({**SPACE.dimensions, flip: Choice((0.0, 0.5))})
    plan = SweepPlan("tiny", "f", "smoke", SMOKE.replace(**{flip: 0.0}), space, SearchConfig(), 0, "w")
    same, other = (Work.of(plan.keys({**alone, flip: value}), plan.keys(alone), alone)[0] for value in (0.0, 0.5))
    assert same.name == other.name
    assert same.config["stages"] == ["vae", "latents", "reconstruction"]
    assert other.config["stages"] == ["vae"]
    computed = {key.name for key in plan.keys(other.config["params"]).values()}
    assert {key.name for key in other.keys} <= computed, "the worker computes the keys that the work is to have"
