"""Lets torchvision be imported where its binary does not fit the installed torch.

A torchvision built for CUDA cannot load its binary beside a CPU build of torch. Its import, and with it those of
torchmetrics and clean-fid, then fails on two operators that only the binary defines. Nothing here uses them, so their
schemas are enough. Import this module before torchmetrics and cleanfid; where the binary loads, or torchvision is
absent or already imported, it defines nothing.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import sys
from pathlib import Path

import torch

SCHEMAS = [f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms")]

BINARIES = ("_C", "_C_stable")
"""Names of the extension that defines them, up to torchvision 0.28 and from 0.29 on."""


def binary_loads(folder: Path) -> bool:
    """Whether the extension of the torchvision in ``folder`` loads into this process."""
    details = (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES)
    finder = importlib.machinery.FileFinder(str(folder), details)
    for name in BINARIES:
        spec = finder.find_spec(name)
        if spec is not None and spec.origin is not None:
            with contextlib.suppress(OSError):
                torch.ops.load_library(spec.origin)  # type: ignore[no-untyped-call]
                return True
    return False


def define_missing_schemas() -> torch.library.Library | None:
    """Defines the schemas where they are needed, as long as the library that it returns is kept."""
    if "torchvision" in sys.modules:
        return None
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None or binary_loads(Path(found.origin).parent):
        return None
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    return library


LIBRARY = define_missing_schemas()
