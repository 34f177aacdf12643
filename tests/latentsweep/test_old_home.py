"""A home that an earlier version made (``tests/old_home.py``) is answered from: no training of it is repeated.

Measurements of it are made again where they are asked for, since the versions of ``MEASURED`` were raised after it
was made. Where a change is meant to repeat trainings, pack a home of the commit before it in place of this one.
"""

from __future__ import annotations

import csv
import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import old_home
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from latentsweep.commands.app import app
from latentsweep.stages.latents import read_latents, read_positions
from latentsweep.storage.store import Store

ARCHIVE = Path(__file__).parents[1] / "golden" / "home-dff7b93.tar.xz"
STAGES = {"vae", "latents", "denoiser", "samples", "reference", "reconstruction", "evaluation"}
MEASURED = {"reference", "reconstruction", "samples", "evaluation", "inspection"}
"""The stages whose versions were raised since: the home's results of them are kept, and read by nothing."""
LEVELS = 2
"""Grey levels by which an image may differ that other processors compute from the same weights."""


@pytest.fixture
def unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the old home and what the old commands wrote beside it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "space.yaml").write_text(old_home.SPACE)
    return tmp_path


@pytest.fixture
def home(unpacked: Path) -> Iterator[Path]:
    """The old home, whose store must hold what it held when the test ends, and no more but measurements."""
    before = content(unpacked / "home" / "store")
    assert {name.split("/")[0] for name in before} >= STAGES
    yield unpacked / "home"
    after = content(unpacked / "home" / "store")
    assert after.items() >= before.items()
    assert {name.split("/")[0] for name in after.keys() - before.keys()} <= MEASURED


