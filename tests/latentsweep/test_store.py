"""The stage store: complete or absent, once a key, found damaged, freed when nobody refers to it."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from latentsweep.storage import housekeeping
from latentsweep.storage.entries import MANIFEST, StageKey
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.errors import StoreError
from trainables.loop.files import CHECKPOINT

KEY = StageKey("vae", 1, {"seed": 0})


def build(folder: Path) -> Mapping[str, Any]:
    (folder / "weights").write_text("numbers")
    return {"good": True}


def test_a_result_is_built_once_and_then_found(tmp_path: Path) -> None:
    store, calls = Store(tmp_path), []

    def counting(folder: Path) -> Mapping[str, Any]:
        calls.append(folder)
        return build(folder)

    first, second = store.obtain(KEY, counting), store.obtain(KEY, counting)
    assert len(calls) == 1
    assert first.folder == second.folder
    assert first.summary == {"good": True}
    assert first.file("weights").read_text() == "numbers"
    assert first.size > 0


def test_the_key_depends_on_all_that_the_result_depends_on() -> None:
    same = StageKey("vae", 1, {"seed": 0})
    others = [
        StageKey("latents", 1, {"seed": 0}),
        StageKey("vae", 2, {"seed": 0}),
        StageKey("vae", 1, {"seed": 1}),
        StageKey("vae", 1, {"seed": 0}, (KEY,)),
    ]
    assert same.name == KEY.name
    assert len({key.name for key in (KEY, *others)}) == 5
    assert [key.stage for key in StageKey("latents", 1, {}, (KEY,)).lineage()] == ["latents", "vae"]


def test_a_build_that_fails_leaves_no_result_and_keeps_its_checkpoint(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def broken(folder: Path) -> Mapping[str, Any]:
        (folder / "checkpoint.safetensors").write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        store.obtain(KEY, broken)
    assert store.find(KEY) is None
    assert sorted(store.begun()) == [KEY.name]

    def resumed(folder: Path) -> Mapping[str, Any]:
        assert (folder / "checkpoint.safetensors").read_text() == "half"
        return build(folder)

    entry = store.obtain(KEY, resumed)
    assert set(entry.manifest["files"]) == {"weights"}, "the checkpoint goes when the result is there"
    assert store.begun() == {}


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing", "manifest"])
def test_a_damaged_result_is_found_and_built_again(tmp_path: Path, damage: str) -> None:
    entry = Store(tmp_path).obtain(KEY, build)
    weights = entry.file("weights")
    if damage == "flipped":
        weights.write_text("nUmbers")
    elif damage == "cut":
        weights.write_text("num")
    elif damage == "missing":
        weights.unlink()
    else:
        entry.file(MANIFEST).write_text('{"name": "va')
    fresh = Store(tmp_path)
    assert fresh.find(KEY) is None
    assert fresh.obtain(KEY, build).file("weights").read_text() == "numbers"


def test_a_kill_between_the_manifest_and_the_name_costs_nothing_but_the_end(tmp_path: Path) -> None:
    store = Store(tmp_path)
    whole = store.obtain(KEY, build)
    workspace = store.workspace(KEY.name)
    whole.folder.rename(workspace)
    (workspace / CHECKPOINT).write_text("the last step")
    assert Store(tmp_path).entries() == []

    def resumed(folder: Path) -> Mapping[str, Any]:
        assert (folder / CHECKPOINT).read_text() == "the last step"
        return build(folder)

    again = Store(tmp_path).obtain(KEY, resumed)
    assert set(again.manifest["files"]) == {"weights"}
    assert not again.file(CHECKPOINT).exists()
    assert Store(tmp_path).find(KEY) is not None


def slow_build(folder: Path) -> Mapping[str, Any]:
    (folder.parent.parent / f"built-{time.time_ns()}").touch()
    time.sleep(0.5)
    return build(folder)


def obtain_slowly(root: Path) -> None:
    Store(root).obtain(KEY, slow_build)


def test_processes_that_want_the_same_key_do_the_work_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=obtain_slowly, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list(tmp_path.glob("built-*"))) == 1


def interrupted(folder: Path) -> None:
    """A build that leaves a checkpoint and no result."""
    (folder / "checkpoint").write_bytes(b"half")
    raise RuntimeError("interrupted")


def test_a_store_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match=r"must be writable.*--home"):
        Store(tmp_path / "file").obtain(KEY, build)


def test_unfinished_trainings_that_a_sweep_could_go_on_from_are_offered_and_freed_on_request(tmp_path: Path) -> None:
    home = Home(tmp_path)
    key = StageKey("vae", 1, {"seed": 1})
    with pytest.raises(RuntimeError):
        Store(home.store).obtain(key, interrupted)
    (home.writable(home.sweeps / "some-sweep") / "uses.json").write_text(json.dumps([key.name]))
    rows = housekeeping.overview(home)
    assert [(row["name"], row["state"]) for row in rows] == [(key.name, "unfinished")]
    assert "1 unfinished" in housekeeping.offer(home)
    assert "--unfinished" in housekeeping.offer(home)
    assert housekeeping.free(home, dry_run=False) == []
    assert housekeeping.free(home, dry_run=True, unfinished=True) == rows
    assert housekeeping.free(home, dry_run=False, unfinished=True) == rows
    assert housekeeping.overview(home) == []
    assert housekeeping.offer(home) == ""


def test_what_another_machine_finished_is_not_freed_with_what_this_one_left_of_it(tmp_path: Path) -> None:
    bucket = f"file://{tmp_path}/bucket"
    here, elsewhere = Home(tmp_path / "here", bucket), Home(tmp_path / "elsewhere", bucket)
    with pytest.raises(RuntimeError):
        Store.of(here).obtain(KEY, interrupted)
    Store.of(elsewhere).obtain(KEY, build)
    (here.writable(here.sweeps / "some-sweep") / "uses.json").write_text(json.dumps([KEY.name]))
    assert [row["state"] for row in housekeeping.overview(here)] == ["complete"]
    housekeeping.free(here, dry_run=False, force=True, unfinished=True)
    assert Store.of(elsewhere).entries()[0].name == KEY.name


def test_what_is_finished_while_the_store_is_freed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    store = Store(home.store)
    with pytest.raises(RuntimeError):
        store.obtain(KEY, interrupted)
    (home.writable(home.sweeps / "some-sweep") / "uses.json").write_text(json.dumps([KEY.name]))
    rows = housekeeping.overview(home)
    store.obtain(KEY, build)
    monkeypatch.setattr(housekeeping, "overview", lambda *_: rows)
    housekeeping.free(home, dry_run=False, unfinished=True)
    assert [entry.name for entry in Store(home.store).entries()] == [KEY.name]


def test_only_what_nothing_refers_to_is_freed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    store = Store(home.store)
    used, unused = StageKey("vae", 1, {"seed": 1}), StageKey("vae", 1, {"seed": 2})
    store.obtain(used, build)
    store.obtain(unused, build)
    sweep = home.writable(home.sweeps / "some-sweep")
    (sweep / "uses.json").write_text(json.dumps([used.name]))

    rows = {row["name"]: row for row in housekeeping.overview(home)}
    assert rows[used.name]["used_by"] == ["sweeps/some-sweep"]
    assert "some-sweep" in housekeeping.as_text(list(rows.values()), lambda row: ", ".join(row["used_by"]))
    assert [row["name"] for row in housekeeping.free(home, dry_run=True)] == [unused.name]
    assert store.find(unused) is not None
    housekeeping.free(home, dry_run=False)
    assert Store(home.store).find(unused) is None
    assert Store(home.store).find(used) is not None


def test_what_a_job_takes_up_while_the_store_is_read_is_not_freed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, seen = Home(tmp_path), housekeeping.overview
    keys = [StageKey("vae", 1, {"seed": seed}) for seed in range(3)]
    for key in keys:
        Store(home.store).obtain(key, build)

    def slow(*given: Any) -> list[dict[str, Any]]:
        rows = seen(*given)
        housekeeping.note_uses(home, home.writable(home.sweeps / "begun-meanwhile"), [keys[1].name])
        return rows

    monkeypatch.setattr(housekeeping, "overview", slow)
    freed = {row["name"] for row in housekeeping.free(home, dry_run=False)}
    assert freed == {keys[0].name, keys[2].name}
    assert [entry.name for entry in Store(home.store).entries()] == [keys[1].name]


def test_a_job_that_notes_what_it_uses_waits_for_the_result_that_is_being_freed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, remove, order = Home(tmp_path), Store.remove, []
    Store(home.store).obtain(KEY, build)
    home.writable(home.sweeps / "late")

    def take_up() -> None:
        housekeeping.note_uses(home, home.sweeps / "late", [KEY.name])
        order.append("noted")

    job = threading.Thread(target=take_up)

    def removing(store: Store, name: str) -> bool:
        job.start()
        job.join(0.3)
        removed = remove(store, name)
        order.append("removed")
        return removed

    monkeypatch.setattr(Store, "remove", removing)
    housekeeping.free(home, dry_run=False)
    job.join()
    assert order == ["removed", "noted"], "so that it looks for the result after it is gone, and builds it again"
