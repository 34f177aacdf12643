"""Steps a second of both trainings in each precision, and the share of the time in which the card is busy."""

from __future__ import annotations

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from gpu_check.card import Card
from gpu_check.notes import Notes
from gpu_check.trainings import RECIPE, SECTIONS, execution, in_precision, scratch, stretch, train
from trainables.execution import Execution
from trainables.recipes import Recipe

PRECISIONS = {"fp32": ("fp32", False), "tf32": ("fp32", True), "bf16": ("bf16", False), "fp16": ("fp16", False)}
"""A recipe's precision, and whether fp32 may be TF32."""

AMPERE = (8, 0)
"""The compute capability that has TF32 and bf16."""

STEPS = {"diffusion": 100, "vae": 16}
EVERY = {"diffusion": 20, "vae": 4}
"""Steps that are taken, and between two looks at the clock; those before the first look don't count."""

PROFILED = {"diffusion": 12, "vae": 4}
"""Steps under the profiler, of which only the kernels' time is taken; with one validation, some 2 % of it."""


def show_speed(notes: Notes, card: Card) -> None:
    """Part 6: the recipe as it is, at its own batch sizes, in each precision that the card has."""
    for section, network in SECTIONS.items():
        notes.measure(f"{network}.batch", getattr(RECIPE, section).batch_size)
        notes.measure(f"{network}.steps", STEPS[section] - EVERY[section])
        for name, (precision, tf32) in PRECISIONS.items():
            if name in ("tf32", "bf16") and card.capability < AMPERE:
                notes.measure(f"{network}.{name}", "needs compute capability 8.0")
                continue
            recipe, how = in_precision(precision), execution(tf32=tf32)
            steps = steps_a_second(recipe, section, how)
            notes.measure(f"{network}.{name}.steps_a_second", steps, computed=True)
            if card.computes:
                show_busy(notes, f"{network}.{name}", recipe, section, how, steps)
    if not card.computes:
        notes.leave_out("the profiler sees no kernels of a card that computes nothing")


def show_busy(notes: Notes, name: str, recipe: Recipe, section: str, how: Execution, steps: float) -> None:
    """The share of the wall time in which kernels run: their seconds in a step times steps a second."""
    try:
        kernels = kernel_seconds(recipe, section, how)
    except RuntimeError as error:
        notes.leave_out(f"torch.profiler: {str(error).splitlines()[0]}")
        return
    if not kernels:
        notes.leave_out("torch.profiler saw no kernels: CUPTI isn't allowed or isn't there")
        return
    notes.measure(f"{name}.kernel_milliseconds_a_step", 1000 * kernels)
    notes.measure(f"{name}.busy_share", kernels * steps)


def steps_a_second(recipe: Recipe, section: str, how: Execution) -> float:
    """Optimiser steps a second of a long training, after its first steps."""
    records = stretch(recipe, section, STEPS[section], EVERY[section], how)
    first, last = records[0], records[-1]
    return (last["step"] - first["step"]) / max(1e-3, (last["time"] - first["time"]) / 1000)


def kernel_seconds(recipe: Recipe, section: str, how: Execution) -> float:
    """Seconds that kernels take in a step, copies and fills with them."""
    steps = PROFILED[section]
    with scratch() as folder, profile(activities=[ProfilerActivity.CUDA]) as profiler:
        train(recipe, section, steps, how, folder)
        torch.cuda.synchronize()
    microseconds: float = sum(
        event.time_range.elapsed_us()
        for event in profiler.events() or []
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation
    )
    return microseconds / 1e6 / steps
