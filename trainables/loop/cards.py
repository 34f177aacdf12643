"""The cards of this machine: which device a name means, and whether the installed PyTorch can use it.

PyTorch reports a driver or a card that is too old in long warnings, or in a traceback once a kernel is needed. Here
both are an error of one line, before anything is computed.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from trainables.errors import CardError

WAY_OUT = "take the CPU: --device cpu"
LOOK = f"see what nvidia-smi says, or {WAY_OUT}"

OLDER_BUILD = "12.6"
"""The CUDA of PyTorch's builds for older drivers (12.0 and later) and older cards (5.0 to 7.2)."""

OLDEST_CARD, OLDEST_DRIVER = (5, 0), 12

ALLOCATION_FAILED = re.compile(
    r"CUDA (driver )?error: out of memory|CUDA ran out of memory|CUDA out of memory|CUDA_ERROR_OUT_OF_MEMORY"
    r"|(CUBLAS|CUDNN|CUSOLVER|CUSPARSE)_STATUS_(\w+_)?ALLOC(ATION)?_FAILED|CUFFT_ALLOC_FAILED"
)
"""The messages of errors where memory ran out."""

NO_ENGINE = re.compile(r"unable to find an engine to execute|Unable to find a valid cuDNN algorithm")

NO_TENSOR_CORES = re.compile(r"GTX 16\d\d|MX[45]50|\bT(400|500|550|600|1000|1200|2000)\b|CMP 30HX")
"""Names of the cards of compute capability 7.5 (TU116, TU117) that lack the tensor cores of the others."""


def device_of(name: str) -> torch.device:
    """The device that ``name`` (auto, cpu, cuda, cuda:N) means here, a card by its index.

    Raises :class:`CardError` for a card that isn't here, or that the installed PyTorch can't use.
    """
    here = name != "cpu" and present()
    if name == "cpu" or (name == "auto" and not here):
        return torch.device("cpu")
    if not here:
        raise CardError(f"the device is to be {name!r}, and no CUDA card is there; {WAY_OUT}")
    start()
    index = int(name.removeprefix("cuda:")) if ":" in name else torch.cuda.current_device()
    count = torch.cuda.device_count()
    if index >= count:
        there = "cuda:0 alone is here" if count == 1 else f"cuda:0 to cuda:{count - 1} are here"
        raise CardError(f"the device is to be {name!r}, and {there}; name one of them, or {WAY_OUT}")
    check_kernels(index)
    return torch.device("cuda", index)


def present() -> bool:
    """Whether there is a card that PyTorch can use; raises :class:`CardError` for a card that it can't use."""
    if available():
        return True
    if torch.cuda.device_count():  # counts cards by NVIDIA's management library, also those that CUDA doesn't reach
        start()
    return False


def available() -> bool:
    """``torch.cuda.is_available()``, without its warning."""
    with _silent():
        return torch.cuda.is_available()


def start() -> None:
    """Starts CUDA in this process; raises :class:`CardError` where it doesn't start."""
    try:
        with _silent():
            torch.cuda.init()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise CardError(_not_started(str(error))) from error


def check_kernels(index: int) -> None:
    """Raises :class:`CardError` where the installed PyTorch has no kernels for a card."""
    kernels = torch.cuda.get_arch_list()
    capability = torch.cuda.get_device_capability(index)
    if torch.version.cuda is None or not kernels or any(covers(kernel, capability) for kernel in kernels):
        return
    if capability < OLDEST_CARD:
        build = ""
    elif capability < (7, 5):
        build = f"install torch's build for CUDA {OLDER_BUILD} ({_older_build()}), "
    else:
        build = "install a build of torch for a newer CUDA, "
    covered = ", ".join(re.sub(r"\w+_(\d+)(\d)([af]?)", r"\1.\2\3", kernel) for kernel in kernels)
    raise CardError(
        f"card {index} ({torch.cuda.get_device_name(index)}) is of compute capability "
        f"{capability[0]}.{capability[1]}, and the installed torch {torch.__version__} has kernels for {covered}; "
        f"{build}hide the card by CUDA_VISIBLE_DEVICES, or {WAY_OUT}"
    )


