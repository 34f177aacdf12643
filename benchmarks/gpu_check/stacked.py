"""Eight denoisers trained as one: their weights stacked, one step for all, launched kernel by kernel or as a graph.

The step is the training's, but for what is drawn: batches lie ready on the card, and dropout is 0. It is in bf16 by
PyTorch's autocast where the card has it, so that all four ways of taking it are alike but for what is compared.
"""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from gpu_check.card import Card
from gpu_check.notes import Notes
from gpu_check.trainings import RECIPE, awake, execution
from gpu_check.trials import Batch, Stepper, alone, together
from trainables.denoiser.unet import UNet

TRIALS = 8
TIMED, WARM, STAND_INS = 25, 5, 3
"""Steps that are timed, those before, and those that are taken where nothing is computed."""

BATCHES = 4
"""Batches that lie ready, for each trial others; taken in turn."""

COMPARED, COMPARED_TRIALS = 8, 4
"""Steps and trials whose losses are compared, in fp32; the first three of a graph's steps are its warm-up."""

CLOSE = 1e-3
"""Tolerance of a loss, relative: grouped convolutions add in another order than single ones."""


WAYS = {
    "alone.eager": (1, False),
    "alone.graph": (1, True),
    "stacked.eager": (TRIALS, False),
    "stacked.graph": (TRIALS, True),
}
"""Trials in a step, and whether it is a graph."""


def show_stacked(notes: Notes, card: Card) -> None:
    """Part 9: trials' steps a second, then the same losses as of trials apart."""
    device = execution().prepare()
    dtype = torch.bfloat16 if card.capability >= (8, 0) else torch.float32
    notes.measure("stacked.dtype", str(dtype).removeprefix("torch."))
    timed = card.count(TIMED, STAND_INS)
    rates = {}
    for name, (trials, graphed) in WAYS.items():
        torch.cuda.reset_peak_memory_stats()
        try:
            rates[name] = rate(trials, graphed, device, dtype, timed)
        except torch.OutOfMemoryError:
            notes.leave_out(f"{name}: {trials} trials don't fit {card.bytes / 2**30:.1f} GiB")
            continue
        finally:
            free()
        notes.measure(f"{name}.trial_steps_a_second", rates[name], computed=True)
        notes.measure(f"{name}.peak_allocated_mib", torch.cuda.max_memory_allocated() / 2**20)
        notes.check(f"{name}: {timed} steps end", True)
    for name, against in itertools.product(("stacked.eager", "stacked.graph"), ("alone.eager", "alone.graph")):
        if {name, against} <= set(rates):
            notes.measure(f"{name}.over_{against}", rates[name] / rates[against], computed=True)
    compare(notes, device)


def compare(notes: Notes, device: torch.device) -> None:
    """The losses of trials trained as one, eager and as a graph, against those trained apart; fp32, no TF32."""
    apart = torch.cat([losses([seed], False, device) for seed in range(COMPARED_TRIALS)], dim=1)
    for name, graphed in (("eager", False), ("graph", True)):
        try:
            found = losses(range(COMPARED_TRIALS), graphed, device)
        except torch.OutOfMemoryError:
            notes.leave_out(f"stacked, {name}: {COMPARED_TRIALS} trials in fp32 don't fit the card")
            continue
        finally:
            free()
        off = ((found - apart) / apart).abs().max().item()
        notes.measure(f"stacked.{name}.largest_loss_relative", off, computed=True)
        notes.check(
            f"stacked, {name}: losses of {COMPARED_TRIALS} trials in {COMPARED} steps differ by at most {CLOSE:g}",
            off <= CLOSE,
            computed=True,
        )


def losses(seeds: Sequence[int], graphed: bool, device: torch.device) -> Tensor:
    """The losses of the trials' first steps, (steps, trials)."""
    batches = [Batch.made_up(RECIPE, seeds, number, device) for number in range(BATCHES)]
    stepper = stepper_of(seeds, graphed, device, torch.float32)
    return torch.stack([stepper.take(batches[step % BATCHES]).clone() for step in range(COMPARED)]).cpu()


def rate(trials: int, graphed: bool, device: torch.device, dtype: torch.dtype, timed: int) -> float:
    """Trials' steps a second: those of one step for all, times the trials."""
    batches = [Batch.made_up(RECIPE, range(trials), number, device) for number in range(BATCHES)]
    stepper = stepper_of(range(trials), graphed, device, dtype)
    began = 0.0
    for step in range(WARM + timed):
        if step == WARM:
            torch.cuda.synchronize()
            began = time.perf_counter()
        stepper.take(batches[step % BATCHES])
    torch.cuda.synchronize()
    return trials * timed / (time.perf_counter() - began)


def stepper_of(seeds: Sequence[int], graphed: bool, device: torch.device, dtype: torch.dtype) -> Stepper:
    """The steps of one trial as a module, or of several as one."""
    networks = [network(seed, device) for seed in seeds]
    if len(networks) == 1:
        return alone(networks[0], RECIPE.diffusion, dtype, graphed=graphed)
    return together(networks, RECIPE.diffusion, dtype, graphed=graphed)


def network(seed: int, device: torch.device) -> UNet:
    """The denoiser of a trial."""
    torch.manual_seed(seed)
    with device:
        return awake(UNet(RECIPE.vae.latent_channels, RECIPE.diffusion.replace(dropout=0.0)), seed)


def free() -> None:
    """Gives back what an earlier way of training held."""
    gc.collect()
    torch.cuda.empty_cache()
