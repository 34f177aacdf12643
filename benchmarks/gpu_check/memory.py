"""What a process takes of a card beside its tensors, against what ``trainables/resources/memory.py`` counts with."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection

import torch
from torch import Tensor

from gpu_check.card import Card
from gpu_check.notes import Notes
from gpu_check.trainings import RECIPE, SAMPLES, SECTIONS, execution, scratch, train
from trainables.resources.memory import CONTEXT, LIBRARIES, MIB, RESERVE, predict_memory

STEPS = 6
MOST_OTHERS = 16 * MIB
"""What other processes may take or give back while this part runs, for its numbers to count."""

CONVOLUTIONS = {"unet": (16, 64, 16), "autoencoder": (32, 32, 128)}
"""Samples, channels and side of the largest maps that each network's 3×3 convolutions see."""


def show_memory(notes: Notes, card: Card) -> None:
    """Part 3: what CUDA takes outside PyTorch's allocator, what libraries take inside it, what it reserves."""
    torch.zeros(1, device="cuda")
    before = used()
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=answer, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    outside = {}
    for stage in STAGES:
        try:
            numbers = ours.recv()
        except EOFError:
            process.join()
            raise RuntimeError(f"the process that is looked at ended with {process.exitcode} at {stage!r}") from None
        outside[stage] = used() - before - numbers.pop("reserved")
        ours.send("go on")
        for name, value in numbers.items():
            notes.measure(f"{stage}.{name}_mib", value / MIB, computed="cudnn" in name)
        if stage in SECTIONS.values():
            compare(notes, stage, numbers)
    process.join()
    notes.measure("context.bound_mib", CONTEXT / MIB)
    if min(outside.values()) < 0:
        notes.leave_out("what one process takes of the card, another doesn't see here")
        return
    if abs(used() - before) > MOST_OTHERS:
        notes.leave_out("other processes took or gave back memory of the card meanwhile; run this part again, alone")
        return
    for stage, value in outside.items():
        notes.measure(f"{stage}.outside_the_allocator_mib", value / MIB, computed=True)
    notes.check(
        f"a process takes at most CONTEXT ({CONTEXT / MIB:.0f} MiB) outside the allocator",
        max(outside.values()) <= CONTEXT,
        computed=True,
    )


def compare(notes: Notes, stage: str, numbers: dict[str, int]) -> None:
    """A training's peaks against the prediction for it."""
    section = next(section for section, network in SECTIONS.items() if network == stage)
    memory = predict_memory(RECIPE, section, execution(), device="cuda", slices=SAMPLES)
    promised = int(memory.step * RESERVE)
    notes.measure(f"{stage}.predicted_step_mib", memory.step / MIB)
    notes.measure(f"{stage}.predicted_with_reserve_mib", promised / MIB)
    notes.measure(f"{stage}.reserved_over_allocated", numbers["peak_reserved"] / numbers["peak_allocated"])
    notes.check(
        f"{stage}: reserved is at most the predicted step times RESERVE ({RESERVE:g})",
        numbers["peak_reserved"] <= promised,
    )
    beyond = numbers["peak_allocated"] - (memory.step - LIBRARIES)
    notes.measure(f"{stage}.workspaces_mib", beyond / MIB, computed=True)
    notes.check(
        f"{stage}: workspaces take at most LIBRARIES ({LIBRARIES / MIB:.0f} MiB)", beyond <= LIBRARIES, computed=True
    )


def used() -> int:
    """Bytes of the card that are taken, by all processes, as the driver counts them."""
    free, total = torch.cuda.mem_get_info()
    return total - free


def answer(pipe: Connection) -> None:
    """The process that is looked at: does one stage after another, and says what its allocator holds."""
    for work in STAGES.values():
        numbers = work()
        torch.cuda.synchronize()
        pipe.send({**numbers, "reserved": torch.cuda.memory_reserved()})
        pipe.recv()


def bare() -> dict[str, int]:
    """A context, and a block of the allocator."""
    torch.zeros(1, device="cuda")
    return {}


def libraries() -> dict[str, int]:
    """cuBLAS's workspace, which stays, and cuDNN's largest, which doesn't."""
    square = torch.ones(256, 256, dtype=torch.float16, device="cuda")
    before = torch.cuda.memory_allocated()
    product = square @ square
    numbers = {"cublas_workspace": torch.cuda.memory_allocated() - before - product.nbytes}
    for network, (count, channels, side) in CONVOLUTIONS.items():
        for dtype in (torch.float16, torch.float32):
            x = torch.zeros(count, channels, side, side, dtype=dtype, device="cuda")
            weight = torch.zeros(channels, channels, 3, 3, dtype=dtype, device="cuda")
            name = f"cudnn_{network}_{'fp16' if dtype == torch.float16 else 'fp32'}"
            numbers[f"{name}_forward"] = passing(partial(forward, x, weight))
            numbers[f"{name}_backward"] = passing(partial(backward, x, weight))
    return numbers


def forward(x: Tensor, weight: Tensor) -> list[Tensor]:
    """A 3×3 convolution."""
    return [torch.conv2d(x, weight, padding=1)]


def backward(x: Tensor, weight: Tensor) -> list[Tensor]:
    """The gradients of a 3×3 convolution, for a gradient of the shape of ``x``."""
    wanted = [True, True, False]
    gradients = torch.ops.aten.convolution_backward(
        x, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, wanted
    )
    return [gradient for gradient in gradients if gradient is not None]


def passing(work: Callable[[], list[Tensor]]) -> int:
    """Bytes that ``work`` held on the way, beyond its results."""
    torch.cuda.reset_peak_memory_stats()
    results = work()
    there = torch.cuda.memory_allocated()
    del results
    return torch.cuda.max_memory_allocated() - there


def trained(section: str) -> dict[str, int]:
    """The peaks of a few steps of a training."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    with scratch() as folder:
        train(RECIPE, section, STEPS, execution(), folder)
    return {
        "peak_allocated": torch.cuda.max_memory_allocated(),
        "peak_reserved": torch.cuda.max_memory_reserved(),
    }


def unet() -> dict[str, int]:
    """The denoiser's training."""
    return trained("diffusion")


def autoencoder() -> dict[str, int]:
    """The autoencoder's training."""
    return trained("vae")


STAGES: dict[str, Callable[[], dict[str, int]]] = {
    "bare": bare,
    "libraries": libraries,
    "unet": unet,
    "autoencoder": autoencoder,
}
