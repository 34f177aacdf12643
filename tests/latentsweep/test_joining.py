"""Joining a Ray cluster: packed by what it has, and one line where it isn't there."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from command_line import cli
from small_dataset import plant

from latentsweep.execution import cluster
from latentsweep.execution.cluster import pack_job
from latentsweep.storage.home import Home
from trainables.loop.settings import Execution
from trainables.recipes import recipe_named

SMOKE = recipe_named("smoke")


def test_no_trial_gets_more_threads_than_the_smallest_node_has(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [{"CPU": 16.0, "GPU": 0.0}, {"CPU": 4.0, "GPU": 0.0}, {"CPU": 12.0, "GPU": 0.0}]
    monkeypatch.setattr(cluster, "nodes", lambda address: found)
    alone = pack_job(SMOKE, "10.0.0.1:6379", Execution(), concurrent=1)
    assert (alone.concurrent, alone.threads, alone.gpu_share) == (1, 4, 0.0)
    assert pack_job(SMOKE, "10.0.0.1:6379", Execution(), concurrent=16).threads == 2


def test_cards_that_only_the_nodes_have_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "nodes", lambda address: [{"CPU": 8.0, "GPU": 2.0}] * 2)
    pack = pack_job(SMOKE, "10.0.0.1:6379", Execution(), concurrent=8)
    assert pack.concurrent == 8
    assert 0 < pack.gpu_share <= 0.5, "two trials share each of the four cards"


def test_on_this_machine_nothing_is_asked_of_ray() -> None:
    assert pack_job(SMOKE, "local", Execution(), concurrent=1).concurrent == 1


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_one_line_at_once(tmp_path: Path) -> None:
    plant(Home(tmp_path / "runs"))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        began = time.monotonic()
        words = ("sweep", "--dataset", "tiny", "--recipe", "smoke", "--trials", 1, "--ray-address", address)
        done = cli(tmp_path / "runs", *words, code=2)
    assert time.monotonic() - began < 60
    assert done.stderr.splitlines()[-1].startswith(f"error: --ray-address must name a running cluster, and {address}")
