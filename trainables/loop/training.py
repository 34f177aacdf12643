"""What the two training loops share: when things are due, learning-rate schedules, running means, EMA."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch

from trainables.errors import DivergenceError
from trainables.loop import execution as ex

Record = dict[str, float]
"""Named numbers at a step: ``step``, ``time`` (ms since the epoch, fixed when it was made), and metrics."""

Report = Callable[[Sequence[Record]], None]
"""Called with new records right after the checkpoint that holds them was written; may raise to stop the run."""

CHECKPOINT = "checkpoint.safetensors"


def ignore_report(records: Sequence[Record]) -> None:
    """A report to nobody."""


def record_at(step: int, metrics: dict[str, float]) -> Record:
    """A record of ``metrics`` after ``step`` optimiser steps, dated now."""
    return {"step": float(step), "time": float(int(time.time() * 1000)), **metrics}


def without_scores(records: Sequence[Record]) -> list[Record]:
    """The records without what was measured for the pruner."""
    return [{name: value for name, value in r.items() if not name.startswith("rung/")} for r in records]


def evenly_spaced(total: int, count: int) -> list[int]:
    """``count`` steps at equal distances, the last of them ``total``."""
    return sorted({math.ceil(total * (k + 1) / count) for k in range(count)}) if count else []


def cosine_rate(step: int, total: int, warmup: int = 0) -> float:
    """The share of the learning rate at ``step``: linear warm-up, then half a cosine down to 0 at ``total``.

    A warm-up longer than a tenth of the run is shortened to it, or a short trial would never leave it.
    """
    warmup = min(warmup, total // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives every parameter group this learning rate, in place where it is a tensor, which a graph may hold."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def adamw(
    model: torch.nn.Module,
    learning_rate: float,
    weight_decay: float,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    capturable: bool = False,
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019) over all parameters, updated in one pass over memory.

    One that is ``capturable`` in a CUDA graph has its learning rate as a tensor on the parameters' device.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=learning_rate,
        betas=betas,
        weight_decay=weight_decay,
        fused=True,
        capturable=capturable,
    )
    if capturable:
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(learning_rate, device=next(model.parameters()).device)
    return optimizer


def update(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, gradient_clip: float
) -> None:
    """:func:`descend`, after which the scaler adapts; the last of a step's networks is updated by it."""
    descend(model, optimizer, scaler, gradient_clip)
    scaler.update()


def descend(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, gradient_clip: float
) -> None:
    """The optimiser's step on the sum of all workers' gradients, their norm at most ``gradient_clip`` (0: any)."""
    ex.sum_gradients(model.parameters())
    if gradient_clip:
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        # Where looking at the norm doesn't wait for a card, nothing is multiplied by 1.
        if norm.device.type != "cpu" or not norm <= gradient_clip:
            torch.nn.utils.clip_grads_with_norm_(model.parameters(), gradient_clip, norm)
    scaler.step(optimizer)


@torch.no_grad()
def update_ema(average: torch.nn.Module, model: torch.nn.Module, step: int, decay: float, warmup: bool) -> None:
    """One step of the exponential moving average, ``step`` from 0; warmed up as min(decay, (1 + n)/(10 + n))."""
    if warmup:
        decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1.0 - decay)


def check_finite(metrics: Mapping[str, float], step: int, last_good: int) -> None:
    """Raises :class:`DivergenceError` where a metric is not finite, so that no such state becomes a checkpoint."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise DivergenceError(
                f"{name} is no longer finite at step {step} (last good checkpoint: step {last_good}); "
                "try a lower learning rate or fp32",
                step=step,
            )


class RunningMeans:
    """Means of losses between two logs, kept on the device so that a step never waits for it."""

    def __init__(self, names: Iterable[str], device: torch.device) -> None:
        self.names = tuple(names)
        self.sums = torch.zeros(len(self.names), device=device)
        self.count = 0

    def add(self, values: torch.Tensor) -> None:
        """Adds the values of one step, in the order of the names."""
        self.sums += values
        self.count += 1

    def take(self, step: int, *, last_good: int) -> dict[str, float]:
        """The means since the last call; raises :class:`DivergenceError` where one is not finite."""
        means = (self.sums / max(1, self.count)).tolist()
        self.sums.zero_()
        self.count = 0
        named = dict(zip(self.names, means, strict=True))
        check_finite(named, step, last_good)
        return named
