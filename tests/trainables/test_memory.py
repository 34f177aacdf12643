"""Predicted memory against what the allocator counts in a real step, and the parts of a prediction."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from trainables.autoencoder.discriminator import Adversary, PatchDiscriminator, adversary_of
from trainables.autoencoder.equivariance import TURNS, transform
from trainables.autoencoder.losses import vae_loss
from trainables.autoencoder.vae import Autoencoder, disturb, sample_posterior
from trainables.denoiser.augmentation import label_width
from trainables.denoiser.averages import update_ema
from trainables.denoiser.condition import Condition
from trainables.denoiser.losses import sum_losses
from trainables.denoiser.unet import UNet
from trainables.errors import CapacityError
from trainables.loop.draws import LayerGenerators, Masks
from trainables.loop.execution import computing_dtype
from trainables.loop.optimiser import adamw, update
from trainables.loop.precision import convert
from trainables.loop.settings import GIB, Execution
from trainables.recipes import PAPER, RECIPES, SMOKE, Recipe
from trainables.resources.ladder import rungs
from trainables.resources.memory import RESERVE, Storages, batch_size, predict_memory, rung_that_fits

CPU = torch.device("cpu")
BATCHES = (1, 2, 7, 16, 64)
CASES = [(name, section, batch) for name in RECIPES for section in ("vae", "diffusion") for batch in BATCHES]


def loss_of_vae(recipe: Recipe, model: Autoencoder, images: Tensor, noise: Tensor, adversary: Adversary) -> Tensor:
    mean, log_variance = model.encode(images)
    latents = sample_posterior(mean, log_variance, noise)
    given = disturb(latents, noise) if recipe.vae.latent_noise else latents
    decoded = model.decode(given)
    losses = vae_loss(recipe.vae, images, decoded, mean, log_variance, kl_weight=1.0)
    loss = adversary.oppose(losses["loss"], decoded)
    if not recipe.vae.equivariance_weight:
        return loss
    turns = torch.zeros(len(images), TURNS, dtype=torch.bool)
    small, wanted = transform(latents, turns), transform(images, turns)
    return loss + F.l1_loss(model.decode(small).float(), wanted)


def loss_of_denoiser(recipe: Recipe, model: UNet, z_t: Tensor, t: Tensor) -> Tensor:
    labels = torch.zeros(len(z_t), label_width(recipe.diffusion) or 1)
    told = Condition(torch.zeros(len(z_t)), labels, torch.zeros_like(z_t))
    output = model(z_t, t, Masks(LayerGenerators(), len(z_t), slice(None)), told)
    return sum_losses(recipe.diffusion, output.float(), torch.ones_like(z_t), torch.full((len(z_t),), 0.5))[0]


def counted(recipe: Recipe, section: str, batch: int, *, checkpointing: bool = False) -> int:
    """Bytes that PyTorch's CPU allocator has given out and not taken back, at the end of a real forward pass."""
    channels, small, side = recipe.vae.latent_channels, recipe.latent_size, recipe.data.image_size
    latents = torch.randn(batch, channels, small, small)
    model: Autoencoder | UNet
    if section == "vae":
        model, images = Autoencoder(recipe.vae), torch.rand(batch, 1, side, side)
    else:
        model, t = UNet(channels, recipe.diffusion), torch.zeros(batch, dtype=torch.int64)
    model.checkpointing = checkpointing
    dtype = computing_dtype(getattr(recipe, section).precision, CPU)
    model = convert(model, dtype)
    adversary = adversary_of(recipe.vae, steps=1, seed=0, device=CPU, dtype=dtype)
    adversary.begin(0, 1e-3)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measurement:
        if isinstance(model, Autoencoder):
            loss = loss_of_vae(recipe, model, images, latents, adversary)
        else:
            loss = loss_of_denoiser(recipe, model, latents, t)
    events = measurement.profiler.kineto_results.events()  # type: ignore[union-attr]
    assert loss.requires_grad
    return sum(event.nbytes() for event in events if event.name() == "[memory]")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "section", "batch"), CASES)
