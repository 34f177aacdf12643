"""What ``import latentsweep`` offers in Python: cheap to import, documented, and the same as the commands."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import typing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small_dataset import brief_on
from typer.testing import CliRunner

import latentsweep
import trainables
from latentsweep.api import searches
from latentsweep.api.models import model_folder_of
from latentsweep.api.places import texts_of
from latentsweep.commands.app import app
from latentsweep.configuration import Configuration, changes_of
from latentsweep.datasets.sources.selection import Selection
from latentsweep.stages.model_folder import read_model, write_model
from latentsweep.storage.home import Home
from trainables.errors import ConfigError, DataError
from trainables.recipes import SMOKE

RECIPE = SMOKE.replace(
    **{
        "data.image_size": 32,
        "vae.widths": (8, 16),
        "vae.max_steps": 2,
        "vae.validations": 1,
        "diffusion.widths": (8, 16),
        "diffusion.attention_levels": (),
        "diffusion.embedding_channels": 16,
        "diffusion.steps": 2,
        "diffusion.validations": 1,
        "diffusion.batch_size": 4,
        "sampling.steps": 2,
    }
)
HEAVY = ("torch", "ray", "mlflow", "optuna", "numpy", "typer", "yaml", "trainables.recipes")
SMALL = {"data.image_size": 32, "vae.widths": [8, 16], "diffusion.widths": (8, 16), "diffusion.attention_levels": []}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a small dataset, and the folder of a model of it."""
    folder = tmp_path_factory.mktemp("api")
    pipeline = brief_on(Home(folder / "runs")).pipeline(RECIPE)
    pipeline.denoiser()
    write_model(folder / "model", pipeline.store, pipeline.keys, Configuration("tiny", 0, RECIPE))
    return folder


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, latentsweep; print(len(sys.modules), *set({HEAVY}) & set(sys.modules))"
    folders = [Path(package.__file__).parents[1] for package in (latentsweep, trainables) if package.__file__]
    source = {"PYTHONPATH": os.pathsep.join(map(str, folders))}  # -S: no site, which would import packages
    done = subprocess.run([sys.executable, "-S", "-c", code], env=source, capture_output=True, text=True, check=True)
    count, *heavy = done.stdout.split()
    assert not heavy
    assert int(count) < 100


@pytest.mark.parametrize("name", latentsweep.__all__)
def test_every_function_is_typed_and_names_each_argument_in_its_documentation(name: str) -> None:
    function = getattr(latentsweep, name)
    text, shared = inspect.getdoc(function) or "", inspect.getdoc(latentsweep.sweep) or ""
    assert "Raises" in text
    hints = typing.get_type_hints(function)
    for argument in inspect.signature(function).parameters:
        assert argument in hints
        elsewhere = "other arguments are those of :func:`latentsweep.sweep`" in text and f"``{argument}``" in shared
        assert f"``{argument}``" in text or elsewhere or argument in ("home", "store", "study_storage"), argument


def test_there_is_no_other_name() -> None:
    assert {*latentsweep.__all__} <= {*dir(latentsweep)}
    with pytest.raises(AttributeError, match="no attribute 'sweeep'"):
        latentsweep.sweeep  # noqa: B018


def test_a_model_becomes_an_array_of_slices_in_three_lines(made: Path) -> None:
    model = latentsweep.load(made / "model", home=made / "runs")
    images = model.sample(3, seed=5)
    assert (images.dtype, images.shape, model.size) == (np.uint8, (3, 32, 32), 32)
    assert np.array_equal(images, read_model(made / "model").images([5, 6, 7]))
    with pytest.raises(ConfigError, match="count must be 1 or more"):
        model.sample(0)


@pytest.mark.slow
def test_the_champion_of_a_dataset_is_loaded_by_its_name(made: Path) -> None:
    from latentsweep_mlflow.registry import register_model

    home = made / "runs"
    with pytest.raises(DataError, match="or a dataset that MLflow holds the champion of; got 'tiny'"):
        latentsweep.load("tiny", home=home)
    assert not (home / "mlflow").exists(), "looking for a champion makes no database"
    told: dict[str, Any] = {"run_id": None, "score": 1.0, "objective": "kid", "comparable": "all", "masks": False}
    assert register_model(home, dataset="tiny", folder=made / "model", **told).champion
    expected = latentsweep.load(made / "model", home=home).sample(2)
    assert np.array_equal(latentsweep.load("tiny", home=home).sample(2), expected)
    (registered,) = home.glob("mlflow/artifacts/*/artifacts/model-*")
    assert np.array_equal(latentsweep.load(registered, home=home).sample(2), expected), "as MLflow lays it out"


