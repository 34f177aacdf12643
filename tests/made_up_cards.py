"""Cards that aren't there, as PyTorch tells of them: it refuses, raises and warns where PyTorch itself does."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch

CUDA_13 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
"""What PyTorch's builds for CUDA 13 have kernels for."""

CUDA_12 = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
"""The same of those for CUDA 12.6."""

Card = tuple[str, tuple[int, int]]
"""A card's name and its compute capability."""

RTX_3060: Card = ("NVIDIA GeForce RTX 3060", (8, 6))
GTX_1060: Card = ("NVIDIA GeForce GTX 1060 6GB", (6, 1))

OUT_OF_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB. GPU 0 has a total capacity of 6.00 GiB"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
    RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
    RuntimeError("CUDA driver error: out of memory"),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
)
"""In what words memory runs out, by PyTorch's allocator, NVIDIA's libraries and the driver."""

OTHER_ERRORS = (
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
    RuntimeError("cuFFT error: CUFFT_INVALID_SIZE"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("The size of tensor a (4) must match the size of tensor b (8) at non-singleton dimension 1"),
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
)
"""Errors that are none of memory."""

GIB = 2**30


def index_of(device: torch.device | int) -> int:
    """The index of a card, as PyTorch reads it where it doesn't take the current one: a device without is refused."""
    return torch.cuda._utils._get_device_index(device)


def plant(
    monkeypatch: pytest.MonkeyPatch,
    *cards: Card,
    driver: int = 13000,
    cuda: str = "13.0",
    kernels: Sequence[str] = CUDA_13,
    current: int = 0,
    gib: float = 6,
) -> list[tuple[int, float]]:
    """Puts ``cards`` of so many GiB into this process, under a driver for CUDA ``driver``, as CUDA writes versions.

    Returns the memory fractions that are set, each with the index of its card, as they come.
    """
    too_old = (
        f"The NVIDIA driver on your system is too old (found version {driver}). Please update your GPU driver by "
        "downloading and installing a new version.\nThere is more to read."
    )
    old = driver // 1000 < int(cuda.split(".")[0])
    fractions: list[tuple[int, float]] = []
    started: list[bool] = []

    def is_available() -> bool:
        if old and cards:
            warnings.warn(f"CUDA initialization: {too_old}", stacklevel=2)
        return bool(cards) and not old

    def start() -> None:
        if old:
            raise RuntimeError(too_old)
        if not cards:
            raise RuntimeError("No CUDA GPUs are available")
        if not started:
            started.append(True)
            warnings.warn("The current PyTorch install supports many\nCUDA capabilities.", stacklevel=2)

    def get_device_properties(device: torch.device | int | None = None) -> SimpleNamespace:
        start()
        index = torch.device(device).index if isinstance(device, torch.device) else device
        index = current if index is None else index
        if not 0 <= index < len(cards):
            raise AssertionError("Invalid device id")
        name, (major, minor) = cards[index]
        return SimpleNamespace(name=name, major=major, minor=minor, total_memory=int(gib * GIB))

    def current_device() -> int:
        start()
        return current

    def set_device(device: torch.device | int) -> None:
        nonlocal current
        get_device_properties(index_of(device))
        current = index_of(device)

    def mem_get_info(device: torch.device | int | None = None) -> tuple[int, int]:
        total = get_device_properties(device).total_memory
        return total - GIB // 4, total

    def set_per_process_memory_fraction(fraction: float, device: torch.device | int) -> None:
        if not isinstance(fraction, float) or not 0 <= fraction <= 1:
            raise ValueError(f"Invalid fraction value: {fraction}")
        fractions.append((index_of(device), fraction))

    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch, "__version__", f"2.14.1+cu{cuda.replace('.', '')}")
    monkeypatch.setattr(torch.cuda, "init", start)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(kernels))
    for function in (
        is_available,
        get_device_properties,
        current_device,
        set_device,
        mem_get_info,
        set_per_process_memory_fraction,
    ):
        monkeypatch.setattr(torch.cuda, function.__name__, function)
    return fractions
