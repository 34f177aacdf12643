"""How an optimiser step is launched: operation by operation, or all of it as one CUDA graph.

Small networks leave a card waiting for launches, some 1,300 a step. A graph is recorded once, and then launched whole
(Nguyen et al. 2021, "Accelerating PyTorch with CUDA Graphs"). It repeats what it recorded, so whatever changes from
step to step has to be a tensor whose memory stays: the draws, the learning rate, the KL weight, the dropout's seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.torch_version import TorchVersion
from torch.utils._pytree import tree_leaves

from trainables.execution import Execution, send, world_size
from trainables.ladder import at_once
from trainables.layers import LayerGenerators

Draws = TypeVar("Draws", bound=tuple[Any, ...])

Body = Callable[[Draws], Tensor]
"""A step on draws that lie on the device, up to the weights' update, to its losses."""

WARM = 3
"""Steps that run as they are before a graph is recorded: optimisers and libraries allocate in them."""


def graphed(execution: Execution, device: torch.device, batch: int) -> bool:
    """Whether steps of ``batch`` samples run as a graph: asked for, on a card, by one worker, the batch at once."""
    whole = at_once(execution, batch) == batch and not execution.checkpoint_activations
    return execution.cuda_graph and device.type == "cuda" and whole and world_size() == 1


class EagerStep(Generic[Draws]):
    """Sends the draws of a step to the device and runs it."""

    def __init__(self, body: Body[Draws], device: torch.device) -> None:
        self.body, self.device = body, device

    def __call__(self, draws: Draws, phase: Hashable = None) -> Tensor:
        """The losses of the step with ``draws``, CPU tensors."""
        return self.body(send(draws, self.device))


class GraphedStep(EagerStep[Draws]):
    """Records the step of a phase after :data:`WARM` of them, and launches the record from then on.

    ``generators`` are those that the step draws from on the device; they have to be reseeded before each call.
    Raises ``torch.OutOfMemoryError`` where the record's memory doesn't fit, as the step itself would.
    """

    def __init__(self, body: Body[Draws], device: torch.device, generators: LayerGenerators) -> None:
        super().__init__(body, device)
        self.generators = generators
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.phase: Hashable = None
        self.warm = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.held: Draws
        self.losses: Tensor

    def __call__(self, draws: Draws, phase: Hashable = None) -> Tensor:
        """The losses of the step with ``draws``; the next call may write over them.

        Another ``phase`` means that the step has other operations than before.
        """
        if phase != self.phase:
            self.phase, self.graph, self.warm = phase, None, 0
        if self.graph is None and self.warm < WARM:
            self.warm += 1
            return self._run_aside(draws)
        if self.graph is None:
            self._record(draws)
        else:
            self._hold(draws)
        assert self.graph is not None
        self.graph.replay()
        return self.losses

    def _run_aside(self, draws: Draws) -> Tensor:
        """Runs the step on the stream that it is recorded on, as PyTorch asks for before a record."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            losses = super().__call__(draws)
        current.wait_stream(self.stream)
        return losses

    def _record(self, draws: Draws) -> None:
        """Recording runs nothing: the step that it is done in is the record's first launch."""
        self.held = send(draws, self.device)
        graph = torch.cuda.CUDAGraph()
        if TorchVersion(torch.__version__) < TorchVersion("2.14"):  # from there on, a graph finds them by itself
            for generator in self.generators.by_layer.values():
                graph.register_generator_state(generator)
        with torch.cuda.graph(graph, stream=self.stream):
            self.losses = self.body(self.held)
        self.graph = graph

    def _hold(self, draws: Draws) -> None:
        """Copies ``draws`` to where the record reads them."""
        for kept, new in zip(tree_leaves(self.held), tree_leaves(draws), strict=True):
            if new is not None:
                kept.copy_(new.pin_memory(), non_blocking=True)


def launched(
    body: Body[Draws], execution: Execution, device: torch.device, batch: int, generators: LayerGenerators
) -> EagerStep[Draws]:
    """``body`` as ``execution`` wants it launched, for steps of ``batch`` samples."""
    if graphed(execution, device, batch):
        return GraphedStep(body, device, generators)
    return EagerStep(body, device)
