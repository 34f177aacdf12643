"""When a step is launched as one graph, and what a step gets; that graphs are recorded is seen in the rehearsal."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from trainables.loop.draws import LayerGenerators
from trainables.loop.execution import send, uses_graph
from trainables.loop.graphs import EagerStep, launcher
from trainables.loop.settings import Execution

CPU, CARD = torch.device("cpu"), torch.device("cuda:0")


class Pair(NamedTuple):
    first: Tensor
    second: Tensor | None


def test_a_graph_takes_a_card_the_whole_batch_and_being_asked_for() -> None:
    asked = Execution(cuda_graph=True)
    assert uses_graph(asked, CARD, 16)
    assert uses_graph(asked.replace(micro_batch=16), CARD, 16)
    assert not uses_graph(Execution(), CARD, 16)
    assert not uses_graph(asked, CPU, 16)


@pytest.mark.parametrize("change", [{"micro_batch": 8}, {"checkpoint_activations": True}, {"workers": 2}], ids=str)
def test_what_splits_a_step_runs_without_one(change: dict[str, int]) -> None:
    assert not uses_graph(Execution(cuda_graph=True, **change), CARD, 16)  # type: ignore[arg-type]


def test_a_step_gets_its_draws_and_gives_its_losses() -> None:
    got: list[Pair] = []

    def body(draws: Pair) -> Tensor:
        got.append(draws)
        return draws.first + 1

    cleared: list[None] = []
    step = launcher(body, lambda: cleared.append(None), Execution(cuda_graph=True), CPU, 2, LayerGenerators())
    assert type(step) is EagerStep
    draws = Pair(torch.ones(2), None)
    assert torch.equal(step(draws), torch.full((2,), 2.0))
    assert torch.equal(got[0].first, draws.first)
    assert got[0].second is None
    assert len(cleared) == 1


def test_what_lies_on_the_device_is_not_sent_again() -> None:
    draws = Pair(torch.ones(2), None)
    assert send(draws, CPU).first is draws.first
