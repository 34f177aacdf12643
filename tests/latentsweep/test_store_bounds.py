"""A store that others write to: no name of theirs leads out of it, and nothing follows a link that they left."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from latentsweep.execution.work_log import noted
from latentsweep.stages.latents import read_latents
from latentsweep.storage import housekeeping
from latentsweep.storage.bounds import Form, fits
from latentsweep.storage.bucket import Bucket
from latentsweep.storage.costs import COST, PROGRESS
from latentsweep.storage.entries import MANIFEST, StageKey
from latentsweep.storage.home import Home
from latentsweep.storage.mirror import PARTIAL, POINTER
from latentsweep.storage.store import Store
from trainables.errors import StoreError
from trainables.loop.files import CHECKPOINT

KEY = StageKey("denoiser", 1, {"seed": 0})
CLIMBING = ["../datasets", "../../datasets", "vae/../../datasets", "/etc", "vae/..", "vae/.", "a/b/c", "vae", "", "."]
"""Names that others could give a result."""

Put = Callable[[str, str], None]


def build(folder: Path) -> Mapping[str, Any]:
    (folder / "weights").write_text("numbers")
    return {"good": True}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    moto = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture(params=["s3", "file"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Put]:
    """An address on an S3-compatible server, and one that is a folder; and what writes any object below each."""
    if request.param == "file":
        folder = tmp_path / "bucket" / "team"

        def put_file(name: str, text: str) -> None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)

        return f"file://{folder}", put_file
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("server"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "latentsweep")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t-0f-the-t3am")
    client = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket="bounds")
    return (
        f"s3://bounds/{tmp_path.name}",
        lambda name, text: client.put_object(Bucket="bounds", Key=f"{tmp_path.name}/{name}", Body=text.encode()),
    )


@pytest.fixture
def precious(tmp_path: Path) -> Iterator[Path]:
    """A folder of somebody's own, with files of every name that the store cleans away; it must stay as it is."""
    folder = tmp_path / "runs" / "datasets"
    folder.mkdir(parents=True)
    names = (".hidden", "a.tmp", CHECKPOINT, MANIFEST, "weights", "f" * 16 + "/slices", f"{'f' * 16}{PARTIAL}/slices")
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("precious")
    before = sorted(folder.rglob("*"))
    yield folder
    assert sorted(folder.rglob("*")) == before
    assert all(path.read_text() == "precious" for path in before if path.is_file())


def test_only_names_that_stay_in_the_store_have_the_form_of_one() -> None:
    assert fits(Form.RESULT, KEY.name)
    assert fits(Form.FILE, "figures/loss curve.v2.png")
    assert not any(fits(Form.RESULT, name) for name in (*CLIMBING, f"{KEY.name}\n", f"{KEY.name}{PARTIAL}", None, 3))
    escapes = ("..", "../a", "a/../b", "/a", "a//b", "a/", "", ".a", "a/.b", "a\\..\\b", "c:a", "a\0", "a\n", None)
    assert not any(fits(Form.FILE, name) for name in escapes)
    assert not any(fits(Form.CHECKPOINT, f"{stem}.safetensors") for stem in ("..", "a", "../" + "0" * 29))


@pytest.mark.parametrize("name", CLIMBING)
@pytest.mark.usefixtures("precious")
def test_no_result_of_another_name_is_looked_for_or_removed(tmp_path: Path, name: str) -> None:
    store = Store.of(Home(tmp_path / "runs"))
    for use in (store.find, store.remove, store.spent):
        with pytest.raises(StoreError, match=r"must be stage/key.* got"):
            use(name)


@pytest.mark.usefixtures("precious")
def test_objects_whose_names_climb_are_not_listed_and_free_deletes_nothing_of_theirs(
    tmp_path: Path, bucket: tuple[str, Put]
) -> None:
    address, put = bucket
    for name in ("vae/..", "vae/../../../../runs/datasets", "../datasets"):
        put(f"{name}{PARTIAL}/x", "1")
        put(f"{name}/{MANIFEST}", json.dumps({"name": name, "files": {}, "cost": {"seconds": 0}, "created": ""}))
    home = Home(tmp_path / "runs", address)
    assert housekeeping.free(home, dry_run=False, force=True) == []


@pytest.mark.usefixtures("precious")
def test_a_pointer_to_checkpoints_removes_and_reads_no_other_file(tmp_path: Path, bucket: tuple[str, Put]) -> None:
    address, put = bucket
    store = Store(tmp_path / "a", Bucket(address))
    put("vae/theirs", "of another result")
    climbing = [
        "../../vae/theirs",
        "../../../../runs/datasets/weights",
        str(tmp_path / "runs/datasets/weights"),
        None,
    ]
    kept = [{"file": name, "sha256": "0" * 64} for name in climbing]
    for pointer in ({"kept": kept}, {"kept": "text"}, {"kept": [3, None, {}]}, {"kept": {"file": 1}}, {}):
        put(f"{KEY.name}{PARTIAL}/{POINTER}", json.dumps(pointer))
        store.fetch_checkpoint(KEY)
        (store.workspace(KEY.name) / CHECKPOINT).write_text("a step")
        store.keep_checkpoint(KEY)
    assert "vae/theirs" in Bucket(address).sizes()
    fresh = Store(tmp_path / "b", Bucket(address))
    fresh.fetch_checkpoint(KEY)
    assert (fresh.workspace(KEY.name) / CHECKPOINT).read_text() == "a step"


