"""Fractions of a card, with a card that Ray only believes in: how many trials run at once, and what comes back."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import cloudpickle

from latentsweep.execution.cluster import ENVIRONMENT, REPLACEMENTS, run_under_train
from latentsweep.execution.ray_folder import RayFolder
from latentsweep.execution.tuning import RETRIES, StudySearcher, TrialListener, run_trials
from latentsweep.search.choice import SearchConfig
from latentsweep.search.study import Search
from trainables.errors import LatentsweepError
from trainables.space import Choice, SearchSpace

pytestmark = [pytest.mark.ray, pytest.mark.slow]

CPUS, SHARE, AT_ONCE, TRIALS = 8, 0.25, 4, 12
PRUNED, FAILED, KILLED = 3, 4, 5
"""The trials that end so; the rest complete."""

SPACE = SearchSpace({"diffusion.steps": Choice(tuple(range(1, 101)))}, recipe="smoke")
OTHER = """
import sys, ray
ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, object_store_memory=100 * 2**20,
         log_to_driver=False, _temp_dir=sys.argv[1])
print("up", flush=True)
sys.stdin.read()
"""


OURS, THEIRS = pytest.param(False, id="ours"), pytest.param(True, id="theirs")
"""The Ray that a job starts, which has no dashboard, and one that somebody else has started, which has one."""
ours, theirs, either = (
    pytest.mark.parametrize("card", rays, indirect=True) for rays in ([OURS], [THEIRS], [OURS, THEIRS])
)


@pytest.fixture(scope="module")
def card(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ray with eight cores and one card, beside another Ray on the same host."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with tempfile.TemporaryDirectory(prefix="r-", dir="/tmp") as name, pytest.MonkeyPatch.context() as monkey:
        monkey.delenv("CUDA_VISIBLE_DEVICES")  # beside which Ray wouldn't believe in a card
        other = subprocess.Popen(
            [sys.executable, "-c", OTHER, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout
        assert other.stdout.readline().strip() == "up"
        folder = RayFolder.take()
        with folder.token():  # of which a process has one: another test may have started Ray in this one
            ray.init(
                address="local",
                num_cpus=CPUS,
                num_gpus=1,
                include_dashboard=request.param,
                object_store_memory=100 * 2**20,
                log_to_driver=False,
                _temp_dir=str(folder.temporary),
            )
            cloudpickle.register_pickle_by_value(sys.modules[__name__])
            try:
                yield
            finally:
                cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
                ray.shutdown()
                folder.remove()
                other.communicate("")


def all_back(seconds: float = 10) -> bool:
    """Whether Ray has its card and cores again within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        free = ray.available_resources()
        if free.get("GPU") == 1 and free.get("CPU") == CPUS:
            return True
        time.sleep(0.1)
    return False


class Nobody(TrialListener):
    """Watches, and says nothing."""

    def wanted(self) -> bool:
        return True

    def lost(self, number: int, error: str) -> tuple[str, str]:
        return error.splitlines()[-1], error


class Prunes(Search):
    """Gives one trial up at its first rung."""

    def report(self, number: int, step: int, metrics: Mapping[str, float]) -> bool:
        if number == PRUNED:
            self._annotate(number, {"pruned_at": step})
        return number == PRUNED


def work(config: Mapping[str, Any], brief: str) -> None:
    """Notes when it began and when it ended, and ends as its number wants; the first four wait for each other."""
    number, place = config["number"], Path(brief)
    began = time.time()
    (place / f"begun-{number}").touch()
    while number < AT_ONCE and len(list(place.glob("begun-*"))) < AT_ONCE and time.time() < began + 60:
        time.sleep(0.05)
    deadline = time.time() + 1.5
    while time.time() < deadline:
        time.sleep(0.1)
        if number == PRUNED and time.time() > deadline - 1:
            from ray import tune

            tune.report({"records": [{"step": 1.0, "rung/kid": 1.0}]})
    (place / f"ended-{number}-{os.getpid()}-{began}").write_text(f"{began} {time.time()}")
    if number == FAILED:
        raise OSError("the disk is full")
    if number == KILLED:
        os._exit(1)
    from ray import tune

    tune.report({"points": [{"params": config["params"], "metrics": {"gen/kid": 1.0}}], "keys": []})


def most_at_once(folder: Path) -> int:
    spans = [tuple(map(float, path.read_text().split())) for path in folder.glob("ended-*")]
    return max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)


