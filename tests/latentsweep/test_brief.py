"""What workers are told: enough to work on a machine that has nothing of the driver's, and no secret."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
from pathlib import Path

import pytest
from small_dataset import brief_on

from latentsweep.execution import worker
from latentsweep.execution.worker import Brief
from latentsweep.stages.dataset import DESCRIPTION, STAGE, key_of
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.errors import DataError, PluginError, WeightsError
from trainables.measures.weights import find_weights


def test_with_a_plain_home_nothing_is_copied(tmp_path: Path) -> None:
    brief = brief_on(Home(tmp_path / "runs"))
    assert not (tmp_path / "runs" / "store").exists()
    assert brief.pipeline().dataset.folder == tmp_path / "runs" / "datasets" / "tiny"


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_worker_without_the_drivers_disk_finds_all_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("LATENTSWEEP_CACHE", str(tmp_path / "cache"))
    home = Home(tmp_path / "runs", f"{scheme}{tmp_path}/shared", study="postgresql://team:p4ssw0rd@h/study")
    sent = pickle.dumps(brief_on(home))
    assert len(sent) < 8192
    assert b"p4ssw0rd" not in sent
    shutil.rmtree(home.root)
    brief: Brief = pickle.loads(sent)
    pipeline = brief.pipeline()
    assert pipeline.dataset.load("train").images[:, 0, 0].tolist() == [0, 1, 2]
    assert pipeline.keys.vae.inputs["dataset"] == brief.identity.dataset
    assert not home.root.exists()
    place = tmp_path / ("cache" if scheme else "shared")
    assert len(list(place.glob(f"**/{STAGE}/*/dataset.json"))) == 1


def test_a_store_without_the_dataset_says_so(tmp_path: Path) -> None:
    brief = brief_on(Home(tmp_path / "runs", str(tmp_path / "shared")))
    shutil.rmtree(tmp_path / "shared")
    with pytest.raises(DataError, match="lacks the dataset tiny; run the same command again"):
        brief.pipeline()


def test_a_dataset_in_the_store_cannot_name_files_outside_it(tmp_path: Path) -> None:
    home = Home(tmp_path / "runs", str(tmp_path / "shared"))
    brief = brief_on(home)

    def planted(folder: Path) -> dict[str, str]:
        (folder / DESCRIPTION).write_text('{"shards": [{"file": "../../../secret.parquet"}]}')
        return {}

    Store.of(home).remove(key_of(brief.identity.dataset).name)
    Store.of(home).obtain(key_of(brief.identity.dataset), planted)
    with pytest.raises(DataError, match="must be one that was prepared"):
        brief.pipeline()


def test_other_weights_than_the_drivers_are_refused(tmp_path: Path) -> None:
    brief = brief_on(Home(tmp_path / "runs"))
    elsewhere = dataclasses.replace(brief, weights_path="/a/path/of/the/driver.pt")
    assert elsewhere.pipeline().weights == find_weights()
    other = dataclasses.replace(brief.identity, weights="0" * 64)
    with pytest.raises(WeightsError, match="every machine must measure with the same Inception weights"):
        dataclasses.replace(brief, identity=other).pipeline()


def test_other_plug_ins_than_the_drivers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a worker finds it whose machine lacks the package, or has another version of it."""
    brief, drivers = brief_on(Home(tmp_path / "runs")), {"diffusion.frequency_loss huber": ["robust", "1.0"]}
    assert not brief.plugins
    told = dataclasses.replace(brief, plugins=drivers)
    assert told.pipeline().recipe == brief.identity.recipe, "what isn't named isn't needed"
    assert told.recipe({"diffusion.steps": 9}).diffusion.steps == 9
    recipe = pickle.loads(pickle.dumps(brief.identity.recipe))  # no check as it is opened
    object.__setattr__(recipe.diffusion, "frequency_loss", "huber")
    same = dataclasses.replace(brief.identity, recipe=recipe)
    for here, has in (
        ({}, "none of that name"),
        ({"diffusion.frequency_loss huber": ["robust", "1.1"]}, "robust 1.1"),
    ):
        monkeypatch.setattr(worker, "known_plugins", lambda here=here: here)
        words = (
            rf"frequency_loss=huber .* has {has} where the driver has robust 1\.0; install the same package on both"
        )
        for ask in (
            lambda: told.pipeline(recipe),
            lambda: dataclasses.replace(told, identity=same).pipeline(),
            lambda: told.recipe({"diffusion.frequency_loss": "huber"}),
            lambda: worker.step_time(dataclasses.replace(told, identity=same), "diffusion", 3, 1.0),
        ):
            with pytest.raises(PluginError, match=words) as said:
                ask()
            assert "\n" not in str(said.value)
    monkeypatch.setattr(worker, "known_plugins", lambda: {"evaluation.metrics count": ["counts", "2"]})
    assert brief_on(Home(tmp_path / "others")).plugins == {"evaluation.metrics count": ["counts", "2"]}


def test_the_store_is_where_the_home_says(tmp_path: Path) -> None:
    assert Home(tmp_path).store == tmp_path / "store"
    assert Home(tmp_path).store_address == str((tmp_path / "store").resolve())
    assert Home(tmp_path, "/shared").store == Path("/shared")
    assert Home(tmp_path, "~/store").store == Path.home() / "store"
    bucket = Home(tmp_path, "s3://team/x")
    assert (bucket.store, bucket.store_address) == (tmp_path / "store", "s3://team/x")
    assert "p4ssw0rd" not in repr(Home(tmp_path, study="postgresql://team:p4ssw0rd@h/study"))