def test_predicted_activations_are_those_of_a_real_step(name: str, section: str, batch: int) -> None:
    recipe = RECIPES[name].replace(**{f"{section}.batch_size": batch})
    prediction = predict_memory(recipe, section, Execution(), device="cpu")
    assert prediction.activations == pytest.approx(counted(recipe, section, batch), rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("section", ["vae", "diffusion"])
def test_so_they_are_at_every_precision_and_checkpointed(section: str, precision: str, checkpointing: bool) -> None:
    recipe = SMOKE.replace(
        **{f"{section}.batch_size": 4, f"{section}.precision": precision, "diffusion.dropout": 0.1}
    )
    execution = Execution(checkpoint_activations=checkpointing)
    prediction = predict_memory(recipe, section, execution, device="cpu")
    assert prediction.activations == pytest.approx(counted(recipe, section, 4, checkpointing=checkpointing), rel=0.05)


def test_so_they_are_of_a_denoiser_that_is_told_of_its_samples() -> None:
    told = {"diffusion.position_condition": True, "diffusion.augmentation_probability": 0.1}
    recipe = SMOKE.replace(**{"diffusion.batch_size": 4, "diffusion.widths": (8, 8, 8)})
    plain = predict_memory(recipe, "diffusion", Execution(), device="cpu", slices=1000)
    prediction = predict_memory(recipe.replace(**told), "diffusion", Execution(), device="cpu", slices=1000)
    assert prediction.activations == pytest.approx(counted(recipe.replace(**told), "diffusion", 4), rel=0.02)
    assert prediction.activations > plain.activations
    assert prediction.data == plain.data + 4 * 2 * 1000, "a position for each slice and its mirror image"
    assert prediction.average > plain.average


def test_so_they_are_of_a_denoiser_that_is_told_its_own_estimates() -> None:
    recipe = SMOKE.replace(**{"diffusion.batch_size": 4, "diffusion.widths": (8, 8, 8)})
    told = recipe.replace(**{"diffusion.self_conditioning": 0.5, "diffusion.noise_label": "log_sigma"})
    plain, prediction = (predict_memory(each, "diffusion", Execution(), device="cpu") for each in (recipe, told))
    latents = 4 * 4 * recipe.vae.latent_channels * recipe.latent_size**2
    assert prediction.activations == pytest.approx(counted(told, "diffusion", 4) + latents, rel=0.02)
    assert prediction.activations >= plain.activations + latents, "the estimate is kept for the backward pass"
    assert prediction.average - plain.average == 4 * 9 * recipe.vae.latent_channels * 8, "the weights that take it"
    assert prediction.measuring > plain.measuring


OTHER_LOSSES: dict[str, dict[str, object]] = {
    "another loss": {"vae.reconstruction_loss": "l1", "vae.ms_ssim_weight": 0.5, "vae.gradient_weight": 0.1},
    "opposed": {"vae.adversarial_weight": 0.1},
    "disturbed": {"vae.latent_noise": 0.5},
    "equivariant": {"vae.equivariance_weight": 0.5},
}


@pytest.mark.slow
@pytest.mark.parametrize("changes", OTHER_LOSSES.values(), ids=OTHER_LOSSES)
def test_so_they_are_with_another_loss_of_the_autoencoder(changes: dict[str, object]) -> None:
    recipe = SMOKE.replace(**{"vae.batch_size": 4, **changes})
    prediction = predict_memory(recipe, "vae", Execution(), device="cpu")
    assert prediction.activations == pytest.approx(counted(recipe, "vae", 4), rel=0.05)
    assert prediction.activations > predict_memory(SMOKE, "vae", Execution(micro_batch=4), device="cpu").activations


def test_a_discriminator_counts_with_its_gradients_and_moments() -> None:
    plain = predict_memory(SMOKE, "vae", Execution(), device="cpu")
    opposed = predict_memory(SMOKE.replace(**{"vae.adversarial_weight": 0.1}), "vae", Execution(), device="cpu")
    weights = sum(parameter.nbytes for parameter in PatchDiscriminator().parameters())
    assert opposed.gradients - plain.gradients == weights
    copied = opposed.weights - plain.weights - weights
    assert copied in (0, pytest.approx(weights / 2, rel=0.01)), "in bf16 where this machine has it"
    assert opposed.optimizer - plain.optimizer == 2 * weights
    assert opposed.average == plain.average
    assert opposed.measuring - plain.measuring == 4 * weights + copied
    assert opposed.step > plain.step + 3 * weights


@pytest.mark.slow
def test_the_parts_are_what_they_are_by_definition() -> None:
    recipe = PAPER.replace(**{"diffusion.precision": "fp16"})
    memory = predict_memory(recipe, "diffusion", Execution(), device="cuda", slices=1000)
    weights = 4 * sum(parameter.numel() for parameter in UNet(8, PAPER.diffusion).parameters())
    assert memory.gradients == memory.average == weights
    assert memory.weights == 1.5 * weights, "in fp32 and in fp16"
    assert memory.optimizer == pytest.approx(2 * weights, rel=1e-3)
    assert memory.data == pytest.approx(1000 * 2 * 8 * 16 * 16 * 2, rel=0.1), "posteriors in fp16"
    assert memory.step < memory.weights * 5 + memory.data + memory.activations + memory.workspace
    assert memory.peak == max(memory.step, memory.measuring) < memory.need


def test_every_further_average_takes_the_weights_once_more() -> None:
    more = SMOKE.replace(**{"diffusion.ema_lengths": (0.05, 0.1), "diffusion.guide_share": 0.1})
    for section, copies in (("diffusion", 3), ("vae", 0)):
        before, after = (predict_memory(recipe, section, Execution(), device="cpu") for recipe in (SMOKE, more))
        for part in ("average", "step", "measuring"):
            assert getattr(after, part) - getattr(before, part) == copies * before.gradients
        assert after.workspace == before.workspace


@pytest.mark.slow
def test_a_guide_that_samples_takes_no_less_than_one_that_is_kept() -> None:
    kept = SMOKE.replace(**{"diffusion.guide_share": 0.1, "sampling.precision": "bf16"})
    used = kept.replace(**{"sampling.autoguidance": 2.0})
    alone, both = (predict_memory(recipe, "diffusion", Execution(), device="cuda") for recipe in (kept, used))
    assert both.measuring >= alone.measuring
    assert both.step == alone.step


def test_an_average_that_is_made_of_others_takes_its_weights_while_it_is_measured() -> None:
    kept = SMOKE.replace(**{"diffusion.ema_lengths": (0.05, 0.1), "sampling.ema_length": 0.05})
    made = kept.replace(**{"sampling.ema_length": 0.07})
    before, after = (predict_memory(recipe, "diffusion", Execution(), device="cpu") for recipe in (kept, made))
    assert after.measuring - before.measuring == before.gradients
    assert after.step == before.step


@pytest.mark.slow
@pytest.mark.parametrize("section", ["vae", "diffusion"])
def test_every_rung_of_the_ladder_takes_less_activations(section: str) -> None:
    held = [
        predict_memory(SMOKE, section, execution, device="cuda").activations
        for execution in rungs(Execution(), batch_size(SMOKE, section))
    ]
    assert held == sorted(held, reverse=True)
    assert len(set(held)) == len(held)
    assert held[-1] < held[0] / 4


def test_a_card_keeps_all_activations_in_half_precision() -> None:
    half, full = (
        predict_memory(SMOKE.replace(**{"vae.precision": precision}), "vae", Execution(), device="cuda").activations
        for precision in ("fp16", "fp32")
    )
    assert half < 0.6 * full


def test_a_graph_holds_the_memory_of_its_step_while_the_training_is_measured() -> None:
    eager, graph = (
        predict_memory(SMOKE, "diffusion", Execution(cuda_graph=asked), device="cuda") for asked in (False, True)
    )
    assert graph.step == eager.step
    assert graph.measuring - eager.measuring > 0.8 * (eager.activations - eager.gradients)
    split = predict_memory(SMOKE, "diffusion", Execution(cuda_graph=True, micro_batch=2), device="cuda")
    assert split == predict_memory(SMOKE, "diffusion", Execution(micro_batch=2), device="cuda"), (
        "runs without a graph"
    )


def test_the_first_rung_that_keeps_the_limit_is_taken() -> None:
    whole = predict_memory(SMOKE, "vae", Execution(), device="cpu", slices=100)
    assert rung_that_fits(SMOKE, "vae", Execution(), slices=100) == Execution()
    roomy = Execution(device="cpu", memory_gib=1.01 * whole.peak * RESERVE / GIB)
    assert rung_that_fits(SMOKE, "vae", roomy, slices=100) == roomy
    recipe = SMOKE.replace(**{"vae.batch_size": 64})
    needed = predict_memory(recipe, "vae", Execution(micro_batch=16), device="cpu", slices=100).peak
    tight = roomy.replace(memory_gib=1.01 * needed * RESERVE / GIB)
    assert rung_that_fits(recipe, "vae", tight, slices=100).micro_batch == 16


def test_what_fits_on_no_rung_is_refused_with_the_numbers() -> None:
    with pytest.raises(CapacityError, match=r"must fit 0\.01 GiB .* takes 0\.\d+ GiB even with micro-batch 1 of 8"):
        rung_that_fits(SMOKE, "vae", Execution(device="cpu", memory_gib=0.01))


def test_the_update_takes_nothing_beside_the_gradients() -> None:
    """So :func:`predict_memory` needn't follow the optimiser."""
    with Storages() as storages:  # of real tensors: on the CPU the update looks at the gradients' norm
        model = UNet(4, SMOKE.diffusion)
        average = UNet(4, SMOKE.diffusion)
        optimizer = adamw(model, 1e-4, 1e-5)
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        for _ in range(2):
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)  # a norm far above 1
            before = storages.peak = storages.live  # the moments, made in the first update, are there in the second
            update(model, optimizer, scaler, 1.0)
            update_ema(average, model, 0, 0.9, True)
        weights = sum(parameter.nbytes for parameter in model.parameters())
    assert before > 4.9 * weights  # model, average, gradients and two moments are seen
    assert storages.peak - before < 0.01 * weights
