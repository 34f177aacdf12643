"""Commands that only read import none of the libraries that train, read scans or grow forests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from command_line import TINY
from mlflow import MlflowClient
from small_dataset import plant
from typer.testing import CliRunner

from latentsweep.commands.app import app
from latentsweep.configuration import Configuration, overridden, read_configuration
from latentsweep.lints.targets import lint_target
from latentsweep.pages import repetition
from latentsweep.records.sweep import is_recorded
from latentsweep.report import write_report
from latentsweep.search import leaderboard
from latentsweep.search.choice import SearchConfig
from latentsweep.search.confirmation import NOTHING, Extent
from latentsweep.search.labels import Label, labels, ranges, users_words
from latentsweep.search.plan import sweep_plan
from latentsweep.search.spaces import search_space
from latentsweep.search.study import Search
from latentsweep.search.sweeps import close, ended_search
from latentsweep.search.trials import Point
from latentsweep.storage.home import Home, read_json, write_json
from latentsweep_mlflow.database import tracking_uri
from latentsweep_mlflow.own_record import record_for
from latentsweep_mlflow.recorder import recorder_for
from trainables.errors import INFRASTRUCTURE
from trainables.loop import cards
from trainables.measures.weights import find_weights
from trainables.recipes import SMOKE

ROOT = Path(__file__).parents[3]
RUN = """
import atexit, sys
atexit.register(lambda: print(*(name for name in sys.argv[1].split(",") if name in sys.modules), file=sys.stderr))
from latentsweep.commands.app import app
app(sys.argv[2:])
"""
TRAINING = ("torch", "ray", "torchvision", "torchmetrics", "pytorch_fid", "cleanfid")
SCANS = ("nibabel", "pydicom", "scipy.ndimage")
FOREST = ("sklearn",)
WORKER = """
import sys
import latentsweep.execution.worker
print(*(name for name in ("mlflow", "optuna", "sqlalchemy") if name in sys.modules))
"""


def imported(libraries: tuple[str, ...], words: list[str], folder: Path) -> list[str]:
    """Which of the libraries a command has imported; it must end well."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", RUN, ",".join(libraries), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.splitlines()[-1].split()


@pytest.mark.slow
def test_a_second_report_imports_nothing_that_trains_reads_scans_or_grows_forests(
    make_sweep: Callable[..., Any],
) -> None:
    made = make_sweep(6)
    plant(made.home, made.plan.dataset)
    words = ["report", made.name, "--no-mlflow", "--home", str(made.home.root)]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert imported((*TRAINING, *SCANS, *FOREST, "mlflow"), words, made.home.root) == []


def test_a_worker_imports_nothing_that_keeps_the_study_or_the_record() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.check_output([sys.executable, "-c", WORKER], text=True, env=environment) == "\n"


def test_a_report_names_the_cards_of_a_machine_that_has_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "names", lambda: ["NVIDIA H200"])
    for driver, said in ((True, "NVIDIA H200"), (False, "no CUDA card")):
        monkeypatch.setattr(repetition, "has_card_driver", lambda driver=driver: driver)
        assert repetition.machine().endswith(f", {said}")


