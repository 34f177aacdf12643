"""A card that the installed PyTorch can't use is one line and exit code 2 from every command, and the CPU goes on.

Ray has the cards that were counted, and no others.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import made_up_cards
import numpy as np
import pytest
import ray
import torch
from made_up_cards import GTX_1060, RTX_3060
from PIL import Image
from small_dataset import plant
from typer.testing import CliRunner, Result

from latentsweep.commands.app import app
from latentsweep.configuration import CONFIG, Configuration
from latentsweep.execution import packing
from latentsweep.execution.cluster import ENVIRONMENT, LOOPBACK, cluster, pack_job
from latentsweep.execution.shared_stages import Shared
from latentsweep.execution.worker import Brief
from latentsweep.stages.model_folder import DENOISER, SCALING, VAE
from latentsweep.storage.home import Home
from trainables.autoencoder.vae import Autoencoder
from trainables.denoiser.unet import UNet
from trainables.errors import CardError, ConfigError
from trainables.loop.checkpoint import save_tensors
from trainables.loop.settings import Execution
from trainables.recipes import SMOKE


class OtherProcess:
    """Asks in this process, where the made-up cards are; what goes out and comes back is pickled all the same."""

    def __init__(self, workers: int, context: object) -> None: ...

    def __enter__(self) -> OtherProcess:
        return self

    def __exit__(self, *error: object) -> None: ...

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(pickle.loads(pickle.dumps(work))())
        except Exception as error:
            future.set_exception(pickle.loads(pickle.dumps(error)))
        return future


@pytest.fixture(autouse=True)
def asked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "ProcessPoolExecutor", OtherProcess)
    monkeypatch.delenv("LATENTSWEEP_DEVICE", raising=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a dataset, pictures, a configuration, and an untrained model's folder beside it."""
    plant(Home(tmp_path / "runs"))
    (tmp_path / "pictures").mkdir()
    for number in range(2):
        Image.fromarray(np.full((64, 64), number, np.uint8)).save(tmp_path / "pictures" / f"{number}.png")
    configuration, model = Configuration("tiny", 0, SMOKE), tmp_path / "model"
    model.mkdir()
    for path in (tmp_path / "best.yaml", model / CONFIG):
        configuration.write(path)
    save_tensors(model / VAE, Autoencoder(SMOKE.vae).state_dict())
    save_tensors(model / DENOISER, UNet(SMOKE.vae.latent_channels, SMOKE.diffusion).state_dict())
    channels = SMOKE.vae.latent_channels
    save_tensors(model / SCALING, {"mean": torch.zeros(channels), "deviation": torch.ones(channels)})
    return tmp_path