def test_a_workspace_that_is_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path, precious: Path) -> None:
    store = Store(tmp_path / "store")
    store.workspace(KEY.name).parent.mkdir(parents=True)
    store.workspace(KEY.name).symlink_to(precious)
    entry = store.obtain(KEY, build)
    assert not entry.folder.is_symlink()
    assert sorted(path.name for path in entry.folder.iterdir()) == [MANIFEST, "weights"]


def test_a_result_that_is_a_link_counts_as_absent_and_only_the_link_goes(tmp_path: Path, precious: Path) -> None:
    theirs = Store(tmp_path / "theirs").obtain(KEY, build)
    store = Store(tmp_path / "store")
    for target in (precious, theirs.folder):
        store.folder(KEY.name).parent.mkdir(parents=True, exist_ok=True)
        store.folder(KEY.name).symlink_to(target)
        assert Store(tmp_path / "store").find(KEY) is None
        assert not store.obtain(KEY, build).folder.is_symlink()
        assert store.remove(KEY.name)
        store.folder(KEY.name).symlink_to(target)
        assert store.remove(KEY.name)
        assert not store.folder(KEY.name).is_symlink()
    assert theirs.file("weights").read_text() == "numbers"


def test_links_in_a_workspace_go_before_a_build_writes_through_them(tmp_path: Path, precious: Path) -> None:
    store = Store(tmp_path / "store")
    workspace = store.workspace(KEY.name)
    (workspace / "figures").mkdir(parents=True)
    for name in ("weights", CHECKPOINT, MANIFEST, "figures/loss.png"):
        (workspace / name).symlink_to(precious / "weights")
    (workspace / "more").symlink_to(precious)

    def with_figures(folder: Path) -> Mapping[str, Any]:
        (folder / "figures" / "loss.png").write_text("picture")
        return build(folder)

    assert set(store.obtain(KEY, with_figures).manifest["files"]) == {"weights", "figures/loss.png"}


@pytest.mark.parametrize("name", [PROGRESS, COST, MANIFEST])
def test_a_link_that_is_planted_while_a_build_runs_is_replaced_and_not_written_through(
    tmp_path: Path, precious: Path, name: str
) -> None:
    store = Store(tmp_path / "store")

    def meanwhile(folder: Path) -> Mapping[str, Any]:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(precious / "weights")
        store.note_progress(KEY, {"step": 1.0})
        return build(folder)

    assert store.obtain(KEY, meanwhile).manifest["name"] == KEY.name


@pytest.mark.parametrize("folder", ["denoiser", "locks"])
def test_a_folder_of_the_store_that_is_a_link_is_one_line_and_nothing_is_written_there(
    tmp_path: Path, precious: Path, folder: str
) -> None:
    store = Store(tmp_path / "store")
    store.root.mkdir()
    (store.root / folder).symlink_to(precious)
    with pytest.raises(StoreError, match=r"no file or folder of a store may be a link.*--store") as told:
        store.obtain(KEY, build)
    assert "\n" not in str(told.value)


def test_what_lies_behind_a_link_is_neither_listed_nor_freed(tmp_path: Path, precious: Path) -> None:
    home = Home(tmp_path / "runs")
    home.store.mkdir()
    (home.store / "vae").symlink_to(precious)
    (home.store / "latents").mkdir()
    (home.store / "latents" / ("a" * 16 + PARTIAL)).symlink_to(precious)
    assert housekeeping.free(home, dry_run=False) == []
    with pytest.raises(StoreError, match="may be a link"):
        Store.of(home).remove("vae/" + "f" * 16)


def test_a_file_that_became_a_link_is_damage(tmp_path: Path) -> None:
    entry = Store(tmp_path / "store").obtain(KEY, build)
    entry.file("weights").rename(tmp_path / "same bytes")
    entry.file("weights").symlink_to(tmp_path / "same bytes")
    assert Store(tmp_path / "store").find(KEY) is None


def test_a_log_that_is_a_link_is_not_written(tmp_path: Path, precious: Path) -> None:
    path = Store(tmp_path / "store").log_of(KEY)
    path.parent.mkdir(parents=True)
    path.symlink_to(precious / "weights")
    with pytest.raises(OSError, match="symbolic links"), noted(path):
        pass


@pytest.mark.parametrize("bucket", ["file"], indirect=True)
@pytest.mark.parametrize("place", ["denoiser", KEY.name, KEY.name + PARTIAL])
def test_a_bucket_that_is_a_folder_is_not_followed_through_its_links(
    tmp_path: Path, precious: Path, bucket: tuple[str, Put], place: str
) -> None:
    root = Path(bucket[0].removeprefix("file://"))
    (root / place).parent.mkdir(parents=True)
    (root / place).symlink_to(precious)
    store = Store(tmp_path / "a", Bucket(bucket[0]))
    assert store.entries() == []
    for use in (lambda: store.obtain(KEY, build), lambda: store.keep_checkpoint(KEY), lambda: store.remove(KEY.name)):
        try:
            use()
        except StoreError as error:
            assert "may be a link" in str(error)  # noqa: PT017 - each may refuse or go round the link


def test_the_latents_read_no_file_that_is_not_of_their_result(tmp_path: Path) -> None:
    (tmp_path / "latents").mkdir()
    summary = {"shards": [{"file": "../other.parquet", "rows": 1, "values_at": {"mean": 0, "log_variance": 0}}]}
    with pytest.raises(StoreError, match="must be the path of a file below the result"):
        read_latents(
            tmp_path / "latents", summary | {"shape": [1], "splits": {"train": [0, 1]}}, "train", whiten=False
        )