def content(store: Path) -> dict[str, str]:
    """The hash of each file of the store but locks."""
    files = (path for path in sorted(store.rglob("*")) if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def said(home: Path, *words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*words, "--home", str(home)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stdout


def only(folder: Path) -> Path:
    [found] = [path for path in folder.iterdir() if path.name != ".locks"]
    return found


def take(path: Path) -> str:
    """What a file says; it is removed, so that the new code must write it anew."""
    text = path.read_text()
    path.unlink()
    return text


def trained(uses: str) -> list[str]:
    """Of the results that ``uses.json`` names, those whose keys are what they were."""
    return [name for name in json.loads(uses) if name.split("/")[0] not in MEASURED]


def check_recorded(home: Path, *kinds: str) -> None:
    """MLflow has runs of these kinds and no other, each with all names and params that the old code gave it.

    A threshold that a trial's pass measured, too, has a run of its own since.
    """
    old = {run["key"]: run for run in json.loads((home.parent / "recorded.json").read_text()) if run["kind"] in kinds}
    new = {run["key"]: run for run in old_home.recorded(home) if run["kind"] != "point"}
    assert new.keys() == old.keys()
    for key, run in old.items():
        check_run(new[key], run)


def check_run(new: dict[str, Any], old: dict[str, Any]) -> None:
    """A run has all names and params of another."""
    assert new["kind"] == old["kind"]
    assert set(new["metrics"]) >= set(old["metrics"]), old["key"]
    assert set(new["tags"]) >= set(old["tags"]), old["key"]
    assert new["params"].items() >= old["params"].items(), old["key"]


@pytest.mark.slow
def test_a_sweep_of_an_old_home_is_answered_and_recorded_as_it_was(unpacked: Path, home: Path) -> None:
    folder = only(home / "sweeps")
    uses, table = take(folder / "uses.json"), take(folder / "leaderboard.csv")
    result = json.loads(said(home, *old_home.sweep_words(unpacked / "space.yaml")))
    assert result["sweep"] == folder.name
    assert result["counts"]["complete"] == 2
    assert len(result["leaderboard"]) == 4
    assert (folder / "leaderboard.csv").read_text() == table
    assert trained((folder / "uses.json").read_text()) == trained(uses), "the keys of all stages up to the samples"
    check_recorded(home, "sweep", "trial", "vae")
    more = (*old_home.sweep_words(unpacked / "space.yaml"), "--confirm", "1")
    assert json.loads(said(home, *more, "--dry-run"))["confirmation"] is None
    assert json.loads(said(home, *more)) == result, "no fresh seed is compared with an earlier version's score"


@pytest.mark.slow
def test_a_study_of_an_old_home_is_measured_again_and_recorded_as_it_was(home: Path) -> None:
    folder = only(home / "ablations")
    uses, table = take(folder / "uses.json"), take(folder / "ablation.csv")
    said(home, *old_home.ablate_words())
    old, new = (list(csv.reader(text.splitlines())) for text in (table, (folder / "ablation.csv").read_text()))
    assert [row[:3] for row in new] == [row[:3] for row in old], "all but the values"
    evaluations = [each for each in Store(home / "store").entries() if each.manifest["stage"] == "evaluation"]
    anew = [point for each in evaluations for point in each.summary["points"] if "kernel_by_image" in point]
    assert len(anew) == 2
    assert all(len(point["kernel_by_image"]) == point["metrics"]["gen/samples"] for point in anew)
    assert trained((folder / "uses.json").read_text()) == trained(uses)
    assert "apart, each run would need its own: 2 and 2" in (folder / "ablation.md").read_text()
    check_recorded(home, "ablation", "ablation-run")


@pytest.mark.slow
def test_the_exported_configuration_of_an_old_home_is_trained_already(unpacked: Path, home: Path) -> None:
    folder = only(home / "trained")
    uses = take(folder / "uses.json")
    result = json.loads(said(home, *old_home.train_words(unpacked / "best.yaml")))
    assert result["from_store"]
    assert result["earlier_test_decisions"] == 0, "an old home has no ledger"
    [new] = [path for path in (home / "trained").iterdir() if path not in (folder, home / "trained" / ".locks")]
    assert trained((new / "uses.json").read_text()) == trained(uses)
    [old_run] = [run for run in json.loads((unpacked / "recorded.json").read_text()) if run["kind"] == "training"]
    check_run(*old_home.recorded(home), old_run)  # of another key, which holds those of the measurements


def test_the_store_of_an_old_home_is_shown_with_what_uses_it(home: Path) -> None:
    shown = json.loads(said(home, "store", "show", "--json"))
    stages = [entry for entry in shown if entry["name"].split("/")[0] in STAGES]
    assert len(stages) == 17
    assert all(entry["state"] == "complete" and entry["used_by"] for entry in stages)


@pytest.mark.slow
def test_an_old_home_is_reported_linted_and_exported(unpacked: Path, home: Path) -> None:
    written = json.loads(said(home, "report", "--json"))
    assert old_home.DATASET in Path(written["files"][0]).read_text()
    assert "[threshold-never]" in said(home, "lint", code=1)
    said(home, "export", "--dataset", old_home.DATASET, "--to", str(unpacked / "again.yaml"))
    old, new = (yaml.safe_load((unpacked / name).read_text()) for name in ("best.yaml", "again.yaml"))
    assert new["execution"].items() >= old["execution"].items()
    for section, values in old["recipe"].items():
        assert new["recipe"][section].items() >= values.items()
    for configuration in (old, new):
        del configuration["origin"]["run_id"]
    assert new["origin"].items() >= old["origin"].items()
    assert new["origin"]["confirmed"] is False


@pytest.mark.parametrize("run", ["best.yaml", "home/trained"])
def test_the_networks_of_an_old_home_draw_what_they_drew(unpacked: Path, home: Path, run: str) -> None:
    place = unpacked / run
    said(home, "sample", str(only(place) if place.is_dir() else place), "--count", "2", "--to", str(unpacked / "new"))
    for name in ("seed-000000.png", "seed-000001.png"):
        old, new = (np.asarray(Image.open(unpacked / where / name), np.int16) for where in ("drawn", "new"))
        assert np.abs(new - old).max() <= LEVELS


def test_the_latents_of_an_old_home_give_the_positions_of_their_slices(home: Path) -> None:
    entries = [entry for entry in Store(home / "store").entries() if entry.manifest["stage"] == "latents"]
    assert entries
    for entry in entries:
        positions = read_positions(entry.folder, entry.summary, "train")
        assert len(positions) == len(read_latents(entry.folder, entry.summary, "train", whiten=False).mean)
