"""Steps a second of both trainings in each precision, and the share of the time in which the card is busy."""

from __future__ import annotations

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from gpu_check.card import Card
from gpu_check.notes import Notes
from gpu_check.trainings import RECIPE, SECTIONS, execution, in_precision, scratch, stretch, train
from trainables.loop.settings import Execution
from trainables.recipes import Recipe

PRECISIONS = {"fp32": ("fp32", False), "tf32": ("fp32", True), "bf16": ("bf16", False), "fp16": ("fp16", False)}
"""A recipe's precision, and whether fp32 may be TF32."""

AMPERE = (8, 0)
"""The compute capability that has TF32 and bf16."""

STEPS = {"diffusion": 60, "vae": 12}
EVERY = {"diffusion": 20, "vae": 4}
"""Steps that are taken, and between two looks at the clock; those before the first look don't count."""

STAND_INS = 4
"""Steps that are taken where nothing is computed."""

PROFILED = {"diffusion": 12, "vae": 4}
"""Steps under the profiler, of which only the kernels' time is taken; with two validations, some 4 % of it."""


def show_speed(notes: Notes, card: Card) -> None:
    """Part 6: the recipe as it is, at its own batch sizes, in each precision that the card has."""
    rates = {}
    for section, network in SECTIONS.items():
        steps, every = card.count(STEPS[section], STAND_INS), card.count(EVERY[section], 1)
        notes.measure(f"{network}.batch", getattr(RECIPE, section).batch_size)
        notes.measure(f"{network}.steps", steps - every)
        for name, (precision, tf32) in PRECISIONS.items():
            if name in ("tf32", "bf16") and card.capability < AMPERE:
                notes.measure(f"{network}.{name}", "needs compute capability 8.0")
                continue
            rate = steps_a_second(in_precision(precision), section, execution(tf32=tf32), steps, every)
            notes.measure(f"{network}.{name}.steps_a_second", rate, computed=True)
            rates[section, name] = rate
    if not card.computes:
        notes.leave_out("the profiler sees no kernels of a card that computes nothing")
        return
    for (section, name), rate in rates.items():
        show_busy(notes, section, name, rate)


def show_busy(notes: Notes, section: str, name: str, rate: float) -> None:
    """The share of the wall time in which kernels run: their seconds in a step times steps a second."""
    precision, tf32 = PRECISIONS[name]
    try:
        kernels = kernel_seconds(in_precision(precision), section, execution(tf32=tf32))
    except RuntimeError as error:
        notes.leave_out(f"torch.profiler: {str(error).splitlines()[0]}")
        return
    if not kernels:
        notes.leave_out("torch.profiler saw no kernels: CUPTI isn't allowed or isn't there")
        return
    notes.measure(f"{SECTIONS[section]}.{name}.kernel_milliseconds_a_step", 1000 * kernels)
    notes.measure(f"{SECTIONS[section]}.{name}.busy_share", kernels * rate)


def steps_a_second(recipe: Recipe, section: str, how: Execution, steps: int, every: int) -> float:
    """Optimiser steps a second of the first ``steps`` of a long training, but for the first ``every`` of them."""
    records = stretch(recipe, section, steps, every, how)
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
