"""The loops: golden losses, continuing bit for bit, several workers as one, divergence."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from trainables.diffusion_training import train_denoiser
from trainables.errors import DivergenceError
from trainables.execution import Execution
from trainables.latents import ChannelStatistics, Latents
from trainables.recipes import SMOKE, Recipe
from trainables.training import CHECKPOINT, Record, Report, evenly_spaced, ignore_report
from trainables.vae_training import train_vae

GOLDEN = Path(__file__).parents[1] / "golden" / "losses.json"
TINY = SMOKE.replace(
    **{
        "data.image_size": 16,
        "vae.widths": (8, 8),
        "vae.max_steps": 20,
        "vae.batch_size": 4,
        "vae.precision": "fp32",
        "diffusion.widths": (8, 8),
        "diffusion.attention_levels": (1,),
        "diffusion.embedding_channels": 16,
        "diffusion.batch_size": 4,
        "diffusion.steps": 20,
        "diffusion.dropout": 0.1,
        "diffusion.precision": "fp32",
    }
)


class KilledError(Exception):
    """Stands for a kill right after a checkpoint."""


def slices(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def latents(count: int) -> Latents:
    random = torch.Generator().manual_seed(2)
    mean = torch.randn(count, 4, 8, 8, generator=random).half()
    log_variance = torch.randn(count, 4, 8, 8, generator=random).half() - 3
    return Latents(mean, log_variance, ChannelStatistics.of(mean, log_variance))


def vae_records(
    folder: Path, recipe: Recipe = TINY, report: Report = ignore_report, **execution: int
) -> list[Record]:
    _, records = train_vae(
        recipe.vae, slices(12), slices(5), seed=3, folder=folder, execution=Execution(**execution), report=report
    )
    return records


def denoiser_records(
    folder: Path, recipe: Recipe = TINY, report=lambda records: None, **execution: int
) -> list[Record]:  # type: ignore[no-untyped-def]
    _, records = train_denoiser(
        recipe.diffusion,
        latents(12),
        latents(5),
        seed=3,
        folder=folder,
        execution=Execution(**execution),
        report=report,
    )
    return records


LOOPS = {"vae": vae_records, "denoiser": denoiser_records}


def without_time(records: Sequence[Record]) -> list[Record]:
    return [{name: value for name, value in record.items() if name != "time"} for record in records]


@pytest.mark.parametrize("name", LOOPS)
def test_the_first_losses_are_what_they_were(name: str, tmp_path: Path) -> None:
    """``LATENTSWEEP_REWRITE_GOLDEN=1`` writes them anew, for a change that is meant to change them."""
    losses = [record["train/loss"] for record in LOOPS[name](tmp_path) if "train/loss" in record]
    assert len(losses) == 20
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("LATENTSWEEP_REWRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(golden | {name: losses}, indent=1))
        golden[name] = losses
    assert losses == pytest.approx(golden[name], rel=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", LOOPS)
def test_a_run_that_was_killed_and_continued_equals_one_that_was_not(
    name: str, precision: str, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    recipe = TINY.replace(**{"vae.precision": precision, "diffusion.precision": precision})
    expected = without_time(LOOPS[name](whole, recipe))

    def kill(records: Sequence[Record]) -> None:
        if records[-1]["step"] >= 10:
            raise KilledError

    with pytest.raises(KilledError):
        LOOPS[name](broken, recipe, report=kill)
    heard: list[Record] = []
    continued = LOOPS[name](broken, recipe, report=lambda records: heard.extend(records))
    assert without_time(continued) == expected
    assert without_time(heard) == expected, "what came before the kill is reported again"


@pytest.mark.parametrize("name", LOOPS)
def test_a_damaged_checkpoint_costs_time_and_not_the_result(name: str, tmp_path: Path) -> None:
    expected = without_time(LOOPS[name](tmp_path))
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:1000])
    assert without_time(LOOPS[name](tmp_path)) == expected


@pytest.mark.parametrize("name", LOOPS)
def test_micro_batches_change_nothing_but_the_order_of_sums(name: str, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir(), other.mkdir()
    recipe = TINY.replace(**{"diffusion.dropout": 0.0})
    whole, parts = LOOPS[name](one, recipe), LOOPS[name](other, recipe, micro_batch=1)
    assert [r["train/loss"] for r in parts if "train/loss" in r] == pytest.approx(
        [r["train/loss"] for r in whole if "train/loss" in r], rel=1e-3
    )


def worker(rank: int, name: str, folder: Path, recipe: Recipe) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    records = LOOPS[name](folder, recipe)
    if rank == 0:
        (folder / "records.json").write_text(json.dumps(records))
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOPS)
def test_two_workers_train_as_one(name: str, tmp_path: Path) -> None:
    recipe = TINY.replace(**{"diffusion.dropout": 0.0})
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir(), together.mkdir()
    expected = [r["train/loss"] for r in LOOPS[name](alone, recipe) if "train/loss" in r]
    torch.multiprocessing.spawn(worker, (name, together, recipe), nprocs=2)
    records = json.loads((together / "records.json").read_text())
    assert [r["train/loss"] for r in records if "train/loss" in r] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", LOOPS)
def test_a_divergence_ends_the_run_and_says_where(name: str, tmp_path: Path) -> None:
    section = {"vae": "vae", "denoiser": "diffusion"}[name]
    recipe = TINY.replace(**{f"{section}.learning_rate": 1e30, f"{section}.gradient_clip": 0.0})
    with pytest.raises(DivergenceError, match="no longer finite at step") as caught:
        LOOPS[name](tmp_path, recipe)
    assert 0 < caught.value.step <= 20


def test_both_cutmix_forms_train_and_differ(tmp_path: Path) -> None:
    losses = {}
    for form in ("z0", "zt"):
        folder = tmp_path / form
        folder.mkdir()
        recipe = TINY.replace(**{"diffusion.cutmix_form": form, "diffusion.cutmix_probability": 1.0})
        losses[form] = denoiser_records(folder, recipe)[-1]["val/mse"]
    assert losses["z0"] != losses["zt"]


def test_steps_are_evenly_spaced_and_end_at_the_last() -> None:
    assert evenly_spaced(10, 3) == [4, 7, 10]
    assert evenly_spaced(2, 5) == [1, 2]
    assert evenly_spaced(5, 0) == []
