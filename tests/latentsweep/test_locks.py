"""Only one process drives a sweep, a study or a retraining; the second is told so in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console
from small_dataset import plant
from typer.testing import CliRunner

from latentsweep.commands.app import app
from latentsweep.configuration import Configuration
from latentsweep.execution.packing import Packing
from latentsweep.jobs.job import Runtime
from latentsweep.jobs.train import Retraining
from latentsweep.storage.home import Home, read_json
from trainables.errors import ConfigError, StoppedError
from trainables.measures.weights import find_weights
from trainables.recipes import SMOKE


def began(*_: object, **__: object) -> None:
    raise ConfigError("it began")


@pytest.fixture
def retraining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Retraining:
    """A retraining, and its configuration in ``best.yaml``; it says that it began where it would start Ray."""
    monkeypatch.setattr("latentsweep.jobs.job.cluster", began)
    home, configuration = Home(tmp_path / "runs"), Configuration("tiny", 0, SMOKE)
    configuration.write(tmp_path / "best.yaml")
    return Retraining(home, configuration, plant(home), find_weights())


def train(job: Retraining) -> str:
    root = job.home.root
    words = ["train", "--config", str(root.parent / "best.yaml"), "--home", str(root), "--device", "cpu"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2, done.output
    return done.stderr.strip()


def test_the_same_training_twice_at_a_time_is_refused_in_one_line(retraining: Retraining) -> None:
    with retraining.locked():
        said = train(retraining)
    assert said == f"error: only one process may drive {retraining.name} and another does; wait for it to end"
    assert list(retraining.folder.iterdir()) == []
    assert "it began" in train(retraining)


def test_what_locks_a_training_is_no_part_of_its_model(retraining: Retraining) -> None:
    with retraining.locked():
        assert list(retraining.folder.iterdir()) == []
        assert retraining.lock_folder.name == retraining.folder.name


def test_ctrl_c_ends_a_job_with_one_line_and_frees_its_lock(retraining: Retraining) -> None:
    with pytest.raises(StoppedError, match="the training was stopped; nothing is lost"), retraining.locked():
        raise KeyboardInterrupt
    assert "it began" in train(retraining)


def test_a_job_goes_on_with_the_threads_that_it_began_with(retraining: Retraining) -> None:
    four, two = (Runtime(Packing(1, threads, 0.0, 0.0), Console()) for threads in (4, 2))
    assert retraining.keep_threads(four, "job.json", {"seed": 0}).packing.threads == 4
    assert retraining.keep_threads(two, "job.json", {"seed": 1}).packing.threads == 4
    assert read_json(retraining.folder / "job.json", None) == {"seed": 1, "threads": 4}