def covers(kernel: str, capability: tuple[int, int]) -> bool:
    """Whether a card of this compute capability runs ``kernel``, of :func:`torch.cuda.get_arch_list`.

    Machine code (sm_XY) runs on cards of its major version from its minor version on; with an "a" on its own version
    alone. PTX (compute_XY) runs on any card from its version on.
    """
    found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", kernel)
    if not found:
        return False
    version = int(found[2]), int(found[3])
    if found[4] == "a":
        return capability == version
    return capability >= version and (capability[0] == version[0] or found[1] == "compute")


def suited_dtype(device: torch.device) -> torch.dtype:
    """The fastest dtype that a card computes correctly in: bf16 from Ampere (8.0), fp16 on older tensor cores, fp32.

    Turing without tensor cores (such as GTX 16xx) gives NaN in half-precision convolutions (pytorch/pytorch #58123,
    #77955), and Pascal (6.1) computes in fp16 at a 64th of its speed in fp32.
    """
    start()
    major, _ = torch.cuda.get_device_capability(device)
    if torch.version.hip or major >= 8:
        return torch.bfloat16
    if major < 7 or NO_TENSOR_CORES.search(torch.cuda.get_device_name(device)):
        return torch.float32
    return torch.float16


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a card's memory ran out, in PyTorch's allocator, a library or the driver.

    Where there is no memory for a workspace of cuDNN, PyTorch says that it found no engine. That has other causes,
    too, so the allocator's count of failures decides.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    if NO_ENGINE.search(str(error)):
        return bool(torch.cuda.memory_stats().get("num_ooms", 0))
    return ALLOCATION_FAILED.search(str(error)) is not None


@contextlib.contextmanager
def on_device(network: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """Puts ``network`` on ``device`` for the length of a ``with``, and then gives it the weights that it had before.

    Nothing is copied back, so the weights must not be changed inside; nor is anything copied where they lie on the
    device already.
    """
    owners: list[dict[str, Any]] = [
        owner for module in network.modules() for owner in (module._parameters, module._buffers)
    ]
    homes = [
        (owner, name, tensor, tensor.data) for owner in owners for name, tensor in owner.items() if tensor is not None
    ]
    try:
        network.to(device)
        yield
    finally:
        for owner, name, tensor, data in homes:
            tensor.data = data
            owner[name] = tensor


def memory() -> list[tuple[int, int]]:
    """Free and total bytes of each card; raises :class:`CardError` where PyTorch can't use one of them."""
    start()
    found = []
    for index in range(torch.cuda.device_count()):
        check_kernels(index)
        try:
            found.append(torch.cuda.mem_get_info(index))
        except RuntimeError as error:
            raise CardError(f"card {index} does not answer ({_first_line(str(error))}); {LOOK}") from error
    return found


def names() -> list[str]:
    """The names of the cards that PyTorch can talk to; none where it can't."""
    with _silent():
        count = torch.cuda.device_count() if available() else 0
        return [torch.cuda.get_device_name(index) for index in range(count)]


def _not_started(reason: str) -> str:
    """The error for a CUDA that doesn't start, from what PyTorch says of it."""
    found = re.search(r"found version (\d+)", reason)
    if not found:
        return f"CUDA must start for a card to be used, and does not ({_first_line(reason)}); {LOOK}"
    major, minor = int(found[1]) // 1000, int(found[1]) % 1000 // 10
    needed = str(torch.version.cuda)
    build = f"install torch's build for CUDA {OLDER_BUILD} ({_older_build()}), " if major >= OLDEST_DRIVER else ""
    return (
        f"the NVIDIA driver is made for CUDA {major}.{minor}, and the installed torch {torch.__version__} for CUDA "
        f"{needed}; update the driver to one for CUDA {needed.split('.')[0]} or newer, {build}or {WAY_OUT}"
    )


def _older_build() -> str:
    """The build of the installed version for older drivers and cards, as pip names it."""
    return f"torch=={torch.__version__.split('+')[0]}+cu{OLDER_BUILD.replace('.', '')}"


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[0]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Hides the warnings of PyTorch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
