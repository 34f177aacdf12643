"""How a loop is run: device, threads, workers, micro-batch; none of it is part of a result's key.

Configurations are read without torch, so what needs it is imported where it is called.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from trainables.config import Config, setting
from trainables.errors import ConfigError
from trainables.loop.machine import cores, keep_freed_memory

if TYPE_CHECKING:
    import torch

GIB = 2**30
MOST_THREADS = 1024
"""More than any machine's cores; OpenMP fails where it can't start as many threads as it is told to."""

DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
"""The devices that a configuration may name."""

AUTO = (
    "'auto' takes bf16 where the hardware has it, fp16 on cards that have tensor cores but no bf16 (RTX 20xx, T4, "
    "V100), else fp32: also on GTX 16xx, where half precision gives NaN, and on GTX 10xx"
)
"""What a precision of 'auto' means, for the fields that have it."""


@dataclass(frozen=True, kw_only=True)
class Execution(Config):
    """The settings of a run that don't change its results."""

    device: str = setting(
        "auto",
        "cpu, cuda, or cuda:N, a card of its own; 'auto' takes a card where there is one, else the CPU",
        identity=False,
    )
    threads: int = setting(
        1,
        "CPU threads of a training; on the CPU, results are equal bit for bit at equal threads",
        identity=False,
        low=1,
        high=MOST_THREADS,
    )
    workers: int = setting(1, "data-parallel workers of a training", identity=False, low=1)
    micro_batch: int | None = setting(
        None, "samples on the device at a time; gradients are accumulated to the batch", identity=False, low=1
    )
    checkpoint_activations: bool = setting(
        False,
        "keep only the inputs of each block and compute the rest again in the backward pass: less memory, more time",
        identity=False,
    )
    cuda_graph: bool = setting(
        False,
        "launch a training's step as one CUDA graph, where the whole batch is on one card at once: fewer launches, "
        "more memory; off until a card has shown that it gains",
        identity=False,
    )
    tf32: bool = setting(
        False,
        "let a card (from compute capability 8.0 on) round the inputs of fp32 matrix products and convolutions to "
        "TF32's 10 bits of mantissa: faster for what is computed in fp32, such as decoding; Inception never does",
        identity=False,
    )
    memory_gib: float | None = setting(
        None, "most that a process may allocate on its card, in GiB; None leaves it alone", identity=False, low=0
    )

    def check(self) -> None:
        check_name(self.device)

    @classmethod
    def for_machine(cls) -> Execution:
        """A single job with all of this process's cores."""
        return cls(threads=cores())

    def at_most(self, threads: int) -> Execution:
        """The same with no more threads than that."""
        return self.replace(threads=min(self.threads, threads))

    def prepare(self) -> torch.device:
        """Applies threads, TF32 and the memory limit to this process; returns the device, a card by its index.

        Raises :class:`~trainables.errors.CardError` as :func:`~trainables.loop.cards.device_of` does.
        """
        import torch

        from trainables.loop import cards

        torch.set_num_threads(self.threads)
        threadpool_limits(self.threads)
        keep_freed_memory()
        device = cards.device_of(self.device)
        if device.type == "cuda":
            torch.cuda.set_device(device)
            # PyTorch's newer fp32_precision means the same, but both can't be set, and Inception needs these flags.
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
        if device.type == "cuda" and self.memory_gib:
            # Ray assigns fractions of a card, but doesn't limit what is allocated on it.
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, self.memory_gib * GIB / total), device)
        return device

    @property
    def device_type(self) -> str:
        """``cpu`` or ``cuda``."""
        if self.device == "auto":
            from trainables.loop import cards

            return "cuda" if cards.present() else "cpu"
        return self.device.partition(":")[0]


def check_name(name: str) -> None:
    """Raises :class:`ConfigError` for a device that no configuration may name."""
    if not DEVICE.fullmatch(name):
        why = "; Apple's MPS lacks float64, which sampling needs: take cpu" if name.startswith("mps") else ""
        raise ConfigError(f"Execution.device must be auto, cpu, cuda or cuda:N; got {name!r}{why}")
