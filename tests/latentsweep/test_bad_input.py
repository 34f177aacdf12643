"""Bad input gets one clear line and exit code 2, never a traceback, and nothing is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from latentsweep.commands.app import app

REFUSED = 2


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(*words: object) -> str:
    result = run(*words)
    assert result.exit_code == REFUSED, result.output
    assert "Traceback" not in result.output
    said = result.stderr.strip()
    assert said.startswith("error: ")
    assert "\n" not in said
    return said


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def with_demo(prepared_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(prepared_demo, tmp_path_factory.mktemp("demo") / "runs"))


def test_a_dataset_that_is_not_prepared_names_the_commands_that_get_it(home: Path) -> None:
    said = refused("sweep", "--dataset", "kaggle", "--home", home)
    assert "data prepare kaggle --source" in said
    assert "kaggle competitions download" in said


@pytest.mark.parametrize("trials", ["0", "-3", "many"])
def test_a_number_of_trials_that_makes_no_sense_is_refused(home: Path, trials: str) -> None:
    result = run("sweep", "--dataset", "demo", "--trials", trials, "--home", home)
    assert result.exit_code == REFUSED
    assert "--trials" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dimensions: {diffusion.colour: [1]}", "unknown field 'diffusion.colour'"),
        ("dimensions: {diffusion.dropout: {low: 0.5, high: 0.5}}", "empty range"),
        ("dimensions: {diffusion.dropout: [0.1, 7]}", "at most 0.9"),
        ("dimensions: {diffusion.dropout: []}", "empty list"),
        ("dimensions: [", "is not YAML"),
        ("hello", "a search space is a mapping"),
    ],
)
def test_a_search_space_that_cannot_work_is_refused(with_demo: Path, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "space.yaml").write_text(text)
    said = refused("sweep", "--dataset", "demo", "--space", tmp_path / "space.yaml", "--home", with_demo)
    assert says in said
    assert not (with_demo / "sweeps").exists(), "nothing is started"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--set", "diffusion.stepz=3"], "unknown field 'diffusion.stepz'"),
        (["--set", "diffusion.steps=-1"], "at least 1"),
        (["--set", "diffusion.steps"], "field=value"),
        (["--recipe", "best"], "no recipe 'best'"),
        (["--objective", "beauty"], "among kid, fid"),
        (["--sampler", "grid"], "one of tpe, gp, random"),
        (["--split", "volume"], "one of subject, slice"),
        (["--concurrent", "0"], "at least 1"),
        (["--card-gib", "0"], "above 0"),
        (["--space", "none.yaml"], "cannot be read"),
        (["--inception", "none.pt"], "Inception weights"),
        (["--set", "data.image_size=256"], "at most the prepared 128 pixels"),
        (["--set", "sampling.after_steps=10"], "must be 0 in a search or a study, got 10: no one knows"),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_starts(
    with_demo: Path, words: list[str], says: str
) -> None:
    assert says in refused("sweep", "--dataset", "demo", "--home", with_demo, *words)
    assert not (with_demo / "sweeps").exists()


def test_without_the_weights_no_sweep_begins(with_demo: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"not the network")
    said = refused("sweep", "--dataset", "demo", "--inception", tmp_path / "weights.pt", "--home", with_demo)
    assert "Inception weights" in said
    assert not (with_demo / "store").exists()


@pytest.mark.parametrize("command", ["train --config", "sample --to out", "evaluate"])
@pytest.mark.parametrize(
    ("text", "says"),
    [(None, "there is no configuration"), ("a: [", "is not YAML"), ("version: 0\nrecipe: {}", "version 0")],
)
def test_a_file_that_is_no_configuration_is_refused(
    home: Path, tmp_path: Path, command: str, text: str | None, says: str
) -> None:
    path = tmp_path / "best.yaml"
    if text is not None:
        path.write_text(text)
    verb, *options = command.split()
    words = [verb, "--config", path] if "--config" in options else [verb, path, *options]
    assert says in refused(*words, "--home", home)


def test_a_run_that_is_nothing_is_refused_with_what_it_may_be(home: Path) -> None:
    assert "SWEEP/NUMBER" in refused("sample", "nothing", "--to", home / "out", "--home", home)


def test_exporting_before_sweeping_says_what_to_run(home: Path) -> None:
    assert "sweep --dataset kaggle" in refused("export", "--dataset", "kaggle", "--to", "x.yaml", "--home", home)
    assert "no sweep 'other'" in refused("export", "--sweep", "other", "--to", "x.yaml", "--home", home)


def test_the_ui_before_any_run_says_so(home: Path) -> None:
    assert "nothing was recorded" in refused("ui", "--home", home)


def test_images_that_are_no_set_are_refused(with_demo: Path, tmp_path: Path) -> None:
    words = ("evaluate", "--dataset", "demo", "--home", with_demo, "--images")
    assert "must be a folder" in refused(*words, tmp_path / "none")
    assert "two pictures or more" in refused(*words, tmp_path)
    Image.new("L", (32, 32)).save(tmp_path / "a.png")
    Image.new("L", (16, 16)).save(tmp_path / "b.png")
    assert "of one size" in refused(*words, tmp_path)
    (tmp_path / "b.png").write_bytes(b"")
    assert "not a whole picture" in refused(*words, tmp_path)
    assert "either RUN" in refused("evaluate", "--home", with_demo)


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    said = refused("sweep", "--dataset", "demo", "--home", tmp_path / "runs")
    assert "writ" in said


def test_an_error_of_ours_can_be_seen_in_full_with_debug(home: Path) -> None:
    result = run("--debug", "sweep", "--dataset", "kaggle", "--home", home)
    assert result.exception is not None
    assert type(result.exception).__name__ == "DataError"


@pytest.mark.slow
def test_a_dry_run_starts_and_makes_nothing(with_demo: Path) -> None:
    result = run("sweep", "--dataset", "demo", "--recipe", "paper", "--dry-run", "--home", with_demo)
    assert result.exit_code == 0, result.output
    for words in ("2 to have, 0 in the store", "at most", "100000 steps", "GiB a trial", "thresholds"):
        assert words in result.stdout
    assert not (with_demo / "sweeps").exists()
    assert not (with_demo / "store").exists()