@pytest.mark.slow
def test_a_second_report_grows_no_forest(make_sweep: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_sweep(6)
    first = write_report(made.home, made.name)[0].read_text()

    def refuse(*_: object) -> None:
        raise AssertionError("what is kept was computed again")

    monkeypatch.setattr("latentsweep.report.importance.shares_of", refuse)
    monkeypatch.setattr("latentsweep.search.leaderboard._shares", refuse)
    again = write_report(made.home, made.name)[0].read_text()
    table = "<h3>Importance of each choice</h3>"
    assert table in first
    assert (
        again.partition(table)[2].partition("</section>")[0] == first.partition(table)[2].partition("</section>")[0]
    )


def test_what_was_kept_of_other_trials_is_computed_again(make_sweep: Callable[..., Any]) -> None:
    made = make_sweep(3)
    assert leaderboard.keep(made.search, "kept.json", lambda: 1) == 1
    assert leaderboard.keep(made.search, "kept.json", lambda: 2) == 1
    more = make_sweep(3)
    assert more.search.folder == made.search.folder
    assert leaderboard.keep(more.search, "kept.json", lambda: 2) == 2


@pytest.mark.slow
@pytest.mark.parametrize("text", ["{", "[]", "3", '{"of": 1}', None])
def test_what_was_kept_and_is_damaged_is_computed_again(make_sweep: Callable[..., Any], text: str | None) -> None:
    search, path = make_sweep(3).search, make_sweep(3).search.folder / "kept.json"
    if text is None:
        path.mkdir()
    else:
        path.write_text(text)
    assert leaderboard.keep(search, path.name, lambda: 1) == 1
    assert leaderboard.keep(search, path.name, lambda: 2) == (1 if text else 2), "it is kept where it can be"


def test_the_store_says_of_which_trials_and_channels_a_result_is(make_sweep: Callable[..., Any]) -> None:
    made = make_sweep(3)
    named = labels(made.home)
    trial = made.search.run_trials()[0]
    label = named[made.plan.keys(trial.params).denoiser.name]
    numbers = "#0–1"  # its two early-stop thresholds, as the leaderboard has them
    assert str(label) == f"{made.name} {numbers}; channels {trial.params['vae.latent_channels']}"
    autoencoder = named[made.plan.keys(trial.params).vae.name]
    assert trial.number in autoencoder.trials[made.name]
    assert autoencoder.channels == label.channels
    done = CliRunner().invoke(app, ["store", "show", "--home", str(made.home.root)])
    assert (done.exit_code, f"  {label}\n" in done.stdout) == (0, True), done.output


def test_the_users_of_a_result_are_said_in_short() -> None:
    assert ranges([0, 1, 2, 5, 8, 9, 11, 13]) == "#0–2, #5, #8–9 and 2 more"
    label = Label(configurations={"demo-smoke-1a": [4, 5]}, channels={8})
    assert (
        label.beside(["sweeps/demo-smoke-1a", "trained/demo-2b"]) == "demo-smoke-1a #4–5; trained/demo-2b; channels 8"
    )
    rows = [{"name": "vae/1", "used_by": ["sweeps/unread-3c"]}, {"name": "vae/2", "used_by": []}]
    assert [users_words(row, {}) for row in rows] == ["sweeps/unread-3c", "nothing"]


@pytest.mark.slow
@pytest.mark.parametrize("words", [["plan", "--recipe", "smoke"], ["train", "--config", "best.yaml", "--dry-run"]])
def test_a_plan_imports_neither_ray_nor_what_reads_scans_or_draws(tmp_path: Path, words: list[str]) -> None:
    plant(Home(tmp_path / "runs"))
    quick = overridden(SMOKE, [word for word in TINY if word != "--set"])  # the dry run times its steps
    Configuration("tiny", 0, quick).write(tmp_path / "best.yaml")
    drawing = ("matplotlib.figure", "mlflow", "optuna") if words[0] == "plan" else ("matplotlib.figure", "mlflow")
    assert imported(("ray", "torchvision", *SCANS, *FOREST, *drawing), words, tmp_path) == []


@pytest.mark.slow
def test_a_second_lint_imports_nothing_that_trains_reads_scans_or_draws(make_sweep: Callable[..., Any]) -> None:
    made = make_sweep(6)
    plant(made.home, made.plan.dataset)
    first, second = (lint_target(made.home, None) for _ in range(2))
    assert first == second
    assert "frequency-biased" in {each.code for found in first.values() for each in found}, "which needs torch"
    assert imported((*TRAINING, *SCANS, *FOREST, "mlflow"), ["lint"], made.home.root.parent) == []


@pytest.mark.slow
@pytest.mark.parametrize("words", [["store", "show"], ["store", "show", "--json"], ["store", "free", "--dry-run"]])
def test_a_look_into_the_store_imports_nothing_that_trains_or_reads_scans(
    make_sweep: Callable[..., Any], words: list[str]
) -> None:
    root = make_sweep(2).home.root
    assert imported((*TRAINING, *SCANS, *FOREST, "mlflow"), [*words, "--home", str(root)], root) == []


def test_an_export_and_a_report_import_no_mlflow_where_the_home_has_the_record(
    make_sweep: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    made = make_sweep(2)
    recorder = recorder_for(made.home.root, made.plan.dataset)
    for key in (made.name, f"{made.name}/trial-0"):
        recorder.open_run(key, name=key, kind="sweep")
    words = ["export", "--sweep", made.name, "--number", "0", "--to", "best.yaml", "--home", str(made.home.root)]
    assert imported((*TRAINING, *SCANS, *FOREST, "mlflow"), words, made.home.root) == []
    known = recorder.run_id(f"{made.name}/trial-0")
    assert known
    assert read_configuration(made.home.root / "best.yaml").origin["run_id"] == known
    plant(made.home, made.plan.dataset)
    words = ["report", "--home", str(made.home.root)]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert imported((*TRAINING, *SCANS, *FOREST, "mlflow"), words, made.home.root) == []
    run = MlflowClient(tracking_uri(made.home.root)).get_run(recorder.run_id(made.name))
    page = made.search.folder / "report" / "report.html"
    kept = Path(unquote(urlsplit(run.info.artifact_uri).path)) / "report" / "report.html"
    assert kept.read_bytes() == page.read_bytes()
    assert f"/runs/{run.info.run_id}" in page.read_text()


def test_a_finished_sweep_that_is_run_again_imports_nothing_that_trains_or_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home, path = Home(tmp_path / "runs"), tmp_path / "space.yaml"
    path.write_text("dimensions: {vae.latent_channels: [4, 8, 16]}")
    space, weights = search_space("tiny", path), find_weights()
    plan = sweep_plan(plant(home), space, weights, "smoke", [], None, SearchConfig(), 0)
    folder = home.writable(home.sweeps / plan.name)
    write_json(folder / "sweep.json", {**plan.to_plain(), "threads": 1})
    search = Search(folder, plan.space, plan.search, plan.seed)
    for score in (2.0, 1.0):
        number, params = search.ask() or (0, {})
        search.tell(number, [Point(params, {"gen/kid": score})], {"keys": plan.keys(params).names()})
    words = ["sweep", "--dataset", "tiny", "--recipe", "smoke", "--space", str(path), "--trials", "2"]
    words += ["--home", str(home.root)]
    lint_target(home, None)  # as the sweep's end left it
    assert ended_search(home, plan, 2, NOTHING) is None, "its driver may have been killed before it wrote all files"
    close(folder)
    assert imported((*TRAINING, *SCANS, "mlflow"), [*words, "--no-mlflow"], tmp_path) == []
    assert read_json(folder / "sweep.json", {})["turn"] == 1, "it is the sweep that was run last"
    assert not is_recorded(record_for(home.root, "tiny"), plan, search)
    recorder = recorder_for(home.root, "tiny")
    trials = [(f"{plan.name}/trial-{number}", "trial") for number in range(2)]
    autoencoders = {plan.keys(trial.params).vae.name for trial in search.run_trials()}
    for key, kind in [(plan.name, "sweep"), *trials, *((f"{plan.name}/{name}", "vae") for name in autoencoders)]:
        recorder.open_run(key, name=key, kind=kind)
        recorder.close_run(key, "finished")
    assert is_recorded(record_for(home.root, "tiny"), plan, search)
    assert imported((*TRAINING, *SCANS, "mlflow"), words, tmp_path) == []
    assert ended_search(home, plan, 3, NOTHING) is None, "a third trial is left to run"
    assert ended_search(home, plan, 2, Extent(1, 1)) is None, "the best is left to confirm"
    search.fail(search.ask()[0], "the worker was lost", INFRASTRUCTURE)  # type: ignore[index]
    assert ended_search(home, plan, 3, NOTHING) is None, "what was lost is tried again"
