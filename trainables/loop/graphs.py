"""How an optimiser step is launched: operation by operation, or all of it as one CUDA graph.

With small networks a card waits for launches, some 1,300 a step. A graph is recorded once, and then launched whole
(Nguyen et al. 2021, "Accelerating PyTorch with CUDA Graphs"). It repeats what it recorded, so what changes from step
to step must be a tensor whose memory stays: the draws, the learning rate, the KL weight, the dropout's seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.torch_version import TorchVersion
from torch.utils._pytree import tree_leaves

from trainables.loop.cards import out_of_memory
from trainables.loop.draws import LayerGenerators
from trainables.loop.execution import send, uses_graph
from trainables.loop.settings import Execution

Draws = TypeVar("Draws", bound=tuple[Any, ...])

Body = Callable[[Draws], Tensor]
"""A step with the weights' update: it sends the draws to the device, and returns the losses there."""

WARM = 3
"""Steps that run as they are before a graph is recorded: optimisers and libraries allocate in them."""


class EagerStep(Generic[Draws]):
    """Runs a step operation by operation, after ``clear`` has removed the gradients of the step before."""

    def __init__(self, body: Body[Draws], clear: Callable[[], None]) -> None:
        self.body, self.clear = body, clear

    def __call__(self, draws: Draws, phase: Hashable = None) -> Tensor:
        """The losses of the step with ``draws``, CPU tensors."""
        self.clear()
        return self.body(draws)


class GraphedStep(EagerStep[Draws]):
    """Records a phase's step after :data:`WARM` of them, and launches the graph from then on.

    The step draws from ``generators`` on the device; reseed them before each call. Raises what the step raises where
    the graph's memory doesn't fit (:func:`trainables.loop.cards.out_of_memory`).
    """

    def __init__(
        self, body: Body[Draws], clear: Callable[[], None], device: torch.device, generators: LayerGenerators
    ) -> None:
        super().__init__(body, clear)
        self.device, self.generators = device, generators
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.phase: Hashable = None
        self.warm = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.held: Draws
        self.losses: Tensor

    def __call__(self, draws: Draws, phase: Hashable = None) -> Tensor:
        """The losses of the step with ``draws``, until the next call; a new ``phase`` has other operations."""
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
        """Runs the step on the stream that will record it, which PyTorch asks for."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            losses = super().__call__(draws)
        current.wait_stream(self.stream)
        return losses

    def _record(self, draws: Draws) -> None:
        """Records the step. Recording computes nothing, so the caller must then launch the graph for this step."""
        self.held = send(draws, self.device)
        graph = torch.cuda.CUDAGraph()
        if TorchVersion(torch.__version__) < TorchVersion("2.14"):  # from there on, a graph finds them by itself
            for generator in self.generators.by_layer.values():
                graph.register_generator_state(generator)
        self.clear()
        current = torch.cuda.current_stream(self.device)
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                self.losses = self.body(self.held)
        except RuntimeError as error:
            # A recording that fails may also fail to end; its first error says why.
            cause = error.__context__
            raise cause if cause is not None and out_of_memory(cause) else error from None
        finally:
            torch.cuda.set_stream(current)
        self.graph = graph

    def _hold(self, draws: Draws) -> None:
        """Copies ``draws`` to the memory that the graph reads."""
        for kept, new in zip(tree_leaves(self.held), tree_leaves(draws), strict=True):
            if new is not None:
                kept.copy_(new.pin_memory(), non_blocking=True)


def launcher(
    body: Body[Draws],
    clear: Callable[[], None],
    execution: Execution,
    device: torch.device,
    batch: int,
    generators: LayerGenerators,
) -> EagerStep[Draws]:
    """The launcher of ``body`` that ``execution`` asks for, for steps of ``batch`` samples."""
    if uses_graph(execution, device, batch):
        return GraphedStep(body, clear, device, generators)
    return EagerStep(body, clear)