COMMANDS = {
    "plan": ["plan", "--recipe", "smoke"],
    "sweep": ["sweep", "--dataset", "tiny", "--recipe", "smoke", "--home", "runs"],
    "sweep --dry-run": ["sweep", "--dataset", "tiny", "--recipe", "smoke", "--home", "runs", "--dry-run"],
    "ablate": ["ablate", "--dataset", "tiny", "--recipe", "smoke", "--home", "runs"],
    "train": ["train", "--config", "best.yaml", "--home", "runs"],
    "sample": ["sample", "model", "--to", "drawn", "--home", "runs"],
    "evaluate RUN": ["evaluate", "model", "--home", "runs"],
    "evaluate --images": ["evaluate", "--images", "pictures", "--dataset", "tiny", "--home", "runs"],
}


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def refused(*words: str) -> str:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        done = run(*words)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("error: ")
    assert "\n" not in done.stderr.strip()
    assert not [warning for warning in seen if "CUDA" in str(warning.message)]
    return done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_an_old_driver_ends_a_command_with_one_line(
    command: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    made_up_cards.plant(monkeypatch, RTX_3060, driver=12040)
    said = refused(*COMMANDS[command])
    assert "driver is made for CUDA 12.4" in said
    assert "--device cpu" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_an_old_card_ends_a_command_with_one_line(command: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    made_up_cards.plant(monkeypatch, GTX_1060)
    said = refused(*COMMANDS[command])
    assert "compute capability 6.1" in said
    assert "torch==2.14.1+cu126" in said


@pytest.mark.slow
@pytest.mark.parametrize("command", ["plan", "sweep --dry-run"])
def test_on_the_cpu_no_card_is_looked_at(command: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    made_up_cards.plant(monkeypatch, RTX_3060, driver=12040)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        done = run(*COMMANDS[command], "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert "no CUDA card is used" in done.output
    assert not [warning for warning in seen if "CUDA" in str(warning.message)]
    monkeypatch.setenv("LATENTSWEEP_DEVICE", "cpu")
    assert run(*COMMANDS[command]).exit_code == 0


@pytest.mark.slow
def test_images_are_drawn_and_measured_on_the_cpu(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    made_up_cards.plant(monkeypatch, GTX_1060)
    done = run(*COMMANDS["sample"], "--count", "1", "--device", "cpu", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["files"] == ["seed-000000.png", "grid.png"]


def test_a_process_that_ends_as_it_asks_the_cards_is_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(self: OtherProcess, work: object) -> None:
        raise BrokenProcessPool("terminated abruptly")

    made_up_cards.plant(monkeypatch, RTX_3060)
    monkeypatch.setattr(OtherProcess, "submit", dies)
    with pytest.raises(CardError, match="see what nvidia-smi says"):
        packing.cards()


def test_a_job_on_the_cpu_counts_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up_cards.plant(monkeypatch, RTX_3060)
    on_card, on_cpu = (pack_job(SMOKE, "local", Execution(device=device), concurrent=1) for device in ("auto", "cpu"))
    assert (on_card.cards, on_card.gpu_share) == ((0,), 1.0)
    assert (on_cpu.cards, on_cpu.gpu_share, on_cpu.execution.device) == ((), 0.0, "cpu")
    assert on_cpu.memory_gib("diffusion") is None
    monkeypatch.setattr("latentsweep.execution.cluster.nodes", lambda address: [{"CPU": 8.0, "GPU": 2.0}])
    joined = pack_job(SMOKE, "10.0.0.1:6379", Execution(device="cpu"), concurrent=1)
    assert (joined.cards, joined.gpu_share) == ((), 0.0)


def test_a_job_that_insists_on_a_card_is_refused_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up_cards.plant(monkeypatch)
    with pytest.raises(CardError, match="no CUDA card is there"):
        pack_job(SMOKE, "local", Execution(device="cuda"), concurrent=1)
    made_up_cards.plant(monkeypatch, RTX_3060, RTX_3060)
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES"):
        pack_job(SMOKE, "local", Execution(device="cuda:1"), concurrent=1)


@pytest.mark.slow
@pytest.mark.parametrize(("device", "counted"), [("auto", 2), ("cpu", 0)])
@pytest.mark.parametrize("command", ["sweep", "ablate", "train"])
def test_ray_is_told_the_cards_that_were_counted(
    command: str, device: str, counted: int, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    def cluster(address: str, *, gpus: int | None = None, cards: str | None = None) -> None:
        told.append((address, gpus, cards))
        raise ConfigError("far enough")

    monkeypatch.chdir(home)
    monkeypatch.setattr("latentsweep.jobs.job.cluster", cluster)
    made_up_cards.plant(monkeypatch, RTX_3060, RTX_3060)
    assert "far enough" in run(*COMMANDS[command], "--device", device, "--no-mlflow").stderr
    assert told == [("local", counted, None)]


@pytest.mark.parametrize("command", ["sweep", "ablate"])
def test_what_is_set_of_the_execution_reaches_the_trainings(
    command: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(execution: Execution) -> None:
        raise ConfigError(f"{execution.device} {execution.tf32} {execution.micro_batch}, {execution.threads} threads")

    def obtain(shared: Sequence[Shared], *rest: object) -> None:
        end(shared[0].brief.execution)

    def run_trials(*_: object, briefs: Mapping[str, Brief], **rest: object) -> None:
        assert briefs["vae"].execution == briefs["diffusion"].execution
        end(briefs["diffusion"].execution)

    monkeypatch.chdir(home)
    monkeypatch.setattr("latentsweep.jobs.job.cluster", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr("latentsweep.jobs.job.check_resources", lambda *_: None)
    monkeypatch.setattr("latentsweep.jobs.job.obtain", obtain)
    monkeypatch.setattr("latentsweep.execution.tuning.run_trials", run_trials)
    monkeypatch.setattr(packing, "cores", lambda: 8)
    words = [
        "--device",
        "cpu",
        "--concurrent",
        "2",
        "--set",
        "execution.tf32=true",
        "--set",
        "execution.micro_batch=2",
    ]
    assert "error: cpu True 2, 4 threads" in run(*COMMANDS[command], *words, "--no-mlflow").stderr


@pytest.mark.ray
@pytest.mark.slow
def test_a_ray_of_ones_own_has_so_many_cards_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")  # beside which Ray wouldn't believe in cards
    monkeypatch.delenv("RAY_OVERRIDE_RESOURCES", raising=False)  # which Ray believes before all else
    for name, value in (ENVIRONMENT | LOOPBACK).items():  # what `cluster` sets must not stay for the tests after this
        monkeypatch.setenv(name, value)
    for gpus in (0, 3):
        with cluster(cpus=1, gpus=gpus):
            assert ray.cluster_resources().get("GPU", 0) == gpus
