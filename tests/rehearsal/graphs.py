"""Whole steps as CUDA graphs: a capture of each training is accepted, and then launched in place of its kernels.

``pytest tests/rehearsal/graphs.py`` over the null card.
"""

from __future__ import annotations

import pytest

from rehearsal.steps import RECIPE, Asked, first_steps
from trainables.loop.settings import Execution

STEPS = 6
GRAPHED = 2
"""The last steps, which are launches of the graph that an earlier one left."""

LAUNCHES = 20
"""What such a step may launch beside its graph."""

GENERATORS = {"diffusion": 17, "vae": 0}
"""Those that a step draws from on the card, one for each layer with dropout: PyTorch fills a seed and an offset for
each of them before it launches a graph."""


def steps(section: str, precision: str) -> list[Asked]:
    """The first steps of a training with a graph."""
    execution = Execution(device="cuda:0", cuda_graph=True)
    return first_steps(RECIPE.replace(**{f"{section}.precision": precision}), section, execution, STEPS)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
@pytest.mark.parametrize("section", ["diffusion", "vae"])
def test_the_later_steps_are_one_launch_of_a_graph(section: str, precision: str) -> None:
    asked = steps(section, precision)
    assert sum(step.counts["refused"] for step in asked) == 0, "the capture does nothing that CUDA forbids"
    assert sum(step.counts["captures"] for step in asked) == 1
    # The first step counts what comes before it, too: the validation of the untrained network.
    kernels = max(step.counts["launches"] for step in asked[1 : STEPS - GRAPHED])
    for step in asked[-GRAPHED:]:
        assert step.counts["graph_launches"] == 1
        assert step.counts["graph_kernels"] > kernels / 2, "the graph holds the step"
        assert step.counts["launches"] <= LAUNCHES + 2 * GENERATORS[section], step.kernels.most_common(9)
        assert step.waits == 0, step.lines
