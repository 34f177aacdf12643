"""Files and studies that somebody edited: what is wrong is said before anything is trained, in one line."""

from __future__ import annotations

import ast
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml
from command_line import ROOT
from typer.testing import CliRunner

from latentsweep.commands.app import app
from latentsweep.configuration import CONFIG, Configuration, changes_of, plain_yaml, read_configuration
from latentsweep.datasets.catalogue import how_to_get
from latentsweep.search import leaderboard
from latentsweep.search.choice import SearchConfig
from latentsweep.search.plan import SweepPlan
from latentsweep.search.spaces import search_space
from latentsweep.search.study import Search
from latentsweep.search.trials import Point
from latentsweep.stages.model_folder import DENOISER, SCALING, VAE
from latentsweep.storage.home import read_json
from trainables.config import shown
from trainables.errors import ConfigError, DataError, StoreError
from trainables.loop.checkpoint import save_tensors
from trainables.recipes import SMOKE
from trainables.space import Choice, SearchSpace

ORIGIN = {
    "sweep": "demo-smoke-0123abcd",
    "trial": 3,
    "dataset_fingerprint": "ab",
    "parameters": {"vae.latent_channels": 4},
    "selection": {"seed": 0, "kid": 1.5},
    "confirmed": None,
}
HUGE = "1" + "0" * 400
DEEP = "[" * 100_000


def written(folder: Path, **changes: Any) -> Path:
    """A configuration's file, in which somebody changed top-level entries."""
    path = folder / "best.yaml"
    Configuration("demo", 0, SMOKE, origin=ORIGIN).write(path)
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))
    return path


def test_an_origin_as_it_was_exported_is_read(tmp_path: Path) -> None:
    assert read_configuration(written(tmp_path)).origin == ORIGIN
    assert read_configuration(written(tmp_path, origin=None)).origin == {}


@pytest.mark.parametrize(
    "origin",
    [
        "by hand",
        ["a"],
        3,
        *(
            {**ORIGIN, "parameters": each}
            for each in (["vae.latent_channels"], "text", {"vae.colour": 1}, {"vae": 1})
        ),
        *({**ORIGIN, "parameters": each} for each in ({3: 1}, {"a.b.c": 1}, None)),
        *({**ORIGIN, name: [1]} for name in ("sweep", "trial", "dataset_fingerprint", "selection", "confirmed")),
    ],
)
def test_an_origin_that_was_edited_is_refused_when_it_is_read(tmp_path: Path, origin: Any) -> None:
    with pytest.raises(ConfigError, match=r"origin.* must be .*remove all of origin") as told:
        read_configuration(written(tmp_path, origin=origin))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "field", ["vae.learning_rate", "vae.max_steps", "diffusion.frequency_weight", "data.image_size"]
)
@pytest.mark.parametrize(
    "value", [HUGE, "-" + HUGE, "0x" + "f" * 9000, ".inf", "-.inf", ".nan", "1" * 9000, f"[{HUGE}]"]
)
def test_numbers_beyond_what_computes_are_refused_in_one_line(field: str, value: str) -> None:
    with pytest.raises(ConfigError) as told:
        SMOKE.replace(**changes_of([f"{field}={value}"]))
    assert len(str(told.value)) < 600 + len(value) * ("is not YAML" in str(told.value))


@pytest.mark.parametrize("seed", [10**400, 1.5, True, "0", None, -(2**70)])
def test_a_seed_that_is_no_number_of_64_bits_is_refused(tmp_path: Path, seed: Any) -> None:
    with pytest.raises(ConfigError, match="a whole number as seed"):
        read_configuration(written(tmp_path, seed=seed))


def test_any_value_can_be_shown() -> None:
    assert shown(3) == "3"
    assert shown(16**9000) == "a int that is too large to show"
    assert len(shown("x" * 10_000)) < 300


@pytest.mark.parametrize(
    "text", ["a: 1\nb: 2\na: 1", "a: {b: 1, c: 2, b: 3}", "- {a: 1}\n- {a: 1, a: 2}", "1: a\n1: b", "{a: 1, 'a': 2}"]
)
def test_a_key_that_stands_twice_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match="stands twice"):
        plain_yaml(text)
    assert plain_yaml("a: {b: 1}\nb: 1\n'1': 2\n1: 3") == {"a": {"b": 1}, "b": 1, "1": 2, 1: 3}


