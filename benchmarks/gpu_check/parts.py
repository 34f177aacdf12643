"""The parts, in their order, each with its limit and an estimate of what it takes.

The estimates are not measured. They count a part's steps at the times that were estimated for the recipe
``improved``: on an RTX 3060 15 ms a step of the denoiser in half precision and 155 ms one of the autoencoder, in
fp32 twice as much, 30 ms an evaluation of 64 latents; on an H200 a fifth, an eighth and a quarter of these. Each
process adds 6 s for its start (torch and the context), and each training of the denoiser 1 s for its checkpoint.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Part:
    """One part of the check."""

    number: int
    name: str
    shows: str
    """In a few words, what it is for."""
    limit: int
    """Seconds after which it is ended."""
    estimate: tuple[int, int]
    """Seconds that it is expected to take on an RTX 3060 and on an H200."""
    place: str
    """The function that does it, as ``module:name``."""

    def function(self) -> Callable[..., Any]:
        """The function itself; called with :class:`~gpu_check.notes.Notes` and the :class:`~gpu_check.card.Card`."""
        module, _, name = self.place.partition(":")
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
        return function


PROBE_LIMIT = 30
"""Seconds in which the card must have answered: the first import of torch reads gigabytes."""

PARTS = (
    Part(1, "cap", "an allocation past memory_gib is refused", 15, (7, 7), "gpu_check.cap:show_cap"),
    Part(2, "tests", "tests/trainables/test_gpu.py", 125, (75, 65), "gpu_check.card_tests:run_tests"),
    Part(3, "memory", "context, workspaces and reserve", 35, (18, 16), "gpu_check.memory:show_memory"),
    Part(4, "agreement", "CPU against card, in fp32", 40, (18, 15), "gpu_check.agreement:show_agreement"),
    Part(5, "fp16", "200 steps of each training in fp16", 45, (30, 14), "gpu_check.half:show_half"),
    Part(6, "speed", "steps a second, and how busy the card is", 55, (42, 25), "gpu_check.speed:show_speed"),
    Part(7, "graph", "a whole step as a CUDA graph", 35, (25, 15), "gpu_check.graph:show_graph"),
    Part(8, "packing", "1, 2 and 4 trials at once", 35, (25, 20), "gpu_check.packing:show_packing"),
    Part(9, "stacked", "eight trials as one", 30, (16, 10), "gpu_check.stacked:show_stacked"),
    Part(10, "images", "200 images; kill and resume", 35, (25, 18), "gpu_check.images:show_images"),
)


def listed() -> str:
    """The parts with their limits and estimates, in seconds, for people."""
    rows: list[tuple[object, ...]] = [("", "part", "shows", "limit", "RTX 3060", "H200")]
    rows.append(("", "card", "which it is, and that it computes", PROBE_LIMIT, 6, 6))
    rows += [(part.number, part.name, part.shows, part.limit, *part.estimate) for part in PARTS]
    rows.append(("", "", "", *(sum(row[column] for row in rows[1:]) for column in (3, 4, 5))))  # type: ignore[misc]
    return "\n".join(f"{row[0]:>2}  {row[1]:<10} {row[2]:<42} {row[3]:>5} {row[4]:>9} {row[5]:>5}" for row in rows)
