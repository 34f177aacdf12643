"""Work that is healthy lives, however long it is silent; and an encoding that was ended is not begun anew."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_dataset import plant

from latentsweep.execution import cluster
from latentsweep.stages import pieces
from latentsweep.stages.pieces import encode_in_pieces
from latentsweep.storage.entries import StageKey
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.autoencoder.training import CHUNK, encode_slices
from trainables.autoencoder.vae import Autoencoder
from trainables.recipes import SMOKE

LIMIT = 8.0
"""Seconds without a beat that end a process of these tests."""
SILENT = 1.5 * LIMIT
"""Seconds of the work that another process does meanwhile."""
CPU = torch.device("cpu")


def start(code: str, *words: object) -> subprocess.Popen[str]:
    """A process that is watched as a worker is; its first word is the path of its log."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        env={**os.environ, "LATENTSWEEP_HANG_MINUTES": str(LIMIT / 60), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.returncode
        assert time.monotonic() < deadline
        time.sleep(0.05)


WAITS = """
import sys, time
from pathlib import Path
from latentsweep.execution.work_log import noted
from latentsweep.storage.entries import StageKey
from latentsweep.storage.store import Store
log, root, begun = map(Path, sys.argv[1:])
with noted(log):
    begun.touch()
    Store(root).obtain(StageKey("vae", 1, {}), lambda folder: {"by": "the second"})
    print("had it", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_who_waits_for_the_training_of_another_sweep_lives_and_is_watched_again_afterwards(tmp_path: Path) -> None:
    store, key, begun = Store(tmp_path / "store"), StageKey("vae", 1, {}), tmp_path / "begun"

    def train(folder: Path) -> dict[str, Any]:
        nonlocal process
        process = start(WAITS, tmp_path / "log", store.root, begun)
        wait_for(begun.exists, process)
        time.sleep(SILENT)
        assert process.poll() is None, "it waits for this training"
        return {"by": "the first"}

    process: subprocess.Popen[str] | None = None
    assert store.obtain(key, train).summary == {"by": "the first"}
    assert process
    assert process.communicate(timeout=300)[0] == "had it\n"
    assert process.returncode == 1, "it hangs afterwards, and is ended for that"


TOGETHER = """
import sys, time
from pathlib import Path
import torch.distributed as dist
from latentsweep.execution.work_log import noted
from trainables.loop import execution as ex
from trainables.loop.watchdog import beat
log, meeting, rank = sys.argv[1:]
dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=int(rank), world_size=2)
with noted(Path(log)):
    for wait in (lambda: ex.from_first(1.0), ex.barrier):
        for _ in range(10 if rank == "0" else 0):
            time.sleep(SECONDS)
            beat()
        wait()
print("done")
""".replace("SECONDS", str(SILENT / 10))


@pytest.mark.slow
def test_a_worker_that_waits_for_the_first_lives_while_that_encodes(tmp_path: Path) -> None:
    both = [start(TOGETHER, tmp_path / f"log-{rank}", tmp_path / "meeting", rank) for rank in range(2)]
    assert [process.communicate(timeout=300)[0] for process in both] == ["done\n"] * 2
    assert [process.returncode for process in both] == [0, 0]


def test_workers_of_a_training_wait_for_each_other_as_long_as_a_full_encoding_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {}
    torch_trainer = pytest.importorskip("ray.train.torch")
    monkeypatch.setattr(torch_trainer, "TorchConfig", lambda **options: told.update(options))

    class Trainer:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def fit(self) -> None:
            pass

    monkeypatch.setattr(torch_trainer, "TorchTrainer", Trainer)
    cluster.run_under_train(print, {}, name="", folder=tmp_path, workers=2, threads=1, gpu_share=0)
    assert told["timeout_s"] > 145_000 * 0.077, "145,000 slices on a CPU, where half an hour is the default"


SLOW = """
import sys, time
from pathlib import Path
import torch
from latentsweep.execution.work_log import noted
from trainables.autoencoder.training import CHUNK, encode_slices, validation_loss
from trainables.autoencoder.vae import Autoencoder
from trainables.recipes import SMOKE
config = SMOKE.vae.replace(widths=(8, 8), precision="fp32")
model = Autoencoder(config)
encode = model.encode
def slowly(images):
    time.sleep(SECONDS)
    return encode(images)
model.encode = slowly
slices = torch.zeros(10 * CHUNK, 16, 16, dtype=torch.uint8)
with noted(Path(sys.argv[1])):
    encode_slices(model, slices, torch.device("cpu"))
    validation_loss(model, slices, config, torch.device("cpu"))