def test_a_folder_of_scans_with_the_name_of_a_dataset_is_no_model(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(made / "runs")
    monkeypatch.chdir(tmp_path)
    Path("mine/patient1").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"there is no configuration mine/config\.yaml"):
        latentsweep.load("mine", home=home)
    champions = {"mine": made / "model"}
    monkeypatch.setattr("latentsweep_mlflow.registry.champion_folder", lambda root, name: champions.get(name))
    assert model_folder_of(home, "mine") == str(made / "model")
    assert latentsweep.load("mine", home=home).size == 32
    assert model_folder_of(home, str(made / "model")) == str(made / "model")
    Path("mine/config.yaml").touch()
    assert model_folder_of(home, "mine") == "mine", "a model's folder is meant before a dataset"


@pytest.mark.parametrize("run", ["x/1", "demo.v2", "nothing"])
def test_a_run_that_there_is_not_is_told_all_that_it_can_be(made: Path, run: str) -> None:
    words = f"a trained run is a YAML file, a model's folder, SWEEP/NUMBER .*, or a dataset .*; got '{run}'"
    with pytest.raises(DataError, match=words):
        latentsweep.load(run, home=made / "runs")
    done = CliRunner().invoke(app, ["evaluate", run, "--home", str(made / "runs")])
    assert isinstance(done.exception, DataError) or done.exit_code == 2
    assert re.search(words, str(done.exception) + done.output.replace("\n", " "))


