"""Pruned trials that a search goes on with: what is chosen, what is counted, and what survives a kill."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import CHILDREN, cli
from processes import Job
from simulation import plan_of
from swept import check_complete, mlflow_runs, study_of, sweep_words

from latentsweep.records.recorder import MemoryRecorder
from latentsweep.records.sweep import SweepRecord
from latentsweep.search import leaderboard
from latentsweep.search.choice import SearchConfig
from latentsweep.search.priced import Priced, Prices
from latentsweep.search.study import Search
from latentsweep.search.trials import REPLACES, Point
from latentsweep.storage.store import Store
from trainables.errors import INFRASTRUCTURE
from trainables.space import Range, SearchSpace

SPACE = SearchSpace({"diffusion.frequency_weight": Range(0.0, 0.3)})
STEPS = 100
RUNG = STEPS // 4


def opened(folder: Path, **settings: Any) -> Search:
    folder.mkdir(exist_ok=True)
    search = Search(folder, SPACE, SearchConfig(**{"sampler": "gp", "pruner": "gp", **settings}), seed=0)
    search.prices = Prices(STEPS)
    return search


def asked(search: Search) -> tuple[int, dict[str, Any]]:
    return search.ask() or pytest.fail("it has none")


def with_a_pruned_one(folder: Path, at_the_rung: float, **settings: Any) -> tuple[Search, int]:
    """A search with a trial that scored 20 at a rung and 10 at its end, and with the number of a pruned one."""
    search = opened(folder, **settings)
    number, params = asked(search)
    search.report(number, RUNG, {"rung/kid": 20.0})
    search.tell(number, [Point(params, {"gen/kid": 10.0})], {})
    pruned, _ = asked(search)
    search.report(pruned, RUNG, {"rung/kid": at_the_rung})
    search.prune(pruned, {"pruned_at": RUNG})
    return search, pruned


def states(search: Search) -> list[str]:
    return [trial.state.name for trial in search.study.trials]


def test_a_pruned_trial_goes_on_where_it_promises_most_and_stays_pruned_where_it_does_not(tmp_path: Path) -> None:
    search, pruned = with_a_pruned_one(tmp_path / "good", at_the_rung=2.0)
    number, params = asked(search)
    assert params == search.trial(pruned).params
    assert search.trial(number).user_attrs[REPLACES] == pruned
    search, pruned = with_a_pruned_one(tmp_path / "bad", at_the_rung=60.0)
    _, params = asked(search)
    assert params != search.trial(pruned).params


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_other_samplers_go_on_with_no_pruned_trial(tmp_path: Path, sampler: str) -> None:
    search, pruned = with_a_pruned_one(tmp_path / "s", at_the_rung=2.0, sampler=sampler)
    _, params = asked(search)
    assert params != search.trial(pruned).params


def test_a_configuration_that_goes_on_counts_once(tmp_path: Path) -> None:
    search, pruned = with_a_pruned_one(tmp_path / "s", at_the_rung=2.0)
    assert search.ask(target=2) is None, "both configurations are there"
    number, _ = search.ask(target=3) or (0, {})
    assert [trial.number for trial in search.run_trials()] == [0, number]
    search.tell(number, [Point(search.trial(number).params, {"gen/kid": 1.0})], {})
    assert search.leader().number == number
    assert leaderboard.counts(search) == {"complete": 2, "pruned": 0, "failed": 0, "waiting": 0, "points": 2}
    assert leaderboard.thawed(search) == f"pruned, and continued later: trial {pruned} as trial {number}"
    assert not search.lacks(2)
    assert search.ask(target=3) is not None, "a third configuration"


def test_a_trial_that_goes_on_is_not_judged_again_where_it_ended_but_at_later_rungs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, _ = with_a_pruned_one(tmp_path / "s", at_the_rung=2.0)
    number, _ = asked(search)
    monkeypatch.setattr(Priced, "can_hardly_win", lambda self, number: True)
    assert search.trial(number).intermediate_values == {RUNG: 2.0}, "the model knows it from the start"
    assert not search.report(number, RUNG, {"rung/kid": 2.0})
    assert search.report(number, 2 * RUNG, {"rung/kid": 2.0})
    search.prune(number, {})
    assert states(search) == ["COMPLETE", "PRUNED", "PRUNED"]


def test_a_trial_that_was_lost_while_it_went_on_is_not_judged_again_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, pruned = with_a_pruned_one(tmp_path / "s", at_the_rung=2.0)
    lost, _ = asked(search)
    search.fail(lost, "its worker was killed", INFRASTRUCTURE)
    search.requeue()
    number, params = asked(search)
    assert (search.thawed(), params) == ({pruned: number}, search.trial(pruned).params)
    monkeypatch.setattr(Priced, "can_hardly_win", lambda self, number: True)
    assert not search.report(number, RUNG, {"rung/kid": 2.0})
    assert search.report(number, 2 * RUNG, {"rung/kid": 2.0})


def test_a_copyist_never_goes_on(tmp_path: Path) -> None:
    search, _ = with_a_pruned_one(tmp_path / "s", at_the_rung=60.0)
    copyist, params = asked(search)
    copies = {"rung/near_copies": 0.25, "rung/near_copies_bound": 2 / 64}
    assert search.report(copyist, RUNG, {"rung/kid": 0.1, **copies})
    search.prune(copyist, {})
    _, further = asked(search)
    assert further != params


def kill_before_it_runs(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(**named: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(search.study, "ask", killed)
    with pytest.raises(KeyboardInterrupt):
        search.ask()


def kill_while_it_runs(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    search.ask()


def kill_at_its_next_rung(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    number, _ = asked(search)
    search.report(number, 2 * RUNG, {"rung/kid": 1.5})


@pytest.mark.parametrize("kill", [kill_before_it_runs, kill_while_it_runs, kill_at_its_next_rung])
def test_a_kill_while_a_trial_goes_on_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill: Callable[[Search, pytest.MonkeyPatch], None]
) -> None:
    search, pruned = with_a_pruned_one(tmp_path / "s", at_the_rung=2.0)
    kill(search, monkeypatch)
    again = opened(tmp_path / "s")
    assert again.requeue() == 1
    number, params = asked(again)
    assert (number, params) == (pruned + 1, again.trial(pruned).params)
    assert not again.report(number, RUNG, {"rung/kid": 2.0})
    again.tell(number, [Point(params, {"gen/kid": 1.0})], {})
    assert states(again) == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert again.requeue() == 0
    assert again.ended(2)


def test_the_record_of_a_pruned_trial_says_that_the_search_went_on_with_it(tmp_path: Path) -> None:
    search, pruned = with_a_pruned_one(tmp_path / "simulated", at_the_rung=2.0)
    plan, recorder = plan_of(SPACE, search.config, 0), MemoryRecorder()
    record = SweepRecord(recorder, plan, Store(tmp_path / "store"), search)
    record.begin([])
    for number in range(2):
        record.open_trial(search.trial(number))
    record.end_trial(search.trial(pruned))
    old = recorder.runs[record.trial_key(pruned)]
    assert (old.status, old.tags["pruned"]) == ("pruned", f"at step {RUNG}")
    number, _ = asked(search)
    record.open_trial(search.trial(number))
    assert (old.status, old.tags["pruned"]) == ("pruned", f"at step {RUNG}, and continued as #{number}")
    assert f"It was continued later, as [configuration {number}]" in old.text
    search.prune(number, {"pruned_at": 2 * RUNG})
    record.end_trial(search.trial(number))
    assert f"It continues [configuration {pruned}]" in recorder.runs[record.trial_key(number)].text

    afresh = MemoryRecorder()
    made_up = SweepRecord(afresh, plan, Store(tmp_path / "store"), search)
    made_up.begin([])
    made_up.missing()
    runs = [run for run in afresh.runs.values() if run.kind == "trial"]
    assert [run.status for run in runs] == ["pruned", "finished", "pruned"]
    assert afresh.runs[record.trial_key(pruned)].tags["pruned"] == old.tags["pruned"]


def test_a_record_made_anew_has_of_a_pruned_trial_only_what_came_before_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, pruned = with_a_pruned_one(tmp_path / "s", at_the_rung=2.0)
    number, params = asked(search)
    search.tell(number, [Point(params, {"gen/kid": 1.0})], {})
    record = SweepRecord(MemoryRecorder(), plan_of(SPACE, search.config, 0), Store(tmp_path / "store"), search)
    record.begin([])
    curve = [{"step": step} for step in (RUNG, 2 * RUNG, STEPS)]
    sent: dict[int, Any] = {}
    monkeypatch.setattr(record.store, "find", lambda name: "the training, which both have")
    monkeypatch.setattr("latentsweep.records.sweep.stages.records_of", lambda entry: curve)
    monkeypatch.setattr(record, "trial_records", sent.__setitem__)
    monkeypatch.setattr(record, "end_trial", lambda trial: None)
    record.missing()
    assert (sent[pruned], sent[number]) == (curve[:1], curve)


def test_a_search_by_hyperband_continues_none(tmp_path: Path) -> None:
    search, pruned = with_a_pruned_one(tmp_path / "s", at_the_rung=2.0, pruner="hyperband")
    _, params = asked(search)
    assert (search.frozen(), params != search.trial(pruned).params) == ([], True)


ONE_AUTOENCODER = """
dimensions:
  diffusion.frequency_weight: [0.0, 0.1, 0.3]
  sampling.early_stop_threshold: [0.0, 0.4]
