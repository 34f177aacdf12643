"""The one operation whose own code can't go on without what a card computes: ``nonzero``, and so ``x[mask]``."""

from __future__ import annotations

import ctypes
import warnings

import torch
from torch import Tensor

from rehearsal.counters import card

NONZERO_KERNELS = 4
"""What PyTorch launches to count and to collect indices."""

_library = torch.library.Library("aten", "IMPL")


def install() -> None:
    """Puts the stand-in into PyTorch, and tells the null card which cuDNN this PyTorch was built for."""
    major, minor, patch = torch._C._cudnn.getCompileVersion()
    ctypes.c_size_t.in_dll(card(), "null_card_cudnn_version").value = major * 10_000 + minor * 100 + patch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _library.impl("nonzero", nonzero, "CUDA")


def nonzero(x: Tensor) -> Tensor:
    """Indices by what lies in the memory of ``x``: what was copied there, else what chance left. The host waits."""
    for _ in range(NONZERO_KERNELS):
        launch("nonzero")
    torch.empty((), device=x.device).item()
    memory = x.contiguous()
    values = torch.empty(x.shape, dtype=x.dtype)
    ctypes.memmove(values.data_ptr(), memory.data_ptr(), memory.nbytes)
    found = values.nonzero()
    indices = torch.empty(found.shape, dtype=found.dtype, device=x.device)
    ctypes.memmove(indices.data_ptr(), found.data_ptr(), found.nbytes)
    return indices


def launch(name: str) -> None:
    """Counts one kernel on the current stream."""
    error = card().null_card_launch(name.encode(), torch.cuda.current_stream().cuda_stream)
    if error:
        raise torch.AcceleratorError(f"CUDA error {error} at {name}")
