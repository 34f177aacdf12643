"""The cap: what a process may allocate is what its execution says, not what the card has."""

from __future__ import annotations

import torch

from gpu_check.card import Card
from gpu_check.notes import Notes
from trainables.loop.settings import GIB, Execution
from trainables.resources.memory import MIB

CAP = 1.0
"""GiB."""


def show_cap(notes: Notes, card: Card) -> None:
    """Part 1: allocations of less than the cap are given, one past it is refused, and in all no more than the cap."""
    device = Execution(memory_gib=CAP).prepare()
    free, total = torch.cuda.mem_get_info(device)
    notes.measure("cap.gib", CAP)
    notes.measure("card.free_mib", free / MIB)
    notes.measure("card.total_mib", total / MIB)
    if free < 1.5 * CAP * GIB:
        notes.leave_out(
            f"the card has less than {1.5 * CAP:g} GiB free, so that what it refuses says nothing of the cap"
        )
        return

    half = _allocated(0.5, device)
    notes.check("half of the cap is given", half is not None)
    notes.check("1.5 times the cap is refused with OutOfMemoryError", _allocated(1.5, device) is None)
    notes.check("a second allocation that goes past the cap is refused", _allocated(0.75, device) is None)
    del half
    torch.cuda.empty_cache()
    notes.check("after that, nine tenths of the cap are given", _allocated(0.9, device) is not None)


def _allocated(gib: float, device: torch.device) -> torch.Tensor | None:
    """So much of the card's memory; None where the allocator refuses it."""
    try:
        return torch.empty(int(gib * GIB), dtype=torch.uint8, device=device)
    except torch.OutOfMemoryError:
        return None