print("done")
""".replace("SECONDS", str(SILENT / 10))


@pytest.mark.slow
def test_encoding_and_validating_many_slices_beats(tmp_path: Path) -> None:
    process = start(SLOW, tmp_path / "log")
    assert process.communicate(timeout=300)[0] == "done\n"
    assert process.returncode == 0


ENCODES = """
import os, signal, sys
from pathlib import Path
from unittest import mock
import torch
from latentsweep.datasets.slices import open_dataset
from latentsweep.stages import latents, pieces
from latentsweep.stages.table import LATENTS
from latentsweep.stages.context import Context
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.autoencoder.training import CHUNK
from trainables.autoencoder.vae import Autoencoder
from trainables.loop.settings import Execution
from trainables.measures.weights import InceptionWeights
from trainables.recipes import SMOKE

folder, most = Path(sys.argv[1]), int(sys.argv[2])
home = Home(folder)
recipe = SMOKE.replace(**{"data.image_size": 16, "vae.widths": (8, 8), "vae.precision": "fp32"})
weights = InceptionWeights(Path("not-needed"), "0" * 64)
context = Context(
    Store.of(home), open_dataset(home.datasets, "tiny"), recipe, 0, Execution(device="cpu"), weights
)
torch.manual_seed(0)
model = Autoencoder(recipe.vae).eval()
encode, done = pieces.encode_slices, 0
def counted(*given):
    global done
    if done == most:
        os.kill(os.getpid(), signal.SIGKILL)
    done += 1
    return encode(*given)
pieces.encode_slices, pieces.ROWS_PER_PIECE = counted, CHUNK
trained = mock.Mock(file=lambda name: Path(name))
trained.name = "vae/made-up"
with mock.patch.object(latents, "load_vae", lambda *_: model), mock.patch.object(
    Context, "obtain", lambda self, stage: trained
):
    context.store.obtain(LATENTS.key(context.identity), lambda folder: LATENTS.run(context, folder))
print(done)
"""


@pytest.mark.slow
def test_an_encoding_that_was_killed_goes_on_from_its_pieces_to_the_same_bits(tmp_path: Path) -> None:
    def run(home: Home, most: int) -> tuple[int, str]:
        process = start(ENCODES, home.root, most)
        said = process.communicate(timeout=300)[0].strip()
        return process.returncode, said

    calm, killed = (Home(tmp_path / name) for name in ("calm", "killed"))
    for home in (calm, killed):
        plant(home, side=16, each=CHUNK + 5)
    assert run(calm, 99) == (0, "8"), "two pieces of each of three splits, and two of the mirrored"
    assert run(killed, 3) == (-signal.SIGKILL, "")
    assert run(killed, 2) == (-signal.SIGKILL, "")
    assert run(killed, 99) == (0, "3")
    found = [Store.of(home).entries()[0] for home in (calm, killed)]
    assert found[0].summary == found[1].summary
    assert found[0].manifest["files"] == found[1].manifest["files"]
    assert list(found[0].manifest["files"]) == ["latents-00000.parquet"], "no piece is a part of the result"
    assert not list(found[1].folder.glob(".*"))


@pytest.fixture
def model() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(SMOKE.vae.replace(widths=(8, 8), precision="fp32")).eval()


@pytest.mark.parametrize("count", [0, 1, CHUNK, 2 * CHUNK, 2 * CHUNK + 1, 5 * CHUNK - 1])
def test_pieces_make_the_same_bits_as_one_encoding(
    model: Autoencoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(pieces, "ROWS_PER_PIECE", 2 * CHUNK)
    images = np.random.default_rng(0).integers(0, 256, (count, 16, 16), dtype=np.uint8)
    expected = encode_slices(model, torch.from_numpy(images), CPU)
    for _ in range(2):
        found = encode_in_pieces(model, images, CPU, tmp_path, "train")
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))


def test_a_piece_that_is_damaged_or_of_other_slices_or_another_model_is_not_taken(
    model: Autoencoder, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)

    def check(model: Autoencoder, images: np.ndarray) -> None:
        found = encode_in_pieces(model, images, CPU, tmp_path, "train")
        assert torch.equal(found[0], encode_slices(model, torch.from_numpy(images), CPU)[0])

    check(model, images)
    check(model, images + 1)
    other = copy.deepcopy(model)
    torch.nn.init.zeros_(next(other.parameters()))
    check(other, images)
    path = next(tmp_path.glob(".train-*"))
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    check(model, images)
