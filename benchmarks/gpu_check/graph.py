"""A whole training step as one CUDA graph, against the same step launched kernel by kernel."""

from __future__ import annotations

import dataclasses

import torch

from gpu_check.card import Card
from gpu_check.notes import Notes
from gpu_check.speed import steps_a_second
from gpu_check.trainings import RECIPE, SECTIONS, execution, in_precision, losses, scratch, train
from trainables.execution import Execution

STEPS = {"diffusion": 20, "vae": 6}
BATCHES = {"diffusion": 16, "vae": 8}
"""Steps whose losses are compared, and samples in them; speeds are of the recipe's own batches."""

CLOSE = {"fp32": 1e-4, "auto": 2e-2}
"""Tolerance of a loss, relative: the same kernels run in the same order, but not all of them add in one order."""


def show_graph(notes: Notes, card: Card) -> None:
    """Part 7: equal losses, then how much faster."""
    if "cuda_graph" not in {field.name for field in dataclasses.fields(Execution)}:
        notes.leave_out("Execution has no field cuda_graph")
        return
    for section, network in SECTIONS.items():
        for precision, close in CLOSE.items():
            steps = STEPS[section]
            recipe = in_precision(precision, **{f"{section}.batch_size": BATCHES[section]})
            found = []
            for graphed in (False, True):
                with scratch() as folder:
                    found.append(losses(train(recipe, section, steps, execution(cuda_graph=graphed), folder)))
            eager, graph = (torch.tensor(each) for each in found)
            notes.check(f"{network}, {precision}: {steps} steps as a graph end", len(graph) == steps)
            off = ((graph - eager) / eager).abs().max().item()
            notes.measure(f"{network}.{precision}.largest_loss_relative", off, computed=True)
            notes.check(f"{network}, {precision}: losses differ by at most {close:g}", off <= close, computed=True)
        eager_speed, graph_speed = (
            steps_a_second(RECIPE, section, execution(cuda_graph=graphed)) for graphed in (False, True)
        )
        notes.measure(f"{network}.eager.steps_a_second", eager_speed, computed=True)
        notes.measure(f"{network}.graph.steps_a_second", graph_speed, computed=True)
        notes.measure(f"{network}.graph_over_eager", graph_speed / eager_speed, computed=True)
