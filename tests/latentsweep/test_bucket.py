"""The bucket behind the store: what one machine made, another finds; damage is found; secrets stay outside."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer
from small_dataset import plant

from latentsweep.stages.dataset import key_of, open_published, publish
from latentsweep.storage import housekeeping
from latentsweep.storage.bucket import Bucket
from latentsweep.storage.entries import MANIFEST, StageKey
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store, cache_folder
from trainables.errors import ConfigError, DataError, StoreError
from trainables.loop.files import CHECKPOINT

KEY = StageKey("denoiser", 1, {"seed": 0})
SECRET = "s3cr3t-0f-the-t3am"


def build(folder: Path) -> Mapping[str, Any]:
    (folder / "weights").write_text("numbers")
    (folder / "figures").mkdir(exist_ok=True)
    (folder / "figures" / "loss.png").write_text("picture")
    return {"good": True}


def never(folder: Path) -> Mapping[str, Any]:
    raise AssertionError("it was built again")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    moto = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture(params=["s3", "file"])
def address(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh place in a bucket on an S3-compatible server, and in one that is a folder."""
    if request.param == "file":
        return f"file://{tmp_path}/bucket/team"
    import boto3

    endpoint = request.getfixturevalue("server")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "latentsweep")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="team")
    return f"s3://team/{tmp_path.name}"


def machine(folder: Path, address: str) -> Store:
    return Store(folder, Bucket(address))


def test_what_one_machine_built_another_finds(tmp_path: Path, address: str) -> None:
    first = machine(tmp_path / "a", address).obtain(KEY, build)
    second = machine(tmp_path / "b", address).obtain(KEY, never)
    assert second.folder != first.folder
    assert second.manifest == first.manifest
    assert second.file("weights").read_text() == "numbers"
    assert second.file("figures/loss.png").read_text() == "picture"
    assert machine(tmp_path / "b", address).find(KEY) is not None
    assert [entry.name for entry in machine(tmp_path / "c", address).entries()] == [KEY.name]
    assert not (tmp_path / "c" / KEY.name).exists(), "looking at the list fetches nothing"


def test_a_checkpoint_is_gone_on_from_by_another_machine_and_goes_with_the_result(
    tmp_path: Path, address: str
) -> None:
    first = machine(tmp_path / "a", address)

    def killed(folder: Path) -> Mapping[str, Any]:
        for step in ("zero", "one", "two"):
            (folder / CHECKPOINT).write_text(step)
            first.keep_checkpoint(KEY)
            first.note_progress(KEY, {"step": 2.0})
        (folder / CHECKPOINT).write_text("three, which nobody heard of")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        first.obtain(KEY, killed)

    second = machine(tmp_path / "b", address)
    assert sorted(second.begun()) == [KEY.name]
    assert second.begun()[KEY.name] > 0
    assert second.progress(KEY.name) == {"step": 2.0}

    def resumed(folder: Path) -> Mapping[str, Any]:
        assert (folder / CHECKPOINT).read_text() == "two"
        return build(folder)

    second.obtain(KEY, resumed)
    assert machine(tmp_path / "c", address).begun() == {}
    assert first.obtain(KEY, never).summary == {"good": True}


def test_all_machines_go_on_from_the_bucket_even_where_it_has_nothing(tmp_path: Path, address: str) -> None:
    store = machine(tmp_path / "a", address)
    workspace = store.workspace(KEY.name)
    workspace.mkdir(parents=True)
    (workspace / CHECKPOINT).write_text("written, and killed before it was uploaded")
    store.fetch_checkpoint(KEY)
    assert not (workspace / CHECKPOINT).exists()