def test_the_line_of_a_second_key_is_told(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text("seed: 1\n" + path.read_text())
    with pytest.raises(ConfigError, match=r"\(line \d+: the key 'seed' stands twice\)"):
        read_configuration(path)
    (tmp_path / "space.yaml").write_text("dimensions: {vae.epochs: [1], vae.epochs: [2]}")
    with pytest.raises(ConfigError, match="is not YAML"):
        search_space("demo", tmp_path / "space.yaml")


@pytest.mark.parametrize("text", [DEEP, '{"a":' * 100_000, "[]", "3", "null", '{"recipe": []}', "\xff"])
def test_a_plan_that_is_nested_deep_or_of_another_form_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(DataError, match="must hold the plan of a sweep"):
        SweepPlan.read(tmp_path)
    if re.match(r"[\[{].{4}", text) and len(text) > 1000:
        with pytest.raises(StoreError, match="must be JSON"):
            read_json(tmp_path / "sweep.json", None)


SPACE = SearchSpace({"vae.latent_channels": Choice((4, 8)), "diffusion.frequency_weight": Choice((0.0, 0.1, 0.3))})


def searched(folder: Path, **settings: Any) -> Search:
    folder.mkdir(exist_ok=True)
    return Search(folder, SPACE, SearchConfig(**settings), seed=0)


@pytest.mark.parametrize("objectives", [("kid",), ("kid", "steps")])
def test_trials_of_another_client_of_the_study_count_nowhere(tmp_path: Path, objectives: tuple[str, ...]) -> None:
    search = searched(tmp_path / "s", objectives=objectives)

    def run(score: float) -> None:
        number, params = search.ask() or (-1, {})
        search.tell(number, [Point(params, {"gen/kid": score, "gen/kid_se": 0.1, "gen/steps_mean": 50.0})], {})

    run(3.0)
    foreign = [
        {"params": {}, "distributions": {}},
        {"params": {"colour": 1.0}, "distributions": {"colour": optuna.distributions.FloatDistribution(0, 2)}},
        {
            "params": {"vae.latent_channels": 4},
            "distributions": {"vae.latent_channels": search.distributions["vae.latent_channels"]},
        },
    ]
    for one in foreign:
        values = [0.0] * len(objectives)
        search.study.add_trial(optuna.trial.create_trial(values=values, **one))
    search.study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL, **foreign[1]))
    for score in (2.0, 4.0, 5.0, 6.0):
        run(score)
    again = searched(tmp_path / "s", objectives=objectives)
    assert again.requeue() == 0
    assert [trial.values[0] for trial in again.measured()] == [2.0, 3.0, 4.0, 5.0, 6.0]
    assert again.finished() == 5
    assert all(trial.values[0] == 2.0 for trial in again.best())
    assert len(leaderboard.rows(again)) == 5
    leaderboard.importances(again)
    assert json.dumps(leaderboard.as_markdown(leaderboard.rows(again)))


SMALL_MODEL = """
import resource, sys
from pathlib import Path
from latentsweep.stages.model_folder import read_model
from trainables.errors import DataError

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before = peak()
try:
    read_model(Path(sys.argv[1]))
except DataError as error:
    print(peak() - before, error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("large", [VAE, DENOISER])
def test_a_small_folder_that_claims_a_large_model_is_refused_before_memory_is_taken(
    tmp_path: Path, large: str
) -> None:
    from trainables.autoencoder.vae import Autoencoder
    from trainables.denoiser.unet import UNet

    wide = {"vae.widths": (512, 1024)} if large == VAE else {"diffusion.widths": (512, 1024)}
    Configuration("demo", 0, SMOKE.replace(**wide)).write(tmp_path / CONFIG)
    networks = {VAE: Autoencoder(SMOKE.vae), DENOISER: UNet(SMOKE.vae.latent_channels, SMOKE.diffusion)}
    for name, network in networks.items():
        save_tensors(tmp_path / name, {"a": torch.zeros(1)} if name == large else network.state_dict())
    save_tensors(tmp_path / SCALING, {"mean": torch.zeros(4), "deviation": torch.ones(4)})
    done = subprocess.run(
        [sys.executable, "-c", SMALL_MODEL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    mebibytes, said = done.stdout.split(" ", 1)
    assert "the weights in" in said
    assert float(mebibytes) < 60, "the network alone takes more than 100"


@pytest.mark.parametrize("words", [["store", "show"], ["data", "prepare", "demo"], ["ui"]], ids=str)
@pytest.mark.parametrize("name", ["runs?", "my%20runs", "/".join(["x" * 90] * 4)])
def test_a_home_that_no_database_can_lie_in_is_refused_before_anything_is_made(
    tmp_path: Path, name: str, words: list[str]
) -> None:
    result = CliRunner().invoke(app, [*words, "--home", str(tmp_path / name)])
    assert result.exit_code == 2
    assert "--home must be a path without ? and %" in result.stderr
    assert list(tmp_path.iterdir()) == []
    assert CliRunner().invoke(app, ["store", "show", "--home", str(tmp_path / "my runs & é#")]).exit_code == 0


def test_commands_that_are_printed_quote_the_paths_in_them(tmp_path: Path) -> None:
    home = tmp_path / "my runs"
    assert f"--home '{home}'" in how_to_get("demo", home)
    sources = [path for folder in ("platform", "mlflow", "trainables") for path in (ROOT / folder).rglob("*.py")]
    values = {(path.name, value) for path in sources for value in put_into_commands(path.read_text())}
    paths = {each for each in values if re.search(r"\b(folder|path|root|home|to)\b", each[1])}
    known = {
        ("sweep.py", "shlex.quote(str(to))"),
        ("catalogue.py", "shlex.quote(str(home))"),
        ("configuration.py", "shlex.quote(path.name)"),
    }
    assert known <= paths
    assert {each for each in paths if not each[1].startswith("shlex.")} == set()
    assert put_into_commands("hint(f'show {path}'), f'x --to {folder}', f'x {home}'") == {"path", "folder"}


def put_into_commands(source: str) -> set[str]:
    """What a module puts into the texts of ``hint`` and ``documented``, and behind the name of any option."""
    tree = ast.parse(source)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    hints = [call for call in calls if ast.unparse(call.func).split(".")[-1] in ("hint", "documented")]
    inside = {node for call in hints for node in ast.walk(call) if isinstance(node, ast.FormattedValue)}
    for text in (node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)):
        for before, value in itertools.pairwise(text.values):
            option = isinstance(before, ast.Constant) and re.search(r"--[a-z-]+[ =]$", str(before.value))
            if option and isinstance(value, ast.FormattedValue):
                inside.add(value)
    return {ast.unparse(node.value) for node in inside}


def test_a_configuration_names_its_file_as_a_shell_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "my best.yaml"
    Configuration("demo", 0, SMOKE).write(path)
    assert "train --config 'my best.yaml'\n" in path.read_text()
