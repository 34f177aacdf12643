"""A sweep, study, training or model stays with the dataset that it began with; nothing mixes it with another."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import old_home
import pytest
from small_dataset import brief_on, plant
from typer.testing import CliRunner

from latentsweep.commands.app import app
from latentsweep.configuration import Configuration, read_configuration
from latentsweep.datasets import holds
from latentsweep.datasets.preparation import prepare
from latentsweep.datasets.slices import open_dataset
from latentsweep.execution.view import View
from latentsweep.jobs.job import Job
from latentsweep.jobs.sweep import Sweep
from latentsweep.jobs.sweep_listener import SweepListener
from latentsweep.jobs.train import Retraining
from latentsweep.jobs.trained import evaluated_run
from latentsweep.lints import configuration_lints
from latentsweep.lints.targets import lint_target
from latentsweep.metrics import KID
from latentsweep.search.choice import SearchConfig
from latentsweep.search.plan import SweepPlan
from latentsweep.search.study import Search
from latentsweep.storage.home import Home, write_json
from latentsweep.storage.store import Store
from trainables.errors import INFRASTRUCTURE, ChangedDataError, DataError
from trainables.measures.weights import find_weights
from trainables.recipes import SMOKE
from trainables.space import Choice, SearchSpace

SPACE = SearchSpace({"diffusion.frequency_weight": Choice((0.0, 0.1, 0.3))})
OTHER = "tiny whose slices have the fingerprint of tiny…, and tiny now has other sl…; prepare it as it was, with"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "runs")


def put_another(home: Home) -> None:
    """Puts other slices in the place of the dataset ``tiny``."""
    plant(home, first=100, fingerprint="other slices")


def job_on(home: Home, dataset: str = "tiny", fingerprint: str = "of tiny") -> Job:
    return Job(home, home.trained / "one", dataset, fingerprint, find_weights())


@pytest.mark.parametrize("store", ["", "shared"])
def test_a_worker_refuses_other_slices_than_its_job_began_with(home: Home, tmp_path: Path, store: str) -> None:
    brief = brief_on(dataclasses.replace(home, location=str(tmp_path / store) if store else ""))
    put_another(home)
    if store:
        assert brief.pipeline().dataset.load("train").images.max() < 100, "the store has the slices of the beginning"
        return
    with pytest.raises(ChangedDataError, match=OTHER):
        brief.pipeline()


def test_slices_are_not_published_under_the_fingerprint_of_others(home: Home, tmp_path: Path) -> None:
    shared = dataclasses.replace(home, location=str(tmp_path / "shared"))
    brief = brief_on(shared)
    put_another(home)
    [published] = Store.of(shared).entries()
    Store.of(shared).remove(published.name)
    with pytest.raises(ChangedDataError, match="prepare it as it was"):
        type(brief).of(shared, Store.of(shared), "tiny", find_weights(), brief.identity, brief.execution)
    assert Store.of(shared).entries() == []


def test_a_dataset_that_is_replaced_between_opening_and_reading_is_refused(home: Home) -> None:
    opened = plant(home)
    assert opened.load("train").images.max() < 100
    put_another(home)
    with pytest.raises(ChangedDataError, match="tiny was prepared anew meanwhile; run the same command again"):
        opened.load("train")
    with pytest.raises(ChangedDataError, match="prepared anew meanwhile"):
        list(opened.shards())


def test_what_is_lost_to_another_dataset_is_tried_again_once_the_first_is_back(home: Home) -> None:
    assert ChangedDataError.kind == INFRASTRUCTURE, "unlike other faults of data, which no second try mends"
    plant(home)
    put_another(home)
    with pytest.raises(ChangedDataError), job_on(home).locked():
        pytest.fail("a job begins on other slices than it was made for")
    plant(home)
    with job_on(home).locked():
        pass


def test_a_sweep_asks_for_no_trial_once_its_dataset_is_another(home: Home) -> None:
    from latentsweep.execution.tuning import Searcher, StudySearcher

    plant(home)
    plan = SimpleNamespace(search=SearchConfig(objectives=(KID.objective,)))
    sweep = SimpleNamespace(plan=plan, check_dataset=job_on(home).check_dataset)
    listener = SweepListener(cast("Sweep", sweep), cast("View", None))
    asked: Any = SimpleNamespace(ask=lambda target: pytest.fail("it asked"))
    assert listener.wanted()
    put_another(home)
    assert StudySearcher(asked, 2, listener).suggest("one") == Searcher.FINISHED


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    old_home.draw_slices(tmp_path / "pngs")
    return tmp_path / "pngs"


def test_a_dataset_is_not_replaced_while_a_job_uses_it(home: Home, scans: Path) -> None:
    made = prepare("shapes", home=home.root, source=scans, size=32, jobs=1)
    words = ["data", "prepare", "shapes", "--source", str(scans), "--size", "16", "--jobs", "1", "--replace"]
    with job_on(home, "shapes", made.fingerprint).locked():
        done = CliRunner().invoke(app, [*words, "--home", str(home.root)])
        assert done.exit_code == 2
        assert done.stderr.strip().splitlines()[-1] == (
            "error: a dataset must not be replaced while a sweep, study or training uses it, and one uses shapes; "
            "wait for that to end, or choose another name"
        )
        assert prepare("shapes", home=home.root, source=scans, size=32, jobs=1) == made, (
            "the same again disturbs none"
        )
    assert CliRunner().invoke(app, [*words, "--home", str(home.root)]).exit_code == 0
    assert open_dataset(home.datasets, "shapes").size == 16


def test_no_job_begins_on_a_dataset_that_is_being_replaced(home: Home) -> None:
    plant(home)
    with (
        holds.replace(home.datasets, "tiny"),
        pytest.raises(DataError, match="tiny is; wait for that to end"),
        job_on(home).locked(),
    ):
        pytest.fail("it began")


def test_many_jobs_use_one_dataset_and_a_killed_one_lets_it_go(home: Home) -> None:
    plant(home)
    code = (
        "import sys, time, pathlib; from latentsweep.datasets import holds\n"
        "with holds.use(pathlib.Path(sys.argv[1]), 'tiny'): print('held', flush=True); time.sleep(60)"
    )
    held = subprocess.Popen([sys.executable, "-c", code, str(home.datasets)], stdout=subprocess.PIPE)
    assert held.stdout is not None
    assert held.stdout.readline() == b"held\n"
    with holds.use(home.datasets, "tiny"):
        pass
    with pytest.raises(DataError, match="one uses tiny"), holds.replace(home.datasets, "tiny"):
        pytest.fail("it was replaced")
    held.send_signal(signal.SIGKILL)
    held.wait()
    held.stdout.close()
    with holds.replace(home.datasets, "tiny"):
        pass


FOUND = {"sweep": "tiny-smoke-1a2b3c4d", "trial": 0, "dataset_fingerprint": "of tiny"}


def test_a_configuration_knows_the_dataset_that_it_was_found_or_trained_on(tmp_path: Path) -> None:
    found = Configuration("tiny", 0, SMOKE, origin=FOUND)
    assert found.fingerprint == "of tiny"
    assert dataclasses.replace(found, dataset="another").fingerprint == "", "whoever names another wants another"
    assert dataclasses.replace(found, dataset="tiny-smoke").fingerprint == ""
    assert Configuration("tiny", 0, SMOKE).fingerprint == ""
    trained = dataclasses.replace(found, trained_on="later slices")
    trained.write(tmp_path / "config.yaml")
    assert read_configuration(tmp_path / "config.yaml").fingerprint == "later slices"


@pytest.mark.parametrize("known", [{"origin": FOUND}, {"trained_on": "of tiny"}])
def test_neither_training_nor_measuring_nor_linting_takes_other_slices_for_those_of_a_configuration(
    home: Home, tmp_path: Path, known: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    plant(home)
    configuration = Configuration("tiny", 0, SMOKE, **known)
    configuration.write(tmp_path / "best.yaml")
    assert Retraining(home, configuration, open_dataset(home.datasets, "tiny"), find_weights()).fingerprint
    put_another(home)
    with pytest.raises(ChangedDataError, match=OTHER):
        Retraining(home, configuration, open_dataset(home.datasets, "tiny"), find_weights())
    with pytest.raises(ChangedDataError, match=OTHER):
        evaluated_run(
            home, str(tmp_path / "best.yaml"), lambda name: open_dataset(home.datasets, name), find_weights(), "test"
        )
    found = lint_target(home, str(tmp_path / "best.yaml"))
    [said] = [record.message for record in caplog.records]
    assert said.startswith("the slices of this configuration are not looked at: ")
    assert OTHER in said
    assert [finding for findings in found.values() for finding in findings] == configuration_lints(SMOKE)


def test_lint_says_the_same_of_a_sweep_and_of_its_best_once_their_dataset_is_another(
    home: Home, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = plant(home)
    plan = SweepPlan("tiny", dataset.fingerprint, "smoke", SMOKE, SPACE, SearchConfig(), 0, "a" * 64)
    folder = home.writable(home.sweeps / plan.name)
    write_json(folder / "sweep.json", plan.to_plain())
    Search(folder, plan.space, plan.search, plan.seed)
    configuration = Configuration("tiny", 0, SMOKE, origin={**FOUND, "sweep": plan.name})
    configuration.write(tmp_path / "best.yaml")
    put_another(home)
    found = [lint_target(home, target) for target in (plan.name, str(tmp_path / "best.yaml"))]
    said = [record.message.partition("not looked at: ")[2] for record in caplog.records]
    assert said[0]
    assert said[0] == said[1]
    assert len(said) == 2
    assert [[*findings.values()] for findings in found] == [[configuration_lints(SMOKE)]] * 2