@pytest.mark.parametrize("address", ["file"], indirect=True)
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "manifest flipped", "manifest cut", "climbs out"])
def test_a_result_that_was_damaged_in_the_bucket_is_built_again(
    tmp_path: Path, address: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    machine(tmp_path / "a", address).obtain(KEY, build)
    bucket = Path(address.removeprefix("file://"))
    weights, manifest = next(bucket.rglob("weights")), next(bucket.rglob(MANIFEST))
    text = manifest.read_text()
    changes = {
        "flipped": (weights, "nUmbers"),
        "cut": (weights, "num"),
        "gone": (weights, None),
        "manifest flipped": (manifest, text.replace('"good": true', '"good": null')),
        "manifest cut": (manifest, text[: len(text) // 2]),
        "climbs out": (manifest, text.replace('"weights"', '"../../../outside"')),
    }
    path, content = changes[damage]
    path.unlink() if content is None else path.write_text(content)
    fresh = machine(tmp_path / "b", address)
    assert fresh.find(KEY) is None
    assert not (tmp_path / "b" / KEY.name).exists()
    assert not list(tmp_path.rglob("outside"))
    assert fresh.obtain(KEY, build).file("weights").read_text() == "numbers"
    assert machine(tmp_path / "c", address).obtain(KEY, never).summary == {"good": True}
    if damage in ("flipped", "cut", "gone", "manifest flipped"):
        assert "is damaged" in caplog.text


@pytest.mark.parametrize("address", ["file"], indirect=True)
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_in_place_of_a_damaged_checkpoint_the_one_before_it_is_taken(
    tmp_path: Path, address: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = machine(tmp_path / "a", address)
    first.workspace(KEY.name).mkdir(parents=True)
    for step in range(4):
        (first.workspace(KEY.name) / CHECKPOINT).write_bytes(bytes([step] * 1000))
        first.keep_checkpoint(KEY)
    kept = {path.read_bytes()[0]: path for path in Path(address.removeprefix("file://")).rglob("*.safetensors")}
    assert set(kept) == {2, 3}, "no more than two are kept"
    for number, step in enumerate((3, 2)):
        if damage == "gone":
            kept[step].unlink()
        else:
            kept[step].write_bytes(bytes(500) if damage == "cut" else bytes([step] * 999) + b"\7")
        second = machine(tmp_path / f"b{number}", address)
        second.fetch_checkpoint(KEY)
        found = [path.read_bytes()[:1] for path in second.workspace(KEY.name).iterdir()]
        assert found == ([b"\2"] if step == 3 else [])
    assert "cannot be used" in caplog.text


@pytest.mark.parametrize("address", ["file"], indirect=True)
def test_a_copy_that_was_damaged_here_is_fetched_again(tmp_path: Path, address: str) -> None:
    entry = machine(tmp_path / "a", address).obtain(KEY, build)
    entry.file("weights").write_text("nUmbers")
    assert machine(tmp_path / "a", address).obtain(KEY, never).file("weights").read_text() == "numbers"


@pytest.mark.parametrize("address", ["file"], indirect=True)
def test_a_kill_before_the_upload_costs_nothing(tmp_path: Path, address: str) -> None:
    Store(tmp_path / "a").obtain(KEY, build)
    machine(tmp_path / "a", address).obtain(KEY, never)
    assert machine(tmp_path / "b", address).obtain(KEY, never).summary == {"good": True}


@pytest.mark.parametrize("address", ["file"], indirect=True)
def test_machines_that_build_the_same_at_once_leave_one_whole_result(tmp_path: Path, address: str) -> None:
    together = threading.Barrier(4)

    def work(number: int) -> None:
        def mine(folder: Path) -> Mapping[str, Any]:
            together.wait()
            for file in range(20):
                (folder / f"file-{file}").write_text(f"of machine {number}")
            return {"machine": number}

        machine(tmp_path / str(number), address).obtain(KEY, mine)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entry = machine(tmp_path / "reader", address).obtain(KEY, never)
    texts = {entry.file(f"file-{file}").read_text() for file in range(20)}
    assert texts == {f"of machine {entry.summary['machine']}"}


def test_what_nobody_here_refers_to_is_freed_from_a_bucket_only_by_force(tmp_path: Path, address: str) -> None:
    home = Home(tmp_path / "runs", address)
    Store.of(home).obtain(KEY, build)
    with pytest.raises(StoreError, match="--force"):
        housekeeping.free(home, dry_run=False)
    assert [row["name"] for row in housekeeping.free(home, dry_run=True)] == [KEY.name]
    assert [row["name"] for row in housekeeping.free(home, dry_run=False, force=True)] == [KEY.name]
    assert machine(tmp_path / "b", address).entries() == []


def test_a_dataset_reaches_workers_through_the_store_without_the_key_of_its_pseudonyms(
    tmp_path: Path, address: str
) -> None:
    home = Home(tmp_path / "runs", address)
    dataset = plant(home)
    (home.root / "pseudonym.key").write_text("the key")
    publish(Store.of(home), home.datasets, "tiny", dataset.fingerprint)
    shutil.rmtree(home.root)
    there = open_published(machine(tmp_path / "b", address), "tiny", dataset.fingerprint)
    assert there.load("validation").images[:, 0, 0].tolist() == [3, 4, 5]
    assert {path.name.split("-")[0] for path in there.folder.iterdir()} == {"manifest.json", "dataset.json", "slices"}
    with pytest.raises(DataError, match="lacks the dataset tiny"):
        open_published(machine(tmp_path / "b", address), "tiny", "another")
    assert key_of(dataset.fingerprint).stage == "dataset"


def test_a_store_that_is_away_is_one_line_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "latentsweep")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setattr("latentsweep.storage.bucket.ATTEMPTS", 1)
    with pytest.raises(StoreError, match="s3://team/x must be there") as told:
        machine(tmp_path / "a", "s3://team/x").find(KEY)
    assert "\n" not in str(told.value)
    assert SECRET not in str(told.value) + caplog.text


@pytest.mark.usefixtures("address")
@pytest.mark.parametrize("address", ["s3"], indirect=True)
def test_a_bucket_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"s3://nobodys must be there and be written.*no such bucket"):
        machine(tmp_path / "a", "s3://nobodys").obtain(KEY, build)


@pytest.mark.parametrize(
    "address", ["s3://key:secret@team/x", "s3://team/x?endpoint_override=evil", "s3://", "nonsense://team"]
)
def test_an_address_that_is_none_or_holds_secrets_is_refused(address: str) -> None:
    with pytest.raises(ConfigError) as told:
        Bucket(address)
    assert "secret@" not in str(told.value)


def test_no_secret_reaches_a_manifest_an_object_or_what_workers_are_sent(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "latentsweep")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    client = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket="open")
    store = machine(tmp_path / "a", "s3://open/x")
    entry = store.obtain(KEY, build)
    assert SECRET not in json.dumps(dict(entry.manifest))
    assert SECRET.encode() not in pickle.dumps(store.mirror.place)
    keys = [each["Key"] for each in client.list_objects_v2(Bucket="open")["Contents"]]
    assert len(keys) == 3
    assert all(SECRET.encode() not in client.get_object(Bucket="open", Key=key)["Body"].read() for key in keys)


def test_a_workers_copies_lie_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTSWEEP_CACHE", str(tmp_path))
    one, other = cache_folder("s3://team/one"), cache_folder("s3://team/other")
    assert one.parent == other.parent == tmp_path
    assert one != other
    assert Store.at(str(tmp_path / "shared")).root == tmp_path / "shared"