def test_evaluate_takes_a_dataset_for_its_champion(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def evaluated(home: Home, run: str, *_: Any, downstream: bool) -> Any:
        asked.append(run)
        raise DataError("it was asked for")

    monkeypatch.setattr("latentsweep_mlflow.registry.champion_folder", lambda root, name: made / "model")
    monkeypatch.setattr("latentsweep.jobs.trained.evaluated_run", evaluated)
    CliRunner().invoke(app, ["evaluate", "mine", "--home", str(made / "runs")])
    assert asked == [str(made / "model")]


def test_settings_of_python_are_those_of_the_command() -> None:
    settings = {"diffusion.learning_rate": 1e-5, "vae.widths": (8, 16), "data.split": "slice", "vae.attention": False}
    texts = texts_of(settings)
    assert RECIPE.replace(**changes_of(texts)) == RECIPE.replace(**settings)
    assert texts_of(texts) == texts
    of_numpy = {
        "diffusion.learning_rate": np.float64(1e-5),
        "vae.widths": np.array([8, 16]),
        "diffusion.steps": np.int64(9),
        "vae.attention": np.bool_(False),
        "diffusion.ema_lengths": [np.float32(0.125)],
    }
    plain = {"vae.widths": [8, 16], "diffusion.steps": 9, "vae.attention": False, "diffusion.ema_lengths": [0.125]}
    assert texts_of(of_numpy) == texts_of({"diffusion.learning_rate": 1e-5, **plain})


@pytest.mark.slow
def test_the_commands_print_the_plans_that_python_gives(
    made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, words = made / "runs", texts_of(SMALL)
    asked: dict[str, Any] = {"settings": SMALL, "device": "cpu", "home": home, "dry_run": True}
    searched = latentsweep.sweep("tiny", recipe="smoke", trials=3, **asked)
    assert (searched.leaderboard, searched.search) == ([], None)
    compared = latentsweep.ablate("tiny", recipe="smoke", seeds=2, **asked)
    assert (compared.verdicts, compared.files, compared.failures) == ({}, [], {})
    Configuration("tiny", 0, RECIPE).write(made / "best.yaml")
    trained = latentsweep.train(made / "best.yaml", **{**asked, "settings": ()})
    assert trained.scores == {}
    assert not any((home / each).exists() for each in ("sweeps", "ablations", "trained"))
    with pytest.raises(DataError, match="a dry run trains nothing"):
        trained.load()
    printed = capsys.readouterr()
    assert printed.out + printed.err == ""

    options = ["--device", "cpu", "--home", str(home), "--dry-run", "--json"]
    small = [word for text in words for word in ("--set", text)]
    for line, found in (
        (["sweep", "-d", "tiny", "--recipe", "smoke", "--trials", "3", *small], searched),
        (["ablate", "-d", "tiny", "--recipe", "smoke", "--seeds", "2", *small], compared),
        (["train", "--config", str(made / "best.yaml")], trained),
    ):
        done = CliRunner().invoke(app, [*line, *options])
        assert json.loads(done.stdout) == json.loads(json.dumps(found.forecast)), done.output


@pytest.mark.parametrize(
    ("function", "values", "words"),
    [
        ("ablate", {"seeds": 0}, "seeds must be a whole number of at least 1, got 0"),
        ("ablate", {"seeds": -1}, "seeds must be a whole number of at least 1, got -1"),
        ("ablate", {"folds": 0}, "folds must be a whole number of at least 1, got 0"),
        ("ablate", {"max_runs": 0}, "max_runs must be a whole number of at least 1"),
        ("ablate", {"tune_per_arm": -1}, "tune_per_arm must be a whole number of at least 0"),
        ("sweep", {"trials": 0}, "trials must be a whole number of at least 1"),
        ("sweep", {"trials": 2.5}, r"trials must be a whole number of at least 1, got 2\.5"),
        ("sweep", {"seed": -1}, "seed must be a whole number of at least 0"),
        ("sweep", {"confirm": -1}, "confirm must be a whole number of at least 0"),
        ("sweep", {"confirm": 2, "confirm_seeds": 0}, "confirm_seeds must be a whole number of at least 1"),
        ("sweep", {"settings": {"diffusion.steps": Path("a")}}, r"diffusion\.steps must be a text, a number"),
        ("sweep", {"settings": "diffusion.steep=9"}, r"unknown field 'diffusion\.steep'"),
        ("sweep", {"objectives": "kit"}, "'?kit"),
        ("ablate", {"components": "emma"}, "no component 'emma'"),
        ("ablate", {"arms": "improved"}, "twice or more, the reference first, got 1"),
    ],
)
def test_arguments_that_the_commands_refuse_are_refused_in_one_line(
    made: Path, function: str, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as said:
        getattr(latentsweep, function)("tiny", recipe=None, dry_run=True, home=made / "runs", **values)
    assert "\n" not in str(said.value)


@pytest.mark.slow
def test_one_text_is_a_sequence_of_one(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {"home": made / "runs", "device": "cpu", "dry_run": True}
    one = latentsweep.sweep("tiny", recipe="smoke", settings="diffusion.steps=9", objectives="fid", **asked)
    listed = latentsweep.sweep("tiny", recipe="smoke", settings=["diffusion.steps=9"], objectives=["fid"], **asked)
    assert one.name == listed.name
    assert latentsweep.ablate("tiny", recipe="smoke", components="ema", **asked).plan.components == ("ema",)
    given: dict[str, Any] = {}
    monkeypatch.setattr("latentsweep.datasets.preparation.prepare", lambda name, **values: given.update(values))
    latentsweep.prepare("mine", made, include="*.nii", exclude="*_seg*", home=made / "runs")
    assert given["selection"] == Selection(("*.nii",), ("*_seg*",))


def test_a_home_that_has_its_store_takes_no_other(made: Path) -> None:
    for values, named in (({"store": "/shared"}, "store"), ({"study_storage": "postgresql://h/s"}, "study_storage")):
        with pytest.raises(ConfigError, match=f"{named} goes with the path of a home, and a Home has its own; leave"):
            latentsweep.load(made / "model", home=Home(made / "runs"), **values)


def test_the_best_of_a_recorded_sweep_says_its_run(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As export writes it."""
    plan = latentsweep.sweep("tiny", recipe="smoke", device="cpu", home=made / "runs", dry_run=True).plan
    runs = SimpleNamespace(run_id=lambda key: f"run of {key}")
    monkeypatch.setattr(searches, "record_of", lambda home, dataset, wanted: runs if wanted else None)
    monkeypatch.setattr(
        searches, "configuration_of", lambda folder, trial, run_id, **more: run_id("tiny", "a/trial-1")
    )
    for recorded, expected in ((True, "run of a/trial-1"), (False, None)):
        assert searches.SweepResult(Home(made / "runs"), plan, recorded=recorded).best() == expected


def test_what_is_refused_raises_and_exits_nothing(made: Path) -> None:
    home = made / "runs"
    with pytest.raises(ConfigError, match=r"unknown field 'diffusion\.steep'"):
        latentsweep.sweep("tiny", settings={"diffusion.steep": 3}, home=home)
    with pytest.raises(DataError, match="kaggle"):
        latentsweep.sweep("kaggle", home=home)
    with pytest.raises(ConfigError, match=r"there is no configuration none\.yaml"):
        latentsweep.train("none.yaml", home=home)
    with pytest.raises(ConfigError, match="no component 'nonsense'"):
        latentsweep.ablate("tiny", components=["nonsense"], home=home, dry_run=True)
    with pytest.raises(DataError):
        latentsweep.prepare("mine", made / "nowhere", home=home)
