"""What workers are told: enough to work on a machine that has nothing of the driver's, and no secret."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
from pathlib import Path

import pytest
from small_dataset import brief_on

from latentsweep.execution.worker import Brief
from latentsweep.stages.dataset import DESCRIPTION, STAGE, key_of
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.errors import DataError, WeightsError
from trainables.measures.inception import find_weights


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


def test_the_store_is_where_the_home_says(tmp_path: Path) -> None:
    assert Home(tmp_path).store == tmp_path / "store"
    assert Home(tmp_path).store_address == str((tmp_path / "store").resolve())
    assert Home(tmp_path, "/shared").store == Path("/shared")
    assert Home(tmp_path, "~/store").store == Path.home() / "store"
    bucket = Home(tmp_path, "s3://team/x")
    assert (bucket.store, bucket.store_address) == (tmp_path / "store", "s3://team/x")
    assert "p4ssw0rd" not in repr(Home(tmp_path, study="postgresql://team:p4ssw0rd@h/study"))
