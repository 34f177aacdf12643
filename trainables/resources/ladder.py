"""The ladder of a training that doesn't fit the memory.

It tries no CUDA graph, then smaller micro-batches, then checkpointed activations. The pruner's rungs are others.

Every rung gives the same result up to the order of floating-point sums, so none of it is part of a key.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from trainables.errors import CapacityError
from trainables.loop.cards import out_of_memory
from trainables.loop.execution import at_once
from trainables.loop.settings import Execution

log = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Climb:
    """The rung that a training ended on, and how often it ran out of memory before."""

    execution: Execution
    out_of_memory: int

    def to_plain(self) -> dict[str, Any]:
        """As a result's summary holds it."""
        return {
            "micro_batch": self.execution.micro_batch,
            "checkpointed": self.execution.checkpoint_activations,
            "out_of_memory": self.out_of_memory,
        }


def rungs(execution: Execution, batch: int) -> Iterator[Execution]:
    """The rungs: ``execution``, without a CUDA graph, half the micro-batch down to 1, checkpointed activations."""
    yield execution
    if execution.cuda_graph:
        execution = execution.replace(cuda_graph=False)
        yield execution
    samples = at_once(execution, batch)
    while samples > 1:
        samples //= 2
        execution = execution.replace(micro_batch=samples)
        yield execution
    if not execution.checkpoint_activations:
        yield execution.replace(micro_batch=samples, checkpoint_activations=True)


def describe_rung(execution: Execution, batch: int) -> str:
    """A rung in words."""
    samples = at_once(execution, batch)
    parts = [f"micro-batch {samples} of {batch}" if samples < batch else f"the whole batch of {batch}"]
    parts += ["a CUDA graph"] * execution.cuda_graph
    return ", ".join(parts + ["checkpointed activations"] * execution.checkpoint_activations)


def climb(train: Callable[[Execution], Result], execution: Execution, batch: int, what: str) -> tuple[Result, Climb]:
    """Calls ``train``, and again on the next rung where it runs out of memory; returns its result and the rung.

    ``train`` continues from its checkpoint, and all its workers run out of memory together. ``batch`` is its
    batch size, ``what`` its name. Raises :class:`CapacityError` after the last rung.
    """
    for failures, rung in enumerate(rungs(execution, batch)):
        try:
            return train(rung), Climb(rung, failures)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            reason = str(error).splitlines()[0]
        # The error is gone here, and with it the tensors of its frames.
        gc.collect()
        torch.cuda.empty_cache()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.reset_accumulated_memory_stats()  # the count that `out_of_memory` looks at
        log.warning("%s ran out of memory with %s: %s", what, describe_rung(rung, batch), reason)
    limit = f" in {execution.memory_gib:.2f} GiB" if execution.memory_gib else ""
    raise CapacityError(
        f"{what} must fit its memory, and doesn't with {describe_rung(rung, batch)}{limit} ({reason}); "
        "use a smaller model or a larger --card-gib"
    )
