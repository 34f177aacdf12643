"""Any place with the six methods serves a store; without one, the store's own folder is all there is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from latentsweep.storage.bucket import NOWHERE, Bucket, Place, place_at
from latentsweep.storage.entries import StageKey
from latentsweep.storage.home import Home, is_bucket
from latentsweep.storage.store import Store
from trainables.loop.files import CHECKPOINT

KEY = StageKey("denoiser", 1, {"seed": 0})


class Memory(Place):
    """A place in memory."""

    address = "memory"

    def __init__(self) -> None:
        self.files: dict[str, Any] = {}

    def sizes(self) -> dict[str, int]:
        return {target: len(str(value)) for target, value in self.files.items()}

    def read(self, target: str) -> dict[str, Any]:
        found: dict[str, Any] = self.files.get(target, {})
        return found

    def write(self, target: str, value: Mapping[str, Any]) -> None:
        self.files[target] = dict(value)

    def upload(self, path: Path, target: str) -> None:
        self.files[target] = path.read_bytes()

    def download(self, target: str, path: Path) -> None:
        if target not in self.files:
            raise FileNotFoundError(target)
        path.write_bytes(self.files[target])

    def remove(self, target: str) -> None:
        self.files = {name: value for name, value in self.files.items() if not f"{name}/".startswith(f"{target}/")}


def build(folder: Path) -> Mapping[str, Any]:
    (folder / "weights").write_text("numbers")
    return {"good": True}


def never(folder: Path) -> Mapping[str, Any]:
    raise AssertionError("it was built again")


def test_a_place_of_six_methods_brings_results_checkpoints_and_progress_to_another_machine(tmp_path: Path) -> None:
    place = Memory()
    first, second = Store(tmp_path / "a", place), Store(tmp_path / "b", place)

    def killed(folder: Path) -> Mapping[str, Any]:
        (folder / CHECKPOINT).write_text("one")
        first.keep_checkpoint(KEY)
        first.note_progress(KEY, {"step": 1.0})
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        first.obtain(KEY, killed)
    assert second.progress(KEY.name) == {"step": 1.0}
    assert list(second.begun()) == [KEY.name]

    def resumed(folder: Path) -> Mapping[str, Any]:
        assert (folder / CHECKPOINT).read_text() == "one"
        return build(folder)

    second.obtain(KEY, resumed)
    assert first.obtain(KEY, never).file("weights").read_text() == "numbers"
    assert len(place.files) == 2, "the manifest and its one file: what was unfinished is gone"
    assert first.remove(KEY.name)
    assert place.files == {}


def test_without_a_place_the_folder_alone_tells_and_its_checkpoint_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    workspace = store.workspace(KEY.name)
    workspace.mkdir(parents=True)
    (workspace / CHECKPOINT).write_text("the last step")
    store.keep_checkpoint(KEY)
    store.fetch_checkpoint(KEY)
    store.note_progress(KEY, {"step": 3.0})
    assert (workspace / CHECKPOINT).read_text() == "the last step"
    assert Store(tmp_path).progress(KEY.name) == {"step": 3.0}
    assert Store(tmp_path).progress("denoiser/0123456789abcdef") == {}


def test_an_address_has_one_spelling(tmp_path: Path) -> None:
    assert [is_bucket(address) for address in ("", "/shared", "~/store", "s3://team/x", "file:///shared")] == [
        *(False, False, False),
        *(True, True),
    ]
    assert place_at("") is place_at("/shared") is NOWHERE
    home = Home(tmp_path, f"file://{tmp_path}/bucket")
    assert isinstance(place_at(home.location), Bucket)
    assert Store.of(home).address == Store.at(home.store_address).address == home.location
