"""The lints are brought to what lies in a home: its datasets, sweeps and configurations."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from latentsweep.configuration import Configuration
from latentsweep.datasets.preparation import prepare
from latentsweep.lints import LINTS, Finding, targets
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.errors import DataError
from trainables.loop.settings import Execution
from trainables.recipes import PAPER, SMOKE, Recipe


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("home")
    prepare("demo", home=root, source=None, size=32)
    return root


@pytest.fixture
def home(demo: Path, tmp_path: Path) -> Home:
    shutil.copytree(demo, tmp_path / "runs")
    return Home(tmp_path / "runs")


def codes(found: dict[str, list[Finding]]) -> set[str]:
    return {finding.code for findings in found.values() for finding in findings}


def written(home: Home, recipe: Recipe) -> str:
    path = home.root / "chosen.yaml"
    Configuration("demo", 0, recipe, Execution(threads=1), {}).write(path)
    return str(path)


def test_the_built_in_dataset_is_clean_and_looked_at_once(home: Home) -> None:
    assert targets.lint_target(home, "demo") == targets.lint_target(home, None) == {}
    names = [entry.name for entry in Store(home.store).entries()]
    assert len(names) == 1
    assert names[0].startswith("inspection/")


def test_a_copy_under_another_name_shares_its_patients(home: Home) -> None:
    assert targets.lint_target(home, "demo") == {}
    shutil.copytree(home.datasets / "demo", home.datasets / "twin")
    assert codes(targets.lint_target(home, "demo")) == {"shared-patients"}


def test_a_damaged_neighbour_is_left_out_with_a_warning(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(home.datasets / "demo", home.datasets / "twin")
    next((home.datasets / "twin").glob("*.parquet")).write_bytes(b"torn")
    assert targets.lint_target(home, "demo") == {}
    assert "twin" in caplog.text


def test_a_configuration_that_was_never_trained_is_judged_by_itself_and_its_data(home: Home) -> None:
    assert codes(targets.lint_target(home, written(home, SMOKE))) == {"few-samples"}
    paper = codes(targets.lint_target(home, written(home, PAPER)))
    assert {"frequency-inert", "threshold-never", "subjects-across-splits"} <= paper <= set(LINTS)


def test_something_unknown_is_answered_by_what_there_is(home: Home) -> None:
    with pytest.raises(DataError, match="here are: demo"):
        targets.lint_target(home, "kagle")


def test_findings_of_many_trials_are_told_once_with_the_first_few() -> None:
    found = {f"trial {n}": [Finding("overfit", "note", "line", f"evidence {n}", "advice")] for n in range(5)}
    found["trial 4"] = [Finding("overfit", "warning", "line", "evidence 4", "advice")]
    (merged,) = targets.merge_by_code(found)
    assert merged.severity == "warning"
    assert merged.evidence == "trial 0: evidence 0; trial 1: evidence 1; trial 2: evidence 2; and 2 more"
