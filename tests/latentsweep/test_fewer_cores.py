"""A home that was begun with more cores than there are now: everything goes on, and says what that costs."""

from __future__ import annotations

import io
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from small_dataset import plant

from latentsweep.configuration import Configuration
from latentsweep.datasets import scans
from latentsweep.execution import cluster, packing
from latentsweep.execution.packing import Packing
from latentsweep.jobs import trained
from latentsweep.jobs.job import Runtime
from latentsweep.jobs.train import Retraining
from latentsweep.search.plan import threads_of, threads_words
from latentsweep.storage.home import Home, read_json
from trainables.errors import ConfigError
from trainables.loop.execution import fewer_threads
from trainables.loop.settings import Execution
from trainables.measures.weights import find_weights
from trainables.recipes import SMOKE


def runtime(threads: int, cores: int) -> Runtime:
    return Runtime(Packing(1, threads, 0.0, 0.0, cores=cores), Console(file=io.StringIO()))


def said(by: Runtime) -> str:
    assert isinstance(by.console.file, io.StringIO)
    return by.console.file.getvalue()


@pytest.fixture
def retraining(tmp_path: Path) -> Retraining:
    home = Home(tmp_path / "runs")
    return Retraining(home, Configuration("tiny", 0, SMOKE, Execution(threads=16)), plant(home), find_weights())


def test_a_home_begun_on_16_threads_goes_on_with_2_and_one_line_says_that_bits_may_differ(
    retraining: Retraining,
) -> None:
    large, small = runtime(16, 16), runtime(2, 2)
    assert retraining.keep_threads(large, "sweep.json", {}).packing.threads == 16
    assert said(large) == ""
    assert retraining.keep_threads(small, "sweep.json", {}).packing.threads == 2
    assert said(small).startswith(f"note: {fewer_threads(16, 2)}\n")
    assert "not bit for bit" in said(small)


def test_the_fewer_threads_are_on_record_and_the_first_come_back_with_the_cores(retraining: Retraining) -> None:
    for cores in (16, 2, 16, 2):
        retraining.keep_threads(runtime(cores, cores), "sweep.json", {"seed": 0})
    assert read_json(retraining.folder / "sweep.json", None) == {"seed": 0, "threads": 16, "fewer_threads": [2]}
    assert (threads_of(retraining.folder), threads_words(retraining.folder)) == (16, "16, and later 2")
    assert retraining.keep_threads(runtime(16, 16), "sweep.json", {}).packing.threads == 16


def test_a_configuration_with_more_threads_than_cores_is_trained_and_asked_with_fewer(
    retraining: Retraining, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: dict[str, Any] = {}

    def started(address: str, **options: Any) -> Any:
        raise ConfigError("it began")

    monkeypatch.setattr("latentsweep.jobs.job.cluster", started)
    monkeypatch.setattr(retraining, "brief", lambda packing, *rest: asked.update(threads=packing.threads))
    small = runtime(2, 2)
    with pytest.raises(ConfigError, match="it began"):
        retraining.run(small)
    assert asked == {"threads": 2}
    assert said(small).startswith(f"note: {fewer_threads(16, 2)}\n")
    monkeypatch.setattr(trained, "cores", lambda: 2)
    assert trained._execution_here(retraining.configuration, None).threads == 2
    assert caplog.messages == [fewer_threads(16, 2)]


def test_threads_have_an_upper_bound() -> None:
    with pytest.raises(ConfigError, match=r"Execution\.threads must be at most 1024, got 100000"):
        Execution(threads=100_000)


def test_a_packing_knows_the_most_threads_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "cores", lambda: 3)
    pack = packing.pack_trials(SMOKE, concurrent=2, card_gib=None, present=[])
    assert (pack.concurrent, pack.threads, pack.cores) == (2, 1, 3)
    monkeypatch.setattr(cluster, "nodes", lambda address: [{"CPU": 16.0, "GPU": 0.0}, {"CPU": 4.0, "GPU": 0.0}])
    assert cluster.pack_job(SMOKE, "10.0.0.1:6379", Execution(), concurrent=1).cores == 4


def test_ray_is_told_the_cores_that_everybody_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray, told = pytest.importorskip("ray"), {}
    monkeypatch.setattr(ray, "init", lambda **options: told.update(options))
    monkeypatch.setattr(cluster, "cores", lambda: 5)
    cluster._start(tmp_path, None, 0)
    assert told["num_cpus"] == 5
    cluster._start(tmp_path, 1, 0)
    assert told["num_cpus"] == 1


def test_scans_are_read_by_as_many_processes_as_cores_and_memory_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    most = multiprocessing.get_context("spawn").cpu_count()
    monkeypatch.setattr(scans, "memory", lambda: 1)
    assert scans._workers_in_memory() == 1
    monkeypatch.setattr(scans, "memory", lambda: 2**50)
    assert scans._workers_in_memory() > most
