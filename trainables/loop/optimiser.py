"""The optimiser of both trainings: AdamW, its learning rate over time, and its step over all workers."""

from __future__ import annotations

import math

import torch

from trainables.loop import execution as ex


def cosine_rate(step: int, total: int, warmup: int = 0) -> float:
    """The share of the learning rate at ``step``: linear warm-up, then half a cosine down to 0 at ``total``.

    A warm-up takes at most a tenth of the run, so that a short trial leaves it.
    """
    warmup = min(warmup, total // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives every parameter group this learning rate; a tensor changes in place, since a CUDA graph may hold it."""
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
    """AdamW (Loshchilov & Hutter 2019) over all parameters, with PyTorch's fused kernel.

    ``capturable`` is for a CUDA graph: the learning rate is then a tensor on the parameters' device.
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


def descend(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, gradient_clip: float
) -> None:
    """The optimiser's step on the sum of all workers' gradients, their norm at most ``gradient_clip`` (0: any)."""
    ex.sum_gradients(model.parameters())
    if gradient_clip:
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        # On the CPU it costs nothing to look at the norm, and the multiplication by 1 is left out.
        if norm.device.type != "cpu" or not norm <= gradient_clip:
            torch.nn.utils.clip_grads_with_norm_(model.parameters(), gradient_clip, norm)
    scaler.step(optimizer)


def update(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, gradient_clip: float
) -> None:
    """:func:`descend`, then the scaler adapts: for the network that is updated last in a step."""
    descend(model, optimizer, scaler, gradient_clip)
    scaler.update()
