"""What a loop does as its settings say: in which dtype, in which chunks, with which other workers."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.utils._pytree import tree_map_only

from trainables.loop import cards
from trainables.loop.settings import Execution
from trainables.loop.watchdog import beat, waiting

Values = TypeVar("Values")

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def fewer_threads(began: int, here: int) -> str:
    """Says that what had ``began`` threads a training goes on with the ``here`` that there are cores for."""
    return (
        f"it began with {began} threads a training, and {here} can be had here: it goes on with {here}, and what is "
        f"computed now equals what {began} would compute up to rounding, not bit for bit"
    )


def summary_of(execution: Execution, precision: str, batch: int) -> dict[str, Any]:
    """For a training's summary: where and how it is computed in ``precision``, ``batch`` samples a step."""
    device = cards.device_of(execution.device)
    return {
        "device": device.type,
        "precision": {dtype: name for name, dtype in DTYPES.items()}[computing_dtype(precision, device)],
        "tf32": execution.tf32 and device.type == "cuda",
        "cuda_graph": uses_graph(execution, device, batch),
    }


def computing_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype that ``precision`` means on ``device``: bf16, fp16 or fp32."""
    if precision != "auto":
        return DTYPES[precision]
    if device.type == "cuda":
        return cards.suited_dtype(device)
    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if has_bf16 else torch.float32


def at_once(execution: Execution, batch: int) -> int:
    """Samples of a batch that are on a worker's device at a time."""
    share = math.ceil(batch / execution.workers)
    return min(execution.micro_batch or share, share)


def uses_graph(execution: Execution, device: torch.device, batch: int) -> bool:
    """Whether steps of ``batch`` samples run as a CUDA graph: if asked for, on a card, by one worker, all at once."""
    whole = at_once(execution, batch) == batch and not execution.checkpoint_activations
    return execution.cuda_graph and device.type == "cuda" and whole and world_size() == 1


def send(values: Values, device: torch.device) -> Values:
    """A tensor or a tuple of tensors on ``device``, copied there from pinned memory without waiting for the card."""

    def copy(tensor: torch.Tensor) -> torch.Tensor:
        pinned = tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
        return pinned.to(device, non_blocking=True)

    return tree_map_only(torch.Tensor, copy, values)  # type: ignore[no-any-return]


def in_chunks(function: Callable[..., torch.Tensor], size: int, *batches: torch.Tensor) -> torch.Tensor:
    """``function`` of tensors (B, …), called with exactly ``size`` rows at a time, the last call padded.

    PyTorch chooses kernels by the size of the batch, and kernels round differently. At one size, a row's result
    depends neither on its place nor on the other rows.
    """
    rows = len(batches[0])
    results = []
    for start in range(0, rows, size):
        parts = [batch[start : start + size] for batch in batches]
        missing = size - len(parts[0])
        if missing:
            parts = [torch.cat((part, part[-1:].expand(missing, *part.shape[1:]))) for part in parts]
        results.append(function(*parts)[: size - missing])
        beat()
    return torch.cat(results)


def rank() -> int:
    """This worker's number, 0 where there is only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many workers train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def shares(batch: int, micro_batch: int | None) -> Iterator[slice]:
    """This worker's part of a batch of ``batch`` samples, in slices of at most ``micro_batch``.

    The result depends on the workers and the micro-batch only by the order of floating-point sums.
    """
    start, stop = batch * rank() // world_size(), batch * (rank() + 1) // world_size()
    step = micro_batch or max(1, stop - start)
    for first in range(start, stop, step):
        yield slice(first, min(first + step, stop))


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
    """Makes every worker run out of memory where one does, so that none waits for another.

    Raises the worker's own error (:func:`trainables.loop.cards.out_of_memory`), or ``torch.OutOfMemoryError`` for
    that of another.
    """
    failure: RuntimeError | None = None
    try:
        yield
    except RuntimeError as error:
        if not cards.out_of_memory(error):
            raise
        failure = error
    if world_size() > 1:
        failures = torch.tensor([float(failure is not None)])
        dist.all_reduce(failures)
        if failures and failure is None:
            raise torch.OutOfMemoryError("another worker ran out of memory")
    if failure is not None:
        raise failure


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Adds the gradients of all workers, in place, as one flat message."""
    if world_size() == 1:
        return
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, summed in zip(gradients, torch.split(flat, [each.numel() for each in gradients]), strict=True):
        gradient.copy_(summed.view_as(gradient))


def sum_values(values: torch.Tensor) -> torch.Tensor:
    """The sum over the workers of a tensor of numbers."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def from_first(value: float) -> float:
    """The first worker's value, on every worker."""
    if world_size() == 1:
        return value
    shared = torch.tensor([value])
    with waiting():  # the first may be at work that the others have no part in
        dist.broadcast(shared, src=0)
    return float(shared)


def barrier() -> None:
    """Waits until all workers are here."""
    if world_size() > 1:
        with waiting():
            dist.barrier()