"""

PRUNES_THE_FIRST_AND_GOES_ON = """
import spared_imports
import spared_work
import thin_network_known
from when_imported import when_imported

def change(priced):
    def can_hardly_win(self, number):
        return number == 0

    def find_to_thaw(self):
        return next((t for t in self.begun if t.state.name == "PRUNED"), None)

    priced.Priced.can_hardly_win, priced.Priced.find_to_thaw = can_hardly_win, find_to_thaw

when_imported("latentsweep.search.priced", change)
"""


def measured(home: Path, name: str) -> tuple[dict[str, Any], list[Any]]:
    """What each configuration scored, and the curves of the denoisers, without the times."""
    told = [trial for trial in study_of(home, name).trials if "metrics" in trial.user_attrs]
    metrics = {json.dumps(trial.params, sort_keys=True): dict(trial.user_attrs["metrics"]) for trial in told}
    for each in metrics.values():
        each.pop("gen/seconds_per_image")
    store = Store(home / "store")
    denoisers = [entry for entry in store.entries() if entry.manifest["stage"] == "denoiser"]
    curves = [
        [{k: v for k, v in record.items() if k != "time"} for record in e.json("records.json")] for e in denoisers
    ]
    return metrics, curves


@pytest.mark.ray
@pytest.mark.slow  # two sweeps with all their processes
def test_a_trial_that_was_pruned_gone_on_with_and_killed_scores_as_if_nothing_had_happened(
    prepared_demo: Path, tmp_path: Path
) -> None:
    calm, killed = (Path(shutil.copytree(prepared_demo, tmp_path / name / "runs")) for name in ("calm", "killed"))
    said = cli(calm, *sweep_words(calm.parent, "demo", 3, space=ONE_AUTOENCODER)).stdout
    words = sweep_words(killed.parent, "demo", 3, space=ONE_AUTOENCODER, sampler="gp", pruner="gp")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(PRUNES_THE_FIRST_AND_GOES_ON)
    path = os.pathsep.join([str(tmp_path / "site"), str(CHILDREN), os.environ.get("PYTHONPATH", "")])
    job = Job.start(killed, *words, environment={"PYTHONPATH": path})
    job.wait_to_hear("continues trial")
    job.kill("driver")
    assert job.ended() == 0, job.said
    name = next((killed / "sweeps").iterdir()).name
    assert measured(killed, name) == measured(calm, json.loads(said)["sweep"])
    check_complete(killed, "demo", name, 3, states={"COMPLETE": "FINISHED", "PRUNED": "FINISHED"}, vaes=1)
    (number,) = [trial.number for trial in study_of(killed, name).trials if trial.user_attrs.get(REPLACES) == 0]
    (pruned,) = [run for run in mlflow_runs(killed, "demo") if "pruned" in run.data.tags]
    assert pruned.data.tags["pruned"] == f"at step 30, and continued as #{number}"
