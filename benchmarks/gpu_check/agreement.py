"""The CPU against the card in fp32: both compute the same, to the rounding of sums in another order.

All random numbers of a training but dropout's are drawn on the CPU, so dropout is 0 here.
"""

from __future__ import annotations

import torch

from gpu_check.card import Card
from gpu_check.gradients import compare_losses, compare_networks, relative
from gpu_check.notes import Notes
from gpu_check.trainings import RECIPE, SECTIONS, awake, execution, in_precision, losses, scratch, threads, train
from trainables.denoiser.sampling import initial_noise, sample
from trainables.denoiser.sampling_settings import SamplingConfig
from trainables.denoiser.unet import UNet
from trainables.loop.settings import Execution

STEPS = {"diffusion": 20, "vae": 5}
BATCHES = {"diffusion": 8, "vae": 4}
"""Samples in a step: fewer than the recipe's, for the CPU's sake."""

CLOSE_LOSSES = 1e-3
"""Tolerance of a loss, relative: each step adds to what the steps before it left. On one CPU, another order of sums
(micro-batches, threads) left 2e-7 after as many steps."""

CLOSE_LATENTS = 1e-3
"""Tolerance of sampled latents: the norm of the difference over the norm."""

SAMPLERS = {
    "ddim": SamplingConfig(sampler="ddim", precision="fp32"),
    "ddim_ancestral": SamplingConfig(sampler="ddim", eta=1.0, precision="fp32"),
    "dpmpp_2m": SamplingConfig(sampler="dpmpp_2m", precision="fp32"),
}
EVALUATIONS, SEEDS = 10, range(4)


def show_agreement(notes: Notes, card: Card) -> None:
    """Part 4: gradients of every loss, steps of both trainings, and both samplers."""
    device = execution().prepare()
    compare_losses(notes, device)
    compare_networks(notes, device)
    compare_samplers(notes, device, card.count(EVALUATIONS, 2))
    for section in SECTIONS:
        compare_training(notes, section, card.count(STEPS[section], 1))


def compare_training(notes: Notes, section: str, steps: int) -> None:
    """The loss of every step of one training on both."""
    changes = {"diffusion.dropout": 0.0, f"{section}.batch_size": BATCHES[section]}
    recipe, network = in_precision("fp32", **changes), SECTIONS[section]
    found = []
    for how in (Execution(device="cpu", threads=threads()), execution()):
        with scratch() as folder:
            found.append(losses(train(recipe, section, steps, how, folder)))
    theirs, ours = (torch.tensor(each) for each in found)
    off = ((ours - theirs) / theirs).abs()
    notes.measure(f"{network}.steps", steps)
    notes.measure(f"{network}.batch", BATCHES[section])
    notes.measure(f"{network}.first_loss_relative", off[0].item(), computed=True)
    notes.measure(f"{network}.largest_loss_relative", off.max().item(), computed=True)
    notes.check(
        f"{network}: every loss of {steps} steps differs by at most {CLOSE_LOSSES:g}",
        len(ours) == steps and off.max().item() <= CLOSE_LOSSES,
        computed=True,
    )


def compare_samplers(notes: Notes, device: torch.device, evaluations: int) -> None:
    """The latents of one denoiser by each sampler on both."""
    diffusion = RECIPE.diffusion.replace(dropout=0.0)
    torch.manual_seed(5)
    denoiser = awake(UNet(RECIPE.vae.latent_channels, diffusion), 5).eval()
    shape = (RECIPE.vae.latent_channels, RECIPE.latent_size, RECIPE.latent_size)
    noise = initial_noise(SEEDS, shape)
    notes.measure("sampler.evaluations", evaluations)
    for name, config in SAMPLERS.items():
        theirs, ours = (
            sample(
                denoiser.to(where),
                noise.to(where),
                seeds=SEEDS,
                diffusion=diffusion,
                config=config.replace(steps=evaluations),
                thresholds=(0.0,),
                chunk=len(SEEDS),
            ).latents
            for where in (torch.device("cpu"), device)
        )
        off = relative(ours, theirs)
        notes.measure(f"sampler.{name}_relative", off, computed=True)
        notes.check(
            f"sampler {name}: latents differ by at most {CLOSE_LATENTS:g}", off <= CLOSE_LATENTS, computed=True
        )
