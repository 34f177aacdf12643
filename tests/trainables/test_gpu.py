"""What only a GPU can show, skipped without one. On a machine that has one: ``pytest tests/trainables/test_gpu.py``.

Where other tests run in the same process, the card is hidden from all of them: :mod:`hidden_cards`.

Predicted peaks against the allocator's, packed trials inside 6 GiB, and a real out-of-memory that recovers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from latentsweep.execution.packing import cards
from trainables.autoencoder.training import decode_to_bytes, train_vae
from trainables.autoencoder.vae import Autoencoder
from trainables.denoiser.latents import ChannelStatistics, Latents
from trainables.denoiser.training import train_denoiser
from trainables.loop.settings import GIB, Execution
from trainables.measures.inception import InceptionExtractor
from trainables.measures.weights import find_weights
from trainables.recipes import IMPROVED, PAPER, Recipe
from trainables.resources.ladder import climb
from trainables.resources.memory import CONTEXT, RESERVE, predict_memory, rung_that_fits

REASON = "needs a CUDA card, and there is none here, or other tests run too, which hides it"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason=REASON),
]

SLICES = 64
CARD = 6 * GIB
SHORT = {"vae.max_steps": 4, "diffusion.steps": 4, "vae.validations": 1, "diffusion.validations": 1}


@pytest.fixture(autouse=True)
def whole_card() -> Iterator[None]:
    free_and_uncapped()
    yield
    free_and_uncapped()


def free_and_uncapped() -> None:
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def trained(recipe: Recipe, section: str, execution: Execution, folder: Path) -> list[float]:
    """Losses of a few steps of a real training; no validation but the last, after the peak was read."""
    folder.mkdir(exist_ok=True)
    if section == "vae":
        side = recipe.data.image_size
        slices = torch.randint(0, 256, (SLICES, side, side), dtype=torch.uint8)
        _, records = train_vae(recipe.vae, slices, slices[:4], seed=0, folder=folder, execution=execution)
    else:
        shape = (SLICES, recipe.vae.latent_channels, recipe.latent_size, recipe.latent_size)
        mean, spread = torch.randn(shape).half(), torch.full(shape, -3.0).half()
        latents = Latents(mean, spread, ChannelStatistics.of(mean, spread))
        held_out = Latents(mean[:4], spread[:4], latents.statistics)
        _, records = train_denoiser(recipe.diffusion, latents, held_out, seed=0, folder=folder, execution=execution)
    return [record["train/loss"] for record in records if "train/loss" in record]


@pytest.mark.parametrize(
    "rung", [{}, {"micro_batch": 4}, {"micro_batch": 4, "checkpoint_activations": True}], ids=str
)
@pytest.mark.parametrize("section", ["vae", "diffusion"])
@pytest.mark.parametrize("recipe", [PAPER, IMPROVED], ids=["paper", "improved"])
def test_the_predicted_peak_is_within_15_percent_of_the_allocators(
    recipe: Recipe, section: str, rung: dict[str, int], tmp_path: Path
) -> None:
    execution = Execution(**rung)  # type: ignore[arg-type]
    trained(recipe.replace(**SHORT), section, execution, tmp_path / "run")
    measured = torch.cuda.max_memory_allocated()
    prediction = predict_memory(recipe, section, execution, device="cuda", slices=SLICES)
    assert prediction.step == pytest.approx(measured, rel=0.15)


def packed(rank: int, share: int, folder: Path) -> None:
    """One of the trials of a card, in a process of its own."""
    execution = Execution(memory_gib=(CARD // share - CONTEXT) / GIB)
    execution.prepare()
    trained(PAPER.replace(**SHORT), "diffusion", execution, folder / str(rank))
    assert torch.cuda.max_memory_reserved() + CONTEXT <= CARD // share
    free, total = torch.cuda.mem_get_info()
    (folder / f"used-{rank}").write_text(str(total - free))


@pytest.mark.parametrize("trials", [2, 4])
def test_packed_trials_stay_under_six_gib_in_all(trials: int, tmp_path: Path) -> None:
    free, total = torch.cuda.mem_get_info()
    before = total - free
    torch.multiprocessing.spawn(packed, (trials, tmp_path), nprocs=trials)
    used = [int((tmp_path / f"used-{rank}").read_text()) - before for rank in range(trials)]
    assert max(used) <= CARD


@pytest.mark.parametrize("section", ["vae", "diffusion"])
def test_a_forced_out_of_memory_recovers_by_the_ladder(section: str, tmp_path: Path) -> None:
    recipe = PAPER.replace(**{f"{section}.batch_size": 32, f"{section}.precision": "fp32", **SHORT})
    expected = trained(recipe, section, Execution(), tmp_path / "whole")
    free_and_uncapped()
    whole, least = (
        predict_memory(recipe, section, rung, device="cuda", slices=SLICES).step
        for rung in (Execution(), Execution(micro_batch=4))
    )
    tight = Execution(memory_gib=(least + (whole - least) / 4) / GIB)
    losses, climbed = climb(
        lambda rung: trained(recipe, section, rung, tmp_path / "tight"), tight, 32, "the training"
    )
    assert climbed.out_of_memory > 0
    assert losses == pytest.approx(expected, rel=1e-3)


def test_a_predicted_out_of_memory_never_happens(tmp_path: Path) -> None:
    recipe = PAPER.replace(**{"vae.batch_size": 32, **SHORT})
    tight = Execution(
        memory_gib=predict_memory(recipe, "vae", Execution(micro_batch=8), device="cuda", slices=SLICES).peak
        * RESERVE
        / GIB
    )
    rung = rung_that_fits(recipe, "vae", tight, slices=SLICES)
    assert rung.micro_batch is not None
    trained(recipe, "vae", rung, tmp_path / "run")


def test_what_measures_a_training_on_the_way_leaves_the_card() -> None:
    device = Execution().prepare()
    autoencoder, extractor = (
        Autoencoder(IMPROVED.vae).requires_grad_(False),
        InceptionExtractor(find_weights(), device),
    )
    latents = torch.zeros(4, IMPROVED.vae.latent_channels, IMPROVED.latent_size, IMPROVED.latent_size)
    decode_to_bytes(autoencoder, latents, device)  # what the libraries keep for good is there now
    extractor.features(np.zeros((4, 128, 128), np.uint8))
    before = torch.cuda.memory_allocated()
    images = decode_to_bytes(autoencoder, latents, device)
    assert torch.cuda.memory_allocated() == before
    extractor.features(images.numpy())
    assert torch.cuda.memory_allocated() == before
    weights = sum(parameter.nbytes for parameter in autoencoder.parameters())
    assert torch.cuda.memory_allocated() < weights, "neither network is there"


def test_the_cards_are_asked_for_without_taking_memory_on_them() -> None:
    before, total = torch.cuda.mem_get_info(0)
    found = cards()
    assert len(found) == torch.cuda.device_count()
    assert found[0].total == total
    assert 0 < found[0].free <= total
    assert torch.cuda.mem_get_info(0)[0] == pytest.approx(before, rel=0.02)