@ours
def test_four_quarters_run_at_once_and_never_five_and_all_comes_back(card: None, tmp_path: Path) -> None:
    (tmp_path / "spans").mkdir()
    search = Prunes(tmp_path, SPACE, SearchConfig(sampler="random", pruner="none"), seed=0)
    searcher = StudySearcher(search, TRIALS, Nobody())
    run_trials(
        work,
        searcher,
        brief=str(tmp_path / "spans"),
        threads=1,
        gpu_share=SHARE,
        concurrent=CPUS,
        folder=tmp_path / "ray",
    )
    assert all_back(), ray.available_resources()
    assert most_at_once(tmp_path / "spans") == AT_ONCE
    states = [trial.state.name for trial in search.run_trials()]
    assert (states.count("COMPLETE"), states.count("PRUNED"), states.count("FAIL")) == (TRIALS - 3, 1, 2)
    assert search.trial(PRUNED).state.name == "PRUNED"
    assert search.trial(FAILED).user_attrs["reason"].endswith("the disk is full")
    assert {search.trial(number).user_attrs["class"] for number in (FAILED, KILLED)} == {"infrastructure"}
    assert len(list((tmp_path / "spans").glob(f"ended-{KILLED}-*"))) == 1 + RETRIES


def finishes(config: dict[str, Any]) -> None:
    time.sleep(0.5)


def diverges(config: dict[str, Any]) -> None:
    raise LatentsweepError("the loss is no longer finite")


def is_killed(config: dict[str, Any]) -> None:
    os._exit(1)


def succeeds_at_the_last(config: dict[str, Any]) -> None:
    with (Path(config["folder"]) / "attempts").open("a") as file:
        file.write("x")
    if len((Path(config["folder"]) / "attempts").read_text()) <= REPLACEMENTS:
        os._exit(1)


def hangs(config: dict[str, Any]) -> None:
    (Path(config["folder"]) / f"begun-{os.getpid()}").touch()
    time.sleep(600)


def under_train(training: Any, folder: Path, workers: int) -> None:
    config = {"folder": str(folder)}
    run_under_train(
        training, config, name=training.__name__, folder=folder, workers=workers, threads=1, gpu_share=SHARE
    )


alone_and_together = pytest.mark.parametrize("workers", [1, 2])


@either
@alone_and_together
def test_a_train_run_gives_its_share_back(card: None, tmp_path: Path, workers: int) -> None:
    under_train(finishes, tmp_path, workers)
    assert all_back(), ray.available_resources()
    with pytest.raises(LatentsweepError, match="no longer finite"):
        under_train(diverges, tmp_path, workers)
    assert all_back(), ray.available_resources()


@ours
def test_a_lost_worker_is_replaced(card: None, tmp_path: Path) -> None:
    config = {"folder": str(tmp_path)}
    run_under_train(succeeds_at_the_last, config, name="", folder=tmp_path, workers=1, threads=1, gpu_share=SHARE)
    assert len((tmp_path / "attempts").read_text()) == 1 + REPLACEMENTS
    assert all_back(), ray.available_resources()


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from latentsweep.execution.cluster import cluster, run_under_train
import ray
from ray import cloudpickle
import test_packing
cloudpickle.register_pickle_by_value(test_packing)
with cluster(sys.argv[1]):
    print("up", flush=True)
    test_packing.under_train(getattr(test_packing, sys.argv[4]), Path(sys.argv[2]), int(sys.argv[5]))
"""


def drive(training: Any, folder: Path, workers: int) -> subprocess.Popen[str]:
    """A process that joins this cluster and runs a training on it."""
    address = ray.get_runtime_context().gcs_address
    words = [address, str(folder), str(Path(__file__).parent), training.__name__, str(workers)]
    command = [sys.executable, "-c", DRIVER, *words]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert driver.stdout
    assert driver.stdout.readline().strip() == "up"
    return driver


@theirs
@alone_and_together
def test_a_training_whose_workers_die_again_and_again_is_lost_and_its_share_comes_back_with_its_driver(
    card: None, tmp_path: Path, workers: int
) -> None:
    _, said = drive(is_killed, tmp_path, workers).communicate(timeout=300)
    assert "LostError: Ray Train lost the training" in said
    assert all_back(), ray.available_resources()


@theirs
@alone_and_together
def test_a_killed_driver_of_somebody_elses_cluster_leaves_no_reservation(
    card: None, tmp_path: Path, workers: int
) -> None:
    driver = drive(hangs, tmp_path, workers)
    deadline = time.monotonic() + 300
    while len(list(tmp_path.glob("begun-*"))) < workers:
        assert driver.poll() is None, "the driver has ended"
        assert time.monotonic() < deadline, "the run has not begun"
        time.sleep(0.1)
    assert ray.available_resources().get("GPU") != 1
    driver.kill()
    driver.wait()
    assert all_back(), ray.available_resources()
