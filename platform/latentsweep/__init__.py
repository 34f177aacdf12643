"""latentsweep: which choices make slice-by-slice latent diffusion work on your brain MRI?

``prepare``, ``sweep``, ``ablate``, ``train``, ``load`` and ``release`` do in Python what the commands of these names
do (docs/python.md). Each is imported when it is first asked for, so that importing the package imports no torch, Ray
or MLflow.
"""

import importlib
from typing import TYPE_CHECKING, Any

import trainables as trainables  # before PyTorch: it says how PyTorch's threads wait

if TYPE_CHECKING:
    from latentsweep.api.datasets import prepare
    from latentsweep.api.models import load
    from latentsweep.api.releases import release
    from latentsweep.api.searches import sweep
    from latentsweep.api.studies import ablate
    from latentsweep.api.trainings import train

__version__ = "0.1.0"
__all__ = ["ablate", "load", "prepare", "release", "sweep", "train"]

_MODULES = {
    "prepare": "datasets",
    "sweep": "searches",
    "ablate": "studies",
    "train": "trainings",
    "load": "models",
    "release": "releases",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"{__name__}.api.{_MODULES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
