"""Lets torchvision's Python half be imported where its binary does not fit the installed torch.

A torchvision built for CUDA cannot load its binary beside a CPU build of torch. Its import then fails on two
operators that only the binary defines, ``nms`` and ``qnms``, and takes torchmetrics and clean-fid with it.
Nothing here uses those operators, so their bare schemas are enough. Import this module before torchmetrics and
cleanfid; where the binary loads, or torchvision is absent or already imported, it defines nothing.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


BINARIES = ("_C", "_C_stable")
"""What torchvision calls the extension that defines them, up to 0.28 and from 0.29 on."""


def binary_loads(folder: Path) -> bool:
    """Whether the extension of the torchvision in ``folder`` loads into this process, as torchvision tries."""
    details = (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES)
    finder = importlib.machinery.FileFinder(str(folder), details)
    specs = [finder.find_spec(name) for name in BINARIES]
    return any(_loads(spec.origin) for spec in specs if spec is not None and spec.origin is not None)


def _loads(library: str) -> bool:
    try:
        torch.ops.load_library(library)  # type: ignore[no-untyped-call]
    except OSError:
        return False
    return True


def define_missing_schemas() -> torch.library.Library | None:
    """Defines the schemas where they are needed; the library must stay referenced for as long as they are used."""
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
