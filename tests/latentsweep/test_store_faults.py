"""Disks that are full, read-only or gone, files that were cut or flipped, clocks that jump: nothing is lost."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from small_dataset import brief_on

from latentsweep.execution import worker
from latentsweep.storage.entries import MANIFEST, StageKey
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.errors import StoreError
from trainables.loop.checkpoint import save_tensors
from trainables.loop.files import CHECKPOINT

KEY = StageKey("denoiser", 1, {"seed": 0})
NOISE = np.random.default_rng(0).integers(0, 256, 3 * 2**20, np.uint8)
"""Three megabytes, which no compression makes smaller."""


def build(folder: Path) -> Mapping[str, Any]:
    (folder / "weights").write_bytes(NOISE[: 2**16].tobytes())
    return {"good": True}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("a small disk is mounted for this test, which takes root")
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def write_image(path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(NOISE.reshape(-1, 1024)).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())


WRITERS: dict[str, Callable[[Path], Any]] = {
    "plain": lambda path: path.write_bytes(NOISE.tobytes()),
    "safetensors": lambda path: save_tensors(path, {"noise": torch.from_numpy(NOISE)}),
    "numpy": lambda path: np.save(path, NOISE),
    "parquet": lambda path: pq.write_table(pa.table({"noise": NOISE}), path),
    "image": write_image,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_one_line_and_the_same_command_goes_on_when_there_is_room(disk: Path, writer: str) -> None:
    store = Store(disk / "store")

    def training(folder: Path) -> Mapping[str, Any]:
        if not (folder / CHECKPOINT).exists():
            save_tensors(folder / CHECKPOINT, {"weights": torch.ones(4)})
        WRITERS[writer](folder / "large")
        return {"good": True}

    with pytest.raises(StoreError, match=r"(must be writable|cannot be written) \(.*No space left on device") as told:
        store.obtain(KEY, training)
    assert "\n" not in str(told.value)
    assert Store(disk / "store").find(KEY) is None
    assert Store(disk / "store").entries() == []

    remount(disk, "size=20m")

    def resumed(folder: Path) -> Mapping[str, Any]:
        assert (folder / CHECKPOINT).exists(), "the checkpoint was lost"
        return training(folder)

    entry = Store(disk / "store").obtain(KEY, resumed)
    assert sorted(entry.manifest["files"]) in (["large"], ["large.npy"])


def test_a_disk_that_is_full_to_the_last_byte_leaves_no_half_result(disk: Path) -> None:
    store = Store(disk / "store")

    def filling(folder: Path) -> Mapping[str, Any]:
        with (folder / "rest").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        return {}

    with pytest.raises(StoreError, match="No space left"):
        store.obtain(KEY, filling)
    assert Store(disk / "store").find(KEY) is None
    remount(disk, "size=20m")
    assert Store(disk / "store").obtain(KEY, build).summary == {"good": True}


def test_a_read_only_store_answers_from_what_it_has_and_refuses_the_rest_in_one_line(disk: Path) -> None:
    Store(disk / "store").obtain(KEY, build)
    other = StageKey("denoiser", 1, {"seed": 1})
    remount(disk, "ro")
    assert Store(disk / "store").obtain(KEY, build).file("weights").exists()
    with pytest.raises(StoreError, match=r"must be writable \(Read-only file system\)"):
        Store(disk / "store").obtain(other, build)
    with pytest.raises(StoreError, match="Read-only"):
        Store(disk / "empty").obtain(other, build)
    remount(disk, "rw")
    assert Store(disk / "store").obtain(other, build).summary == {"good": True}


@pytest.mark.parametrize("number", [errno.EROFS, errno.EIO, errno.ESTALE, errno.EDQUOT])
def test_a_disk_that_fails_in_the_middle_keeps_the_checkpoint(tmp_path: Path, number: int) -> None:
    def failing(folder: Path) -> Mapping[str, Any]:
        save_tensors(folder / CHECKPOINT, {"weights": torch.ones(4)})
        raise OSError(number, os.strerror(number), str(folder / "records.json"))

    with pytest.raises(StoreError, match=re.escape(f"({os.strerror(number)})")):
        Store(tmp_path).obtain(KEY, failing)

    def resumed(folder: Path) -> Mapping[str, Any]:
        assert (folder / CHECKPOINT).exists()
        return build(folder)

    Store(tmp_path).obtain(KEY, resumed)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_store_that_vanishes_in_the_middle_is_one_line(tmp_path: Path, writer: str) -> None:
    root = tmp_path / "store"

    def vanishing(folder: Path) -> Mapping[str, Any]:
        shutil.rmtree(root)
        WRITERS[writer](folder / "large")
        return {}

    with pytest.raises(StoreError, match=r"its folder has vanished|cannot be written"):
        Store(root).obtain(KEY, vanishing)
    assert Store(root).obtain(KEY, build).summary == {"good": True}


def test_an_error_that_is_not_the_disks_stays_what_it_is(tmp_path: Path) -> None:
    def broken(folder: Path) -> Mapping[str, Any]:
        raise FileNotFoundError(2, "No such file or directory", "/elsewhere/weights.pt")

    with pytest.raises(FileNotFoundError):
        Store(tmp_path).obtain(KEY, broken)


def test_a_worker_says_that_its_disk_is_at_fault(disk: Path) -> None:
    home = Home(disk / "runs")
    brief = brief_on(home, each=1)
    remount(disk, "ro")
    told = worker.measurements(brief, [brief.identity.recipe])
    assert told
    assert told["class"] == "disk"
    assert "Read-only" in told["reason"]


def test_no_flipped_bit_of_a_manifest_goes_unseen(tmp_path: Path) -> None:
    whole = Store(tmp_path).obtain(KEY, build)
    path, draw = whole.file(MANIFEST), random.Random(0)
    written = path.read_bytes()
    for position in range(len(written)):
        flipped = bytearray(written)
        flipped[position] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        found = Store(tmp_path).find(KEY)
        assert found is None or found.manifest == whole.manifest, (position, bytes(flipped))
    path.write_bytes(written)
    assert Store(tmp_path).find(KEY) is not None


def test_no_cut_of_a_manifest_goes_unseen(tmp_path: Path) -> None:
    path = Store(tmp_path).obtain(KEY, build).file(MANIFEST)
    written = path.read_bytes()
    for length in range(len(written) - 1):
        path.write_bytes(written[:length])
        assert Store(tmp_path).find(KEY) is None, length


def test_no_flipped_bit_of_a_shard_goes_unseen(tmp_path: Path) -> None:
    def shard(folder: Path) -> Mapping[str, Any]:
        pq.write_table(pa.table({"mean": NOISE[:2000]}), folder / "latents-00000.parquet")
        return {}

    entry, draw = Store(tmp_path).obtain(KEY, shard), random.Random(0)
    path = entry.file("latents-00000.parquet")
    written = path.read_bytes()
    for _ in range(200):
        flipped = bytearray(written)
        flipped[draw.randrange(len(written))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        assert Store(tmp_path).find(KEY) is None
    assert Store(tmp_path).obtain(KEY, shard).file("latents-00000.parquet").read_bytes() == written


def test_a_manifest_of_before_digests_still_counts(tmp_path: Path) -> None:
    path = Store(tmp_path).obtain(KEY, build).file(MANIFEST)
    older = {name: value for name, value in json.loads(path.read_text()).items() if name != "digest"}
    path.write_text(json.dumps(older))
    assert Store(tmp_path).find(KEY) is not None


def test_a_clock_that_jumps_changes_no_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = iter([1e9, 2e9, 0.0, 3e9, 1.0] * 100)
    monkeypatch.setattr(time, "time", lambda: next(jumps))

    def timed(folder: Path) -> Mapping[str, Any]:
        time.sleep(0.05)
        return build(folder)

    assert 0.05 <= Store(tmp_path).obtain(KEY, timed).seconds < 5
