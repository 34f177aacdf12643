"""The record of a sweep whose driver was lost: what had ended is recorded as it ended, what had not as stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simulation import plan_of

from latentsweep.records.recorder import MemoryRecorder
from latentsweep.records.sweep import SweepRecord, is_recorded
from latentsweep.search.choice import SearchConfig
from latentsweep.search.study import Search
from latentsweep.search.trials import Point
from latentsweep.storage.store import Store
from trainables.errors import INFRASTRUCTURE
from trainables.space import Range, SearchSpace

SPACE = SearchSpace({"diffusion.frequency_weight": Range(0.0, 0.3)})


def asked(search: Search) -> tuple[int, dict[str, Any]]:
    found = search.ask()
    assert found is not None
    return found


def test_trials_whose_end_the_study_alone_has_are_recorded_as_they_ended(tmp_path: Path) -> None:
    search = Search(tmp_path, SPACE, SearchConfig(sampler="random", pruner="none"), seed=0)
    recorder = MemoryRecorder()
    record = SweepRecord(recorder, plan_of(SPACE, search.config, 0), Store(tmp_path / "store"), search)
    record.begin([])
    for number, _ in [asked(search) for _ in range(4)]:
        record.open_trial(search.trial(number))
    search.tell(0, [Point(search.trial(0).params, {"gen/kid": 10.0})], {})
    search.prune(1, {"pruned_at": 5})
    search.fail(2, "the loss is not finite", INFRASTRUCTURE)  # and here the driver is lost

    def statuses() -> list[str]:
        return [recorder.runs[record.trial_key(number)].status for number in range(4)]

    record.begin([])
    assert statuses() == ["stopped"] * 4
    assert not is_recorded(recorder, record.plan, search)
    record.missing()
    record.end(finished=False)
    assert statuses() == ["finished", "pruned", "failed", "stopped"]
    assert recorder.runs[record.trial_key(2)].tags["latentsweep.reason"] == "the loss is not finite"
