"""What the ladder did is in a result's summary and on its run; a trial without enough memory fails as such."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made_up_cards import OTHER_ERRORS, OUT_OF_MEMORY

from latentsweep.execution import worker
from latentsweep.execution.worker import Brief
from latentsweep.records.redaction import redact
from latentsweep.records.results import execution_tags
from latentsweep.stages.context import Context
from latentsweep.stages.stage import Identity
from latentsweep.stages.table import VAE
from latentsweep.storage.entries import Entry
from trainables.autoencoder.vae import Autoencoder
from trainables.errors import CapacityError
from trainables.loop.settings import GIB, Execution
from trainables.recipes import SMOKE
from trainables.resources.memory import RESERVE, predict_memory

RECIPE = SMOKE.replace(
    **{
        "data.image_size": 16,
        "vae.widths": (8, 8),
        "vae.batch_size": 4,
        "vae.max_steps": 3,
        "vae.precision": "fp32",
        "diffusion.widths": (8, 8),
        "diffusion.attention_levels": (),
    }
)
SLICES = 8
CPU = {
    "latentsweep.device": "cpu",
    "latentsweep.precision": "fp32",
    "latentsweep.tf32": "False",
    "latentsweep.cuda_graph": "False",
}


@pytest.fixture(autouse=True)
def few_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (SLICES, 16, 16), dtype=np.uint8)
    monkeypatch.setattr(Context, "slices", lambda *arguments: SimpleNamespace(images=images, learned=images))


def summary(folder: Path, execution: Execution) -> dict[str, Any]:
    return VAE.run(Context(None, None, RECIPE, 0, execution, None), folder)  # type: ignore[arg-type]


def entry(memory: dict[str, Any]) -> Entry:
    return Entry("vae/0", Path(), {"summary": memory})


def test_a_training_that_fits_says_so(tmp_path: Path) -> None:
    found = summary(tmp_path, Execution())
    assert found["memory"] == {"micro_batch": None, "checkpointed": False, "out_of_memory": 0}
    assert found["execution"] == {"device": "cpu", "precision": "fp32", "tf32": False, "cuda_graph": False}
    assert execution_tags(entry(found)) == CPU


@pytest.mark.slow
def test_running_out_of_memory_is_in_the_summary_and_on_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Autoencoder.encode

    def short_of_memory(self: Autoencoder, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.training and len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, images)

    monkeypatch.setattr(Autoencoder, "encode", short_of_memory)
    found = summary(tmp_path, Execution())
    assert found["memory"] == {"micro_batch": 1, "checkpointed": False, "out_of_memory": 2}
    assert execution_tags(entry(found)) == CPU | {"latentsweep.micro_batch": "1", "latentsweep.out_of_memory": "2"}


@pytest.mark.slow
def test_a_predicted_lack_of_memory_takes_a_rung_before_it_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.autoencoder.training.CHUNK", 1)
    needed = predict_memory(RECIPE, "vae", Execution(micro_batch=1), device="cpu", slices=SLICES).peak
    tight = Execution(device="cpu", memory_gib=1.001 * needed * RESERVE / GIB)
    assert summary(tmp_path, tight)["memory"] == {"micro_batch": 1, "checkpointed": False, "out_of_memory": 0}


@pytest.mark.parametrize("error", [CapacityError("it must fit"), *OUT_OF_MEMORY], ids=str)
def test_a_trial_without_enough_memory_is_of_that_class(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(Brief, "pipeline", fails)
    brief = Brief("store", "datasets", "demo", Identity(RECIPE, "", 0, "weights"), Execution(), "")
    failure = {"reason": redact(error), "class": "memory", "log": ""}
    assert worker.measurements(brief, [RECIPE]) == failure


@pytest.mark.parametrize("error", OTHER_ERRORS, ids=str)
def test_another_error_of_a_trial_is_raised_to_be_tried_again(
    error: RuntimeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(Brief, "pipeline", fails)
    brief = Brief("store", "datasets", "demo", Identity(RECIPE, "", 0, "weights"), Execution(), "")
    with pytest.raises(type(error)) as caught:
        worker.measurements(brief, [RECIPE])
    assert caught.value is error
