"""Which null card a command gets, and what each of the command's processes did on it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

from rehearsal.library import NAME

CONTEXT = 400 << 20
"""Bytes that a process takes of the card before its first allocation (``card/device.c``)."""


@dataclass(frozen=True)
class Card:
    """What the null card is taken for."""

    capability: str = "8.6"
    gib: float = 6.0
    driver: int = 13000
    """The newest CUDA that its driver knows, 1000 times the major version and 10 times the minor one."""

    def variables(self, record: Path) -> dict[str, str]:
        """The environment variables that say so; its processes share the card by the file ``record``."""
        return {
            "NULL_CARD_CAPABILITY": self.capability,
            "NULL_CARD_GIB": str(self.gib),
            "NULL_CARD_DRIVER": str(self.driver),
            "NULL_CARD_RECORD": str(record),
        }


@dataclass(frozen=True)
class Process:
    """What a process did on the card."""

    command: str
    peak: int
    """Bytes, the context included."""
    counts: dict[str, int]

    @property
    def precisions(self) -> set[str]:
        """The dtypes below fp32 that it multiplied in: ``fp16``, ``bf16``."""
        return {name for name in ("fp16", "bf16") if self.counts[f"products_{name}"]}


def processes(record: Path, folder: Path) -> list[Process]:
    """The processes that launched something on the card of ``record``; its library lies in ``folder``."""
    if not record.exists():
        return []
    library = ctypes.CDLL(str(folder / NAME))
    library.null_card_counters.restype = ctypes.c_char_p
    names = library.null_card_counters().decode().split()

    class Record(ctypes.Structure):
        """A ``struct record`` of ``card/record.c``."""

        _fields_ = (
            ("process", ctypes.c_int),
            ("entered", ctypes.c_int),
            ("live", ctypes.c_long),
            ("peak", ctypes.c_long),
            ("counters", ctypes.c_long * len(names)),
            ("command", ctypes.c_char * 248),
        )

    kept = record.read_bytes()
    used = ctypes.c_long.from_buffer_copy(kept).value
    size = ctypes.sizeof(Record)
    records = (Record.from_buffer_copy(kept, ctypes.sizeof(ctypes.c_long) + number * size) for number in range(used))
    found = []
    for each in records:
        counts = dict(zip(names, each.counters, strict=True))
        found.append(Process(each.command.decode(errors="replace").strip(), each.peak, counts))
    return [process for process in found if process.counts["launches"]]
