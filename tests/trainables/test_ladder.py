"""The ladder: which rungs there are, and that a training which runs out of memory ends with the same result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from made_up_cards import OTHER_ERRORS, OUT_OF_MEMORY

from trainables.denoiser.latents import ChannelStatistics, Latents
from trainables.denoiser.training import train_denoiser
from trainables.denoiser.unet import UNet
from trainables.errors import CapacityError
from trainables.loop.cards import out_of_memory
from trainables.loop.execution import all_or_none
from trainables.loop.records import Record
from trainables.loop.settings import Execution
from trainables.recipes import SMOKE
from trainables.resources.ladder import Climb, climb, describe_rung, rungs

CONFIG = SMOKE.replace(
    **{
        "diffusion.widths": (8, 8),
        "diffusion.attention_levels": (),
        "diffusion.embedding_channels": 16,
        "diffusion.batch_size": 4,
        "diffusion.steps": 12,
        "diffusion.validations": 3,
        "diffusion.dropout": 0.5,
        "diffusion.ema_decay": 0.0,
        "diffusion.precision": "fp32",
    }
).diffusion


def settings(execution: Execution, batch: int) -> list[tuple[int | None, bool]]:
    return [(rung.micro_batch, rung.checkpoint_activations) for rung in rungs(execution, batch)]


def latents(count: int) -> Latents:
    mean, log_variance = torch.randn(2, count, 4, 8, 8, generator=torch.Generator().manual_seed(2)).half()
    return Latents(mean, log_variance - 3, ChannelStatistics.of(mean, log_variance - 3))


def denoiser(folder: Path, execution: Execution) -> tuple[UNet, list[Record]]:
    averages, records = train_denoiser(CONFIG, latents(12), latents(5), seed=3, folder=folder, execution=execution)
    return averages.own, records


def test_the_micro_batch_is_halved_down_to_one_and_then_activations_are_checkpointed() -> None:
    assert settings(Execution(), 12) == [(None, False), (6, False), (3, False), (1, False), (1, True)]


def test_the_ladder_starts_where_the_execution_stands() -> None:
    assert settings(Execution(micro_batch=2), 12) == [(2, False), (1, False), (1, True)]
    assert settings(Execution(workers=4), 12) == [(None, False), (1, False), (1, True)]
    assert settings(Execution(micro_batch=1, checkpoint_activations=True), 12) == [(1, True)]


def test_a_rung_is_said_in_words() -> None:
    assert describe_rung(Execution(), 16) == "the whole batch of 16"
    assert describe_rung(Execution(micro_batch=64), 16) == "the whole batch of 16"
    rung = Execution(micro_batch=1, checkpoint_activations=True)
    assert describe_rung(rung, 16) == "micro-batch 1 of 16, checkpointed activations"


@pytest.mark.slow
@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_a_training_goes_down_until_it_fits_and_says_what_it_took(error: RuntimeError) -> None:
    def train(execution: Execution) -> str:
        with all_or_none():
            if (execution.micro_batch or 8) > 2:
                raise error
        return "trained"

    result, climbed = climb(train, Execution(), 8, "the denoiser")
    assert result == "trained"
    assert climbed == Climb(Execution(micro_batch=2), 2)
    assert climbed.to_plain() == {"micro_batch": 2, "checkpointed": False, "out_of_memory": 2}


@pytest.mark.slow
def test_what_fits_on_no_rung_is_refused_in_one_line() -> None:
    def train(execution: Execution) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB\nmore")

    with pytest.raises(CapacityError, match=r"micro-batch 1 of 8, checkpointed activations in 3\.00 GiB") as caught:
        climb(train, Execution(memory_gib=3.0), 8, "the denoiser")
    assert "\n" not in str(caught.value)
    assert "--card-gib" in str(caught.value)


@pytest.mark.parametrize("error", [*OTHER_ERRORS, ValueError("something else")], ids=str)
def test_another_error_is_no_reason_to_climb(error: Exception) -> None:
    tried = []

    def train(execution: Execution) -> None:
        tried.append(execution)
        with all_or_none():
            raise error

    with pytest.raises(type(error)) as caught:
        climb(train, Execution(), 8, "the denoiser")
    assert caught.value is error
    assert len(tried) == 1


def test_no_engine_is_a_lack_of_memory_where_the_allocator_had_refused_some(monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("GET was unable to find an engine to execute this computation")
    assert not out_of_memory(error)
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda: {"num_ooms": 1})
    assert out_of_memory(error)


def test_after_running_out_the_training_goes_on_from_its_checkpoint_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    expected, records = denoiser(whole, Execution())
    forward, sizes = UNet.forward, []

    def short_of_memory(self: UNet, z_t, t, *rest, **options):  # type: ignore[no-untyped-def]
        if self.training:
            sizes.append(len(z_t))
            if len(z_t) > 2 and len(sizes) > 6:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, z_t, t, *rest, **options)

    monkeypatch.setattr(UNet, "forward", short_of_memory)
    (model, again), climbed = climb(lambda rung: denoiser(broken, rung), Execution(), 4, "the denoiser")
    assert (climbed.execution.micro_batch, climbed.out_of_memory) == (2, 1)
    assert sizes == [4] * 7 + [2, 2] * 8, "six steps, one that fails, and eight from the checkpoint at step 4"
    assert [r["step"] for r in again] == [r["step"] for r in records]
    for key, value in expected.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=1e-3, atol=2e-5)


def worker(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)

    def train(execution: Execution) -> int | None:
        with all_or_none():
            if rank == 1 and execution.micro_batch is None:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return execution.micro_batch

    result, climbed = climb(train, Execution(workers=2), 8, "the denoiser")
    (folder / f"{rank}.json").write_text(json.dumps([result, climbed.out_of_memory]))
    dist.destroy_process_group()


@pytest.mark.slow
def test_workers_climb_together_where_one_runs_out(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(worker, (tmp_path,), nprocs=2)
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)] == [[2, 1], [2, 1]]


def test_a_graph_that_does_not_fit_goes_before_the_batch_is_split() -> None:
    asked = Execution(cuda_graph=True)
    steps = [(rung.cuda_graph, rung.micro_batch) for rung in rungs(asked, 4)]
    assert steps[:4] == [(True, None), (False, None), (False, 2), (False, 1)]
