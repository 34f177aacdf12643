"""The card that is checked: which one it is, and whether it computes."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """A card, and the torch that drives it."""

    name: str
    capability: tuple[int, int]
    bytes: int
    """Its memory."""
    torch: str
    cuda: str
    """The version that torch was built for."""
    driver: str
    """NVIDIA's driver; empty where ``nvidia-smi`` isn't there to tell it."""
    computes: bool
    """Whether 1 + 1 is 2 on it: there are stand-ins for a card that compute nothing."""

    def count(self, real: int, stand_in: int) -> int:
        """How many steps or samples a part takes: fewer where nothing is computed, and only that it runs is shown."""
        return real if self.computes else stand_in

    @classmethod
    def from_json(cls, text: str) -> Card:
        """The inverse of :meth:`to_json`."""
        values = json.loads(text)
        return cls(**{**values, "capability": tuple(values["capability"])})

    def to_json(self) -> str:
        """As one line."""
        return json.dumps(dataclasses.asdict(self))


class NoCardError(Exception):
    """There is no card that this torch can use; the text is one line for people."""


def find_card() -> Card:
    """The first card that torch sees; raises :class:`NoCardError`. Takes a context on the card."""
    try:
        import torch
    except ModuleNotFoundError:
        raise NoCardError(
            f"{sys.executable} has no torch; name a Python that has it: make gpu-check GPU_PYTHON=/path/to/python3"
        ) from None
    which = f"torch {torch.__version__} of {sys.executable}"
    if torch.version.cuda is None:
        raise NoCardError(
            f"{which} is built without CUDA; name a Python with a CUDA build: "
            "make gpu-check GPU_PYTHON=/path/to/python3"
        )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        reasons = "; ".join(str(warning.message).splitlines()[0] for warning in said)
        raise NoCardError(
            f"{which}, built for CUDA {torch.version.cuda}, finds no NVIDIA card that it can use"
            + (f" ({reasons})" if reasons else "; nvidia-smi shows which card and driver are here")
        )
    name, capability = torch.cuda.get_device_name(0), torch.cuda.get_device_capability(0)
    try:
        two = (torch.ones(1, device="cuda:0") + 1).item()
    except RuntimeError as error:
        raise NoCardError(
            f"{which} can't compute on {name}, of compute capability {capability[0]}.{capability[1]} (its kernels "
            f"are for {', '.join(torch.cuda.get_arch_list())}): {str(error).splitlines()[0]}"
        ) from None
    total = torch.cuda.get_device_properties(0).total_memory
    return Card(name, capability, total, torch.__version__, torch.version.cuda, driver_version(), two == 2.0)


def driver_version() -> str:
    """The version of NVIDIA's driver; empty where ``nvidia-smi`` isn't there, or fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    asked = subprocess.run(
        [program, "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True
    )
    lines = asked.stdout.split() if asked.returncode == 0 else []
    return lines[0] if lines else ""


if __name__ == "__main__":
    try:
        print(find_card().to_json())
    except NoCardError as error:
        sys.exit(f"gpu-check: {error}")
