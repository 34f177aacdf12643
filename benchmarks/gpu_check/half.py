"""fp16 for 200 steps of each training: losses stay finite, the scaler settles, and the losses are those of others."""

from __future__ import annotations

import math
import statistics

import torch

from gpu_check.card import Card
from gpu_check.notes import NOTHING_COMPUTED, Notes
from gpu_check.trainings import SECTIONS, execution, in_precision, losses, scratch, train
from trainables.errors import DivergenceError
from trainables.loop.checkpoint import load_tensors
from trainables.loop.execution import computing_dtype
from trainables.loop.files import CHECKPOINT

STEPS, STAND_INS = 200, 6
"""Steps of a training, and where nothing is computed."""

BATCHES = {"diffusion": 16, "vae": 8}
"""Samples in a step: the recipe's for the denoiser, a quarter of it for the autoencoder, for time's sake."""

LAST = 50
"""Steps at the end over which losses are compared."""

NEAR = 0.1
"""Tolerance of their mean, relative: the scaler skips the first steps until it fits, and bf16 has eight bits."""

LEAST_SCALE = 1.0
"""A scale below it would say that gradients overflow at their own size."""

FIRST_SCALE = 2.0**16
"""The scaler's, at the start; halved in each step that it skips."""


def show_half(notes: Notes, card: Card) -> None:
    """Part 5: fp16 against bf16, or against fp32 where the card has no bf16."""
    taken = computing_dtype("auto", execution().prepare())
    notes.measure("auto", str(taken).removeprefix("torch."))
    other = "bf16" if card.capability >= (8, 0) else "fp32"
    count = card.count(STEPS, STAND_INS)
    for section, network in SECTIONS.items():
        notes.measure(f"{network}.steps", count)
        notes.measure(f"{network}.batch", BATCHES[section])
        theirs, _ = run(section, other, count)
        try:
            ours, scale = run(section, "fp16", count)
        except DivergenceError as error:
            notes.measure(f"{network}.fp16_diverged", str(error))
            claim = f"{network}: losses in fp16 are finite, or auto doesn't take fp16 on this card"
            notes.check(claim, taken != torch.float16)
            continue
        notes.check(f"{network}: {count} steps in fp16 end", len(ours) == count)
        if card.computes:
            compare(notes, network, other, ours, theirs)
            notes.measure(f"{network}.scale", scale)
            notes.measure(f"{network}.skipped_steps", round(math.log2(FIRST_SCALE / scale)))
            notes.check(f"{network}: the scaler's scale is at least {LEAST_SCALE:g}", scale >= LEAST_SCALE)
        else:
            notes.leave_out(NOTHING_COMPUTED)


def compare(notes: Notes, network: str, other: str, ours: list[float], theirs: list[float]) -> None:
    """The losses in fp16 against those in another precision."""
    mean, their_mean = statistics.fmean(ours[-LAST:]), statistics.fmean(theirs[-LAST:])
    notes.measure(f"{network}.fp16_last_loss", mean)
    notes.measure(f"{network}.{other}_last_loss", their_mean)
    notes.check(f"{network}: all losses in fp16 are finite", all(map(math.isfinite, ours)))
    claim = f"{network}: the mean loss of the last {LAST} steps is within {NEAR:.0%} of {other}'s"
    notes.check(claim, abs(mean - their_mean) <= NEAR * their_mean)


def run(section: str, precision: str, steps: int) -> tuple[list[float], float]:
    """The losses of a training, and the scaler's scale at its end (1 where nothing is scaled)."""
    recipe = in_precision(precision, **{f"{section}.batch_size": BATCHES[section]})
    with scratch() as folder:
        found = losses(train(recipe, section, steps, execution(), folder))
        _, state = load_tensors(folder / CHECKPOINT)
    return found, float(state["scaler"].get("scale", 1.0))
