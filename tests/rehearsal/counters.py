"""The null card as the process sees it that uses it: what was counted since the last look, and who waited."""

from __future__ import annotations

import collections
import ctypes
import functools
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rehearsal.library import NAME

WAITS = ("stream_waits", "event_waits", "device_waits", "copy_waits")
"""The counters of what makes the host wait for the card."""

CAST = re.compile(
    r"float16_copy_kernel"
    r"|direct_copy_kernel_cuda.*LoadWithCast"
    r"|gpu_kernel_implI.*direct_copy_kernel_cuda"
    r"|multi_tensor_apply.*CopyFunctorI(?!(\w)\1)"
)
"""Kernels that copy from one dtype to another, among PyTorch's mangled names."""

Tell = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_long)
OnWait = ctypes.CFUNCTYPE(None, ctypes.c_int)


@functools.cache
def card() -> ctypes.CDLL:
    """The null card's library."""
    found = ctypes.CDLL(NAME)
    found.null_card_counters.restype = ctypes.c_char_p
    found.null_card_counter.restype = ctypes.c_long
    found.null_card_launch.argtypes = (ctypes.c_char_p, ctypes.c_void_p)
    found.null_card_kernels.argtypes = (Tell,)
    return found


@functools.cache
def names() -> tuple[str, ...]:
    """The counters, in the order of their numbers (``card/card.h``)."""
    return tuple(card().null_card_counters().decode().split())


def total() -> collections.Counter[str]:
    """Every counter since this process began."""
    return collections.Counter({name: card().null_card_counter(number) for number, name in enumerate(names())})


def kernels() -> collections.Counter[str]:
    """Launches by kernel, those that were captured included, since the last :func:`reset_kernels`."""
    found: collections.Counter[str] = collections.Counter()

    def tell(name: bytes, launches: int) -> None:
        found[name.decode()] += launches

    card().null_card_kernels(Tell(tell))
    return found


def reset_kernels() -> None:
    """Forgets the launches by kernel."""
    card().null_card_reset_kernels()


def casts(launched: collections.Counter[str]) -> int:
    """How many of these launches only change a dtype."""
    return sum(number for name, number in launched.items() if CAST.search(name))


# ---- Who waits

NOBODYS = (__file__, str(Path(__file__).with_name("standins.py")))
OTHERS = ("site-packages", "<frozen", f"{os.sep}lib{os.sep}python")


def asking_line() -> str:
    """The innermost line of this thread that is neither a package's, nor Python's, nor the null card's."""
    frame = sys._getframe()
    while frame is not None:
        path = frame.f_code.co_filename
        if path not in NOBODYS and not any(part in path for part in OTHERS):
            return f"{'/'.join(Path(path).parts[-2:])}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "no line of Python, such as autograd's own thread"


@contextmanager
def waiting_lines() -> Iterator[collections.Counter[str]]:
    """Counts the lines of code at which the host waits for the card, while this lasts."""
    lines: collections.Counter[str] = collections.Counter()

    def note(counter: int) -> None:
        lines[f"{asking_line()} ({names()[counter].replace('_waits', '')})"] += 1

    called = OnWait(note)
    pointer = ctypes.c_void_p.in_dll(card(), "null_card_on_wait")
    pointer.value = ctypes.cast(called, ctypes.c_void_p).value
    try:
        yield lines
    finally:
        pointer.value = None
