"""A whole training step as one CUDA graph, against the same step launched kernel by kernel."""

from __future__ import annotations

import torch

from gpu_check import speed
from gpu_check.card import Card
from gpu_check.notes import Notes
from gpu_check.speed import steps_a_second
from gpu_check.trainings import RECIPE, SECTIONS, execution, in_precision, losses, scratch, train

STEPS = {"diffusion": 20, "vae": 6}
BATCHES = {"diffusion": 16, "vae": 8}
"""Steps whose losses are compared, and samples in them; speeds are of the recipe's own batches."""

STAND_INS = 6
"""Steps where nothing is computed."""

CLOSE = {"fp32": 1e-4, "auto": 2e-2}
"""Tolerance of a loss, relative: the same kernels run in the same order, but not all of them add in one order."""


def show_graph(notes: Notes, card: Card) -> None:
    """Part 7: equal losses, then how much faster."""
    for section, network in SECTIONS.items():
        for precision, close in CLOSE.items():
            compare(notes, card.count(STEPS[section], STAND_INS), section, precision, close)
        steps, every = card.count(speed.STEPS[section], speed.STAND_INS), card.count(speed.EVERY[section], 1)
        eager, graph = (
            steps_a_second(RECIPE, section, execution(cuda_graph=graphed), steps, every) for graphed in (False, True)
        )
        notes.measure(f"{network}.eager.steps_a_second", eager, computed=True)
        notes.measure(f"{network}.graph.steps_a_second", graph, computed=True)
        notes.measure(f"{network}.graph_over_eager", graph / eager, computed=True)


def compare(notes: Notes, steps: int, section: str, precision: str, close: float) -> None:
    """The losses of a training's first steps both ways."""
    name = f"{SECTIONS[section]}.{precision}"
    recipe = in_precision(precision, **{f"{section}.batch_size": BATCHES[section]})
    found = []
    for graphed in (False, True):
        with scratch() as folder:
            found.append(losses(train(recipe, section, steps, execution(cuda_graph=graphed), folder)))
    eager, graph = (torch.tensor(each) for each in found)
    notes.check(f"{name}: {steps} steps as a graph end", len(graph) == steps)
    off = ((graph - eager) / eager).abs().max().item()
    notes.measure(f"{name}.largest_loss_relative", off, computed=True)
    notes.check(f"{name}: losses differ by at most {close:g}", off <= close, computed=True)
